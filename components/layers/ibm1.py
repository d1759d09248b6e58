"""Word translation probabilities learned by expectation-maximisation: IBM Model 1 (Brown et al. 1993).

The layer counts in the E-step and divides in the M-step; there is no gradient. The later models (Model 2, fast_align,
the HMM) share this table and differ in their model of positions; see `trellis.components.layers.positions`.

Sources: Brown et al. 1993; Riley and Gildea 2012 (variational Bayes); MacKay and Peto 1995 (hierarchical back-off).
"""

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from trellis.components.alignment.co_occurrence import ClassPairs
from trellis.components.alignment.directed_batch import DirectedBatch
from trellis.components.layers.positions import Positions, Posteriors, Uniform, add_to, bincount
from trellis.components.types import JSON, Tensor

# XLA looks values up by id, and adds to them, in a fifth of the time of TensorFlow's own operations.
COMPILED = os.environ.get("TRELLIS_XLA") != "0"


class BackoffLevel(NamedTuple):
    """Counts of one level of back-off, one entry for each generated word.

    Attributes:
        pair: count of the pair of classes of the generating and the generated word.
        given: count of the class of the generating word.
        share: the generated word's share of its class.
    """

    pair: Tensor
    given: Tensor
    share: Tensor


class _LevelWeights(NamedTuple):
    """The weights that store a level of back-off.

    Attributes:
        pair: index of the pair of classes of each pair of words, `(pairs,)`.
        given: index of the generating class of each pair of classes, `(class pairs,)`.
        share: the generated word's share of its class, `(pairs,)`.
    """

    pair: Any
    given: Any
    share: Any


class _Side(NamedTuple):
    """One side of `ClassPairs`: the class of each word and of each pair, and how often each class occurs."""

    class_of_word: np.ndarray
    class_of_pair: np.ndarray
    occurrences: np.ndarray


def _sides(pairs: ClassPairs, forward: bool) -> tuple[_Side, _Side]:
    """Return the generating and the generated side."""
    source = _Side(pairs.source_class, pairs.source, pairs.source_count)
    target = _Side(pairs.target_class, pairs.target, pairs.target_count)
    return (source, target) if forward else (target, source)


