"""The hidden Markov model as Keras layers: emission and transition probabilities, estimated by counting.

Sources: Rabiner 1989 (Baum-Welch); Brants 2000 (suffixes for unknown words).
"""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from trellis.components.layers.linear_chain_head import LinearChainHead
from trellis.components.text.vectorizer import UNKNOWN
from trellis.components.types import JSON, Emissions, Shape, TagScores, Tensor, TokenIds, Transitions


class CountedTables(keras.layers.Layer):
    """A layer with tables of log-probabilities, and a table of counts of the same shape for each.

    Attributes:
        counts: the counts, summed over an E-step.
        smoothing: added to every count: a symmetric Dirichlet prior of concentration 1 + smoothing.
    """

    counts: tuple[Any, ...]
    smoothing: float

    def _add_table(self, name: str, rows: int, columns: int) -> tuple[Any, Any]:
        """Create a table and its counts."""

        def weight(suffix: str, initializer: Any) -> Any:
            # float32 whatever the policy: counts outgrow the precision of bfloat16.
            return self.add_weight(
                shape=(rows, columns),
                initializer=initializer,
                name=f"{name}{suffix}",
                trainable=False,
                dtype="float32",
                autocast=False,
            )

        return weight("", keras.initializers.RandomUniform(-1.0, 0.0)), weight("_counts", "zeros")

    def reset_counts(self) -> None:
        """Start an E-step."""
        for counts in self.counts:
            counts.assign(tf.zeros_like(counts))

    def maximize(self) -> None:
        """M-step: set the tables to the maximum-likelihood estimates given the counts."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("trellis")
class CategoricalEmissions(CountedTables):
    """Log-probability of each word given each tag.

    A known word has a probability of its own. An unknown word (rare words of the training part are unknown too) has the
    probability of being unknown, times that of its shape, times that of its ending: its longest known suffix.

    Args:
        words, attributes: sizes of the id spaces.
        units: number of tags.
        smoothing: added to every count.

    Input: word ids `(batch, time)`, and attribute ids `(batch, time, attributes)`: first the shape, then suffixes, the
    longest first. Output: nats `(batch, time, units)`.
    """

    def __init__(self, words: int, attributes: int, units: int, smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.words, self.attributes, self.units, self.smoothing = words, attributes, units, smoothing

    def build(self, *shapes: Shape) -> None:
        self.word_table, word_counts = self._add_table("words", self.words, self.units)
        self.shape_table, shape_counts = self._add_table("shapes", self.attributes, self.units)
        self.ending_table, ending_counts = self._add_table("endings", self.attributes, self.units)
        self.counts = word_counts, shape_counts, ending_counts
        self.tables = self.word_table, self.shape_table, self.ending_table
        self.built = True

    def call(self, words: TokenIds, attributes: Tensor) -> Emissions:
        shapes, endings = self._shapes_and_endings(attributes)
        unknown = ops.cast(ops.equal(words, UNKNOWN), "float32")[..., None]
        unknown_scores = ops.take(self.shape_table, shapes, axis=0) + ops.take(self.ending_table, endings, axis=0)
        return ops.take(self.word_table, words, axis=0) + unknown * unknown_scores

    @staticmethod
    def _shapes_and_endings(attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the id of each word's shape and of its longest known suffix, `(batch, time)` each."""
        endings = attributes[..., -1]
        for column in range(attributes.shape[-1] - 2, 0, -1):
            longer = attributes[..., column]
            endings = ops.where(longer != 0, longer, endings)
        return attributes[..., 0], endings

    def count(self, words: TokenIds, attributes: Tensor, posteriors: Tensor) -> None:
        """E-step: add posterior probabilities `(batch, time, units)`, 0 at padding."""
        shapes, endings = self._shapes_and_endings(attributes)
        unknown = tf.where(tf.equal(words, UNKNOWN)[..., tf.newaxis], posteriors, 0.0)
        events = ((words, posteriors), (shapes, unknown), (endings, unknown))
        for counts, (ids, values) in zip(self.counts, events, strict=True):
            values, ids = tf.reshape(values, [-1, self.units]), tf.reshape(ids, [-1])
            counts.assign_add(tf.math.unsorted_segment_sum(values, ids, counts.shape[0]))

    def maximize(self) -> None:
        for table, counts in zip(self.tables, self.counts, strict=True):
            smoothed = tf.convert_to_tensor(counts) + self.smoothing
            table.assign(_log_ratio(smoothed, tf.reduce_sum(smoothed, axis=0)))

    def compute_output_shape(self, words_shape: Shape, attributes_shape: Shape) -> Shape:
        return (*words_shape, self.units)

    def get_config(self) -> JSON:
        return {
            **super().get_config(),
            "words": self.words,
            "attributes": self.attributes,
            "units": self.units,
            "smoothing": self.smoothing,
        }


@keras.saving.register_keras_serializable("trellis")
class HMM(CountedTables, LinearChainHead):
    """Transition probabilities of a hidden Markov model, with the interface of `CRF`.

    Its emissions are log-probabilities of the words given the tags, so the log-partition is the log-likelihood of the
    words, and `negative_log_likelihood` that of the tags given the words.

    Args:
        smoothing: added to every count.
        constraints, tags, checks: as for every `LinearChainHead`.
    """

    def __init__(self, smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.smoothing = smoothing

    def build(self, emissions_shape: Shape) -> None:
        tags = self.number_of_tags(emissions_shape)
        # The last row is the start of a sequence, the last column its end.
        self.table, counts = self._add_table("transitions", tags + 1, tags + 1)
        self.counts = (counts,)
        self.built = True

    def scores(self, constrained: bool) -> tuple[Transitions, TagScores, TagScores]:
        table = ops.convert_to_tensor(self.table)
        chain = table[:-1, :-1], table[-1, :-1], table[:-1, -1]
        return self.with_constraints(chain) if constrained else chain

    def count(self, pairs: Tensor, first: TagScores, last: TagScores) -> None:
        """E-step: add expected transitions `(tags, tags)`, first and last tags `(tags,)`."""
        rows = tf.concat([pairs, last[:, tf.newaxis]], axis=1)
        begin = tf.concat([first, [0.0]], axis=0)[tf.newaxis]
        self.counts[0].assign_add(tf.concat([rows, begin], axis=0))

    def maximize(self) -> None:
        smoothed = (tf.convert_to_tensor(self.counts[0]) + self.smoothing).numpy()
        smoothed[-1, -1] = 0.0  # The start is never followed by the end.
        self.table.assign(_log_ratio(smoothed, tf.reduce_sum(smoothed, axis=1, keepdims=True)))

    def get_config(self) -> JSON:
        return {**super().get_config(), "smoothing": self.smoothing}


def _log_ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return log(part / whole), or the log of a tiny number where the part is 0."""
    return tf.math.log(tf.maximum(tf.math.divide_no_nan(part, whole), 1e-30))
