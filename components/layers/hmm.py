"""The hidden Markov model as Keras layers: emission and transition probabilities that are counted, not descended to.

Sources: Rabiner 1989 (Baum-Welch); Brants 2000 (suffixes for unknown words).
"""

import keras
import tensorflow as tf
from keras import ops

from trellis.components.layers.linear_chain_head import LinearChainHead
from trellis.components.text.vectorizer import UNKNOWN


class _Counted:
    """A layer with log-probability tables, and for each a table of counts of the same shape.

    `smoothing` is added to every count: a symmetric Dirichlet prior of concentration 1 + smoothing.
    """

    def _table(self, name, rows, columns):
        def weight(suffix, initializer):
            return self.add_weight(
                shape=(rows, columns), initializer=initializer, name=f"{name}{suffix}", trainable=False, dtype="float32"
            )

        return weight("", keras.initializers.RandomUniform(-1.0, 0.0)), weight("_counts", "zeros")

    def reset_counts(self):
        """Before an E-step."""
        for counts in self.counts:
            counts.assign(tf.zeros_like(counts))


@keras.saving.register_keras_serializable("trellis")
class CategoricalEmissions(_Counted, keras.layers.Layer):
    """Log-probability of each word given each tag.

    A known word has a probability of its own. An unknown one (rare words of the training part are such) has that of
    being unknown, times that of its shape, times that of its ending: the longest of its suffixes that is known.

    Args:
        words, attributes: sizes of the id spaces.
        units: number of tags.
        smoothing: added to every count.

    Input: word ids `(batch, time)`, and attribute ids `(batch, time, attributes)`: first the shape, then suffixes, the
    longest first. Output: `(batch, time, units)` nats.
    """

    def __init__(self, words, attributes, units, smoothing=0.0, **kwargs):
        super().__init__(**kwargs)
        self.words, self.attributes, self.units, self.smoothing = words, attributes, units, smoothing

    def build(self, *shapes):
        self.word_table, word_counts = self._table("words", self.words, self.units)
        self.shape_table, shape_counts = self._table("shapes", self.attributes, self.units)
        self.ending_table, ending_counts = self._table("endings", self.attributes, self.units)
        self.counts = word_counts, shape_counts, ending_counts
        self.tables = self.word_table, self.shape_table, self.ending_table
        self.built = True

    def call(self, words, attributes):
        shapes, endings = self._classes(attributes)
        unknown = ops.cast(ops.equal(words, UNKNOWN), "float32")[..., None]
        of_classes = ops.take(self.shape_table, shapes, axis=0) + ops.take(self.ending_table, endings, axis=0)
        return ops.take(self.word_table, words, axis=0) + unknown * of_classes

    @staticmethod
    def _classes(attributes):
        endings = attributes[..., -1]
        for column in range(attributes.shape[-1] - 2, 0, -1):
            longer = attributes[..., column]
            endings = ops.where(longer != 0, longer, endings)
        return attributes[..., 0], endings

    def count(self, words, attributes, posteriors):
        """E-step: adds posterior probabilities `(batch, time, units)`, 0 at padding."""
        shapes, endings = self._classes(attributes)
        of_unknown = tf.where(tf.equal(words, UNKNOWN)[..., tf.newaxis], posteriors, 0.0)
        seen = ((words, posteriors), (shapes, of_unknown), (endings, of_unknown))
        for counts, (ids, values) in zip(self.counts, seen, strict=True):
            values, ids = tf.reshape(values, [-1, self.units]), tf.reshape(ids, [-1])
            counts.assign_add(tf.math.unsorted_segment_sum(values, ids, counts.shape[0]))

    def maximize(self):
        """M-step: what makes the counted words most likely."""
        for table, counts in zip(self.tables, self.counts, strict=True):
            smoothed = tf.convert_to_tensor(counts) + self.smoothing
            table.assign(_log_ratio(smoothed, tf.reduce_sum(smoothed, axis=0)))

    def compute_output_shape(self, words_shape, attributes_shape):
        return (*words_shape, self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "words": self.words,
            "attributes": self.attributes,
            "units": self.units,
            "smoothing": self.smoothing,
        }


@keras.saving.register_keras_serializable("trellis")
class HMM(_Counted, LinearChainHead):
    """Transition probabilities of a hidden Markov model, with the interface of `CRF`.

    Its emissions are log-probabilities of the words given the tags, so `log_partition` is the log-likelihood of the
    words, and `negative_log_likelihood` that of the tags given the words.

    Args:
        smoothing: added to every count.
        constraints, tags, checks: as for every `LinearChainHead`.
    """

    def __init__(self, smoothing=0.0, **kwargs):
        super().__init__(**kwargs)
        self.smoothing = smoothing

    def build(self, emissions_shape):
        tags = self.number_of_tags(emissions_shape)
        # One more row, for what comes first, and one more column, for the end.
        self.table, counts = self._table("transitions", tags + 1, tags + 1)
        self.counts = (counts,)
        self.built = True

    def scores(self, constrained):
        table = ops.convert_to_tensor(self.table)
        chain = table[:-1, :-1], table[-1, :-1], table[:-1, -1]
        return self.with_constraints(chain) if constrained else chain

    def count(self, pairs, first, last):
        """E-step: adds expected transitions `(tags, tags)`, first and last tags `(tags,)`."""
        rows = tf.concat([pairs, last[:, tf.newaxis]], axis=1)
        begin = tf.concat([first, [0.0]], axis=0)[tf.newaxis]
        self.counts[0].assign_add(tf.concat([rows, begin], axis=0))

    def maximize(self):
        """M-step."""
        smoothed = (tf.convert_to_tensor(self.counts[0]) + self.smoothing).numpy()
        smoothed[-1, -1] = 0.0  # Nothing ends before it has begun.
        self.table.assign(_log_ratio(smoothed, tf.reduce_sum(smoothed, axis=1, keepdims=True)))

    def get_config(self):
        return {**super().get_config(), "smoothing": self.smoothing}


def _log_ratio(part, whole):
    """log(part / whole), a very small number where there is none of it."""
    return tf.math.log(tf.maximum(tf.math.divide_no_nan(part, whole), 1e-30))