@keras.saving.register_keras_serializable("trellis")
class IBM1(keras.layers.Layer):
    """Probability of each generated word given the word that generates it, for co-occurring pairs only.

    With back-off, the probability of a word is that of its class, smoothed with that of its coarser class and so on,
    down to the word's frequency; each coarser level is worth `strength` counts, so that the translations of rare words
    depend on what the words look like.

    Args:
        pairs: number of pairs of words that co-occur.
        given, words: sizes of the vocabularies that generate and that are generated; NULL generates too.
        levels: the number of class pairs and of generating classes of each level of back-off, from coarse to fine.
        strength: of the back-off: how many counts the next coarser level is worth. 0 for plain maximum likelihood.
        concentration: of a Dirichlet prior on each word's translations, by variational Bayes; 0 for none.
    """

    def __init__(
        self,
        pairs: int,
        given: int,
        words: int,
        levels: Iterable[Sequence[int]] = (),
        strength: float = 0.0,
        concentration: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.pairs, self.given, self.words = pairs, given, words
        self.levels = [list(level) for level in levels]
        self.strength, self.concentration = strength, concentration
        if strength < 0 or concentration < 0:
            raise ValueError("strength and concentration must be at least 0")
        if strength and concentration:
            raise ValueError("back-off (strength) and a Dirichlet prior (concentration) exclude each other")
        # The last entry of each is for padding, which has no translation and which NULL generates with certainty.
        self.table, self.counts = self._add_table("table", pairs + 1), self._add_counts("counts", pairs + 1)
        self.null_table = self._add_table("null_table", words + 1)
        self.null_counts = self._add_counts("null_counts", words + 1)
        self.given_of = self._add_table("given_of", pairs, "int32")
        self.frequency = self._add_table("frequency", words)
        self.unigram = self._add_table("unigram", pairs if strength else 0)
        self.classes = [
            _LevelWeights(
                self._add_table(f"level{index}_pair", pairs, "int32"),
                self._add_table(f"level{index}_given", class_pairs, "int32"),
                self._add_table(f"level{index}_share", pairs),
            )
            for index, (class_pairs, _) in enumerate(self.levels)
        ]
        self.built = True

    def _add_table(self, name: str, size: int, dtype: str = "float32", **options: Any) -> Any:
        return self.add_weight(shape=(size,), initializer="zeros", dtype=dtype, name=name, trainable=False, **options)

    def _add_counts(self, name: str, size: int) -> Any:
        # Replicas sum their counts.
        return self._add_table(name, size, aggregation="sum")

    def adapt(self, words: ClassPairs, levels: Iterable[ClassPairs] = (), forward: bool = True) -> None:
        """Store which words co-occur, and make all translations equally likely.

        Args:
            words: the pairs of words.
            levels: the class pairs of each level of back-off, from coarse to fine.
            forward: True if source words generate target words.
        """
        given, generated = _sides(words, forward)
        self.given_of.assign(given.class_of_pair)
        frequency = generated.occurrences / generated.occurrences.sum()
        self.frequency.assign(frequency)
        if self.strength:
            word_of_pair = generated.class_of_pair
            self.unigram.assign(frequency[word_of_pair])
            for weights, level in zip(self.classes, levels, strict=True):
                given_classes, generated_classes = _sides(level, forward)
                weights.pair.assign(level.pair)
                weights.given.assign(given_classes.class_of_pair)
                class_count = generated_classes.occurrences[generated_classes.class_of_word]
                weights.share.assign((generated.occurrences / class_count)[word_of_pair])
        self._set_tables(*(tf.fill([size], 1.0 / self.words) for size in (self.pairs, self.words)))
        # For stepwise EM, where a word may not occur for many batches: until then it keeps its initial values.
        self.counts.assign(self.table)
        self.null_counts.assign(tf.concat([self.from_null, [0.0]], axis=0))

    @property
    def translations(self) -> Tensor:
        """Probability of the generated word of each pair given the other one, `(pairs,)`."""
        return tf.convert_to_tensor(self.table)[:-1]

    @property
    def from_null(self) -> Tensor:
        """Probability of each generated word given NULL, `(words,)`."""
        return tf.convert_to_tensor(self.null_table)[:-1]

    @property
    def pair_counts(self) -> Tensor:
        """Expected number of links of each pair, `(pairs,)`."""
        return tf.convert_to_tensor(self.counts)[:-1]

    def _set_tables(self, pairs: Tensor, null: Tensor) -> None:
        self.table.assign(tf.concat([pairs, [0.0]], axis=0))
        self.null_table.assign(tf.concat([null, [1.0]], axis=0))

    def _null_ids(self, batch: DirectedBatch) -> Tensor:
        """Return the ids of all words of a batch, filled up with padding.

        XLA compiles each size, so sizes are multiples of 4,096, and large ones of an eighth of a power of two.
        """
        count = tf.size(batch.words)
        doublings = tf.math.log(tf.cast(count, tf.float32)) / math.log(2)
        step = tf.bitwise.left_shift(1, tf.maximum(tf.cast(doublings, tf.int32) - 3, 12))
        return tf.concat([tf.reshape(batch.words, [-1]), tf.fill([-count % step], self.words)], axis=0)

    def posteriors(self, batch: DirectedBatch, positions: Positions | None = None) -> Posteriors:
        """Return the posterior probability of every link; by default with uniform positions."""
        translation = _lookup(self.table, tf.reshape(batch.pairs, [-1]))
        null = _lookup(self.null_table, self._null_ids(batch))[: tf.size(batch.words)]
        translation, null = (
            tf.reshape(values, tf.shape(ids)) for values, ids in ((translation, batch.pairs), (null, batch.words))
        )
        return (positions or Uniform()).posteriors(batch, translation, null)

    def reset_counts(self) -> None:
        """Start an E-step."""
        for counts in (self.counts, self.null_counts):
            counts.assign(tf.zeros_like(counts))

    def count(self, batch: DirectedBatch, cells: Tensor, null: Tensor) -> None:
        """E-step: add posterior probabilities of cells and of NULL."""
        add_to(self.counts, _count(tf.reshape(batch.pairs, [-1]), self.pairs + 1, tf.reshape(cells, [-1])))
        ids = self._null_ids(batch)
        null = tf.concat([tf.reshape(null, [-1]), tf.zeros([tf.size(ids) - tf.size(null)])], axis=0)
        add_to(self.null_counts, _count(ids, self.words + 1, null))

    def maximize(self) -> None:
        """M-step: set the tables to the most likely ones given the counts, smoothed by the back-off or the prior."""
        counts, null = self.pair_counts, tf.convert_to_tensor(self.null_counts)[:-1]
        totals = _lookup(_count(self.given_of, self.given, counts), self.given_of)
        if self.concentration:
            kinds = _lookup(_count(self.given_of, self.given, tf.ones_like(counts)), self.given_of)
            table = _expected_log(counts, totals, kinds, self.concentration)
            null = _expected_log(null, tf.reduce_sum(null), float(self.words), self.concentration)
        elif self.strength:
            backoff = [self._backoff_level(index) for index in range(len(self.classes))]
            backoff.append(BackoffLevel(counts, totals, 1.0))
            table = backed_off(tf.convert_to_tensor(self.unigram), backoff, self.strength)
            null = (null + self.strength * self.frequency) / (tf.reduce_sum(null) + self.strength)
        else:
            table = tf.math.divide_no_nan(counts, totals)
            null = tf.math.divide_no_nan(null, tf.reduce_sum(null))
        self._set_tables(table, null)

    def _backoff_level(self, index: int) -> BackoffLevel:
        """Return the counts of a level for each pair of words."""
        weights, (pairs, given) = self.classes[index], self.level_counts(index)
        return BackoffLevel(
            tf.gather(pairs, weights.pair), tf.gather(given, tf.gather(weights.given, weights.pair)), weights.share
        )

    def level_counts(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the counts of the class pairs of a level, and of its generating classes."""
        weights, (pairs, given) = self.classes[index], self.levels[index]
        pair_counts = bincount(weights.pair, pairs, self.pair_counts)
        return pair_counts, bincount(weights.given, given, pair_counts)

    def get_config(self) -> JSON:
        return {
            **super().get_config(),
            "pairs": self.pairs,
            "given": self.given,
            "words": self.words,
            "levels": self.levels,
            "strength": self.strength,
            "concentration": self.concentration,
        }


def backed_off(probability: Tensor, levels: Iterable[tuple[Tensor, Tensor, Tensor]], strength: float) -> Tensor:
    """Return the probability of words given words, smoothed level by level.

    Args:
        probability: of each generated word, whatever generates it.
        levels: the fields of a `BackoffLevel` for each level, from coarse to fine.
        strength: how many counts the coarser level is worth.
    """
    for pair, given, share in levels:
        probability = (pair + strength * probability / share) / (given + strength) * share
    return probability


def _lookup(table: Any, ids: Any) -> Tensor:
    """Return the values of ids `(ids,)`."""
    return (_compiled_lookup if COMPILED else tf.gather)(tf.convert_to_tensor(table), tf.convert_to_tensor(ids))


def _count(ids: Any, size: int, values: Tensor) -> Tensor:
    """Sum values by id, `(size,)`; ids and values `(ids,)`."""
    return (_compiled_count if COMPILED else bincount)(tf.convert_to_tensor(ids), size, values)


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def _compiled_lookup(table: Tensor, ids: Tensor) -> Tensor:
    return tf.gather(table, ids)


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def _compiled_count(ids: Tensor, size: int, values: Tensor) -> Tensor:
    return tf.math.unsorted_segment_sum(values, ids, size)


def _expected_log(counts: Tensor, totals: Tensor, kinds: Tensor | float, concentration: float) -> Tensor:
    """Return exp of the expected log-probability under the Dirichlet posterior."""
    return tf.exp(tf.math.digamma(counts + concentration) - tf.math.digamma(totals + concentration * kinds))
