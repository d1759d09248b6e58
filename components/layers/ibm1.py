"""Word translation probabilities learned by expectation-maximisation: IBM Model 1 (Brown et al. 1993).

The layer counts in the E-step and divides in the M-step; nothing is descended to. Its successors (Model 2, fast_align,
the HMM) have the same table and another idea of positions, see `trellis.components.layers.positions`.

Sources: Brown et al. 1993; Riley and Gildea 2012 (variational Bayes); MacKay and Peto 1995 (hierarchical back-off).
"""

import math
import os

import keras
import tensorflow as tf

from trellis.components.layers.positions import Uniform, add, bincount

# XLA reads a number by its id, and adds one, in a fifth of the time that TensorFlow's own operations take.
COMPILED = os.environ.get("TRELLIS_XLA") != "0"


@keras.saving.register_keras_serializable("trellis")
class IBM1(keras.layers.Layer):
    """Probability of each generated word given the word that generates it, for the pairs that co-occur alone.

    Args:
        pairs: number of pairs of words that co-occur.
        given, words: sizes of the vocabularies that generate and that are generated; NULL generates as well.
        levels: for each level of back-off, from coarse to fine, the number of its pairs and of its generating classes.
        strength: of the back-off: as many counts as the next coarser level is worth. 0: none, plain maximum likelihood.
        concentration: of a Dirichlet prior on each word's translations, by variational Bayes; 0: none.

    With back-off the probability of a word is that of its class, smoothed with the one of its coarser class and so on,
    down to how frequent the word is; it is worth `strength` counts, so that what is rare is decided by what it looks
    like.
    """

    def __init__(self, pairs, given, words, levels=(), strength=0.0, concentration=0.0, **kwargs):
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.pairs, self.given, self.words = pairs, given, words
        self.levels = [list(level) for level in levels]
        self.strength, self.concentration = strength, concentration
        if strength < 0 or concentration < 0:
            raise ValueError("strength and concentration must be at least 0")
        if strength and concentration:
            raise ValueError("back-off (strength) and a Dirichlet prior (concentration) exclude each other")
        # A place more at the end of each is for padding: no translation has it, and NULL generates it for sure.
        self.table, self.counts = (self._variable(name, pairs + 1) for name in ("table", "counts"))
        self.null_table, self.null_counts = (self._variable(f"null_{name}", words + 1) for name in ("table", "counts"))
        self.given_of = self._variable("given_of", pairs, "int32")
        self.frequency = self._variable("frequency", words)
        self.unigram = self._variable("unigram", pairs if strength else 0)
        self.classes = [
            {
                "pair": self._variable(f"level{number}_pair", pairs, "int32"),
                "given": self._variable(f"level{number}_given", count, "int32"),
                "share": self._variable(f"level{number}_share", pairs),
            }
            for number, (count, _) in enumerate(self.levels)
        ]
        self.built = True

    def _variable(self, name, size, dtype="float32"):
        # What replicas count is added up.
        how = {"aggregation": "sum"} if "counts" in name else {}
        return self.add_weight(shape=(size,), initializer="zeros", dtype=dtype, name=name, trainable=False, **how)

    def adapt(self, words, levels=(), forward=True):
        """Takes over which words meet, and starts with every translation as likely as any other.

        Args:
            words, levels: `ClassPairs`s of `CoOccurrence`, the latter from coarse to fine.
            forward: whether source words generate target words.
        """
        side, other = ("source", "target") if forward else ("target", "source")
        self.given_of.assign(getattr(words, side))
        frequency = getattr(words, f"{other}_count") / getattr(words, f"{other}_count").sum()
        self.frequency.assign(frequency)
        if self.strength:
            generated = getattr(words, other)
            self.unigram.assign(frequency[generated])
            for weights, level in zip(self.classes, levels, strict=True):
                weights["pair"].assign(level.pair)
                weights["given"].assign(getattr(level, side))
                of_class = getattr(level, f"{other}_count")[getattr(level, f"{other}_class")]
                weights["share"].assign((getattr(words, f"{other}_count") / of_class)[generated])
        self._set_table(*(tf.fill([size], 1.0 / self.words) for size in (self.pairs, self.words)))
        # For stepwise EM, where a word may come late: until then it keeps what it begins with.
        self.counts.assign(self.table)
        self.null_counts.assign(tf.concat([self.from_null, [0.0]], axis=0))

    @property
    def translations(self):
        """Probability of the generated word of each pair given the other one, `(pairs,)`."""
        return tf.convert_to_tensor(self.table)[:-1]

    @property
    def from_null(self):
        """Probability of each generated word given NULL, `(words,)`."""
        return tf.convert_to_tensor(self.null_table)[:-1]

    @property
    def pair_counts(self):
        """Expected number of links of each pair, `(pairs,)`."""
        return tf.convert_to_tensor(self.counts)[:-1]

    def _set_table(self, of_pairs, of_null):
        self.table.assign(tf.concat([of_pairs, [0.0]], axis=0))
        self.null_table.assign(tf.concat([of_null, [1.0]], axis=0))

    def _null_ids(self, grid):
        """Places in NULL's table of all words of a grid, filled up with padding.

        Each number of them is compiled, so there are only multiples of 4,096 and, of many, of an eighth.
        """
        count = tf.size(grid.words)
        doublings = tf.math.log(tf.cast(count, tf.float32)) / math.log(2)
        step = tf.bitwise.left_shift(1, tf.maximum(tf.cast(doublings, tf.int32) - 3, 12))
        return tf.concat([tf.reshape(grid.words, [-1]), tf.fill([-count % step], self.words)], axis=0)

    def posteriors(self, grid, positions=None):
        """Posterior probability of every link: `Posteriors` of `trellis.components.layers.positions`."""
        translation = _lookup(self.table, tf.reshape(grid.pairs, [-1]))
        null = _lookup(self.null_table, self._null_ids(grid))[: tf.size(grid.words)]
        translation, null = (
            tf.reshape(values, tf.shape(ids)) for values, ids in ((translation, grid.pairs), (null, grid.words))
        )
        return (positions or Uniform()).posteriors(grid, translation, null)

    def reset_counts(self):
        """Before an E-step."""
        for counts in (self.counts, self.null_counts):
            counts.assign(tf.zeros_like(counts))

    def count(self, grid, cells, null):
        """E-step: adds posterior probabilities of cells and of NULL."""
        add(self.counts, _counted(tf.reshape(grid.pairs, [-1]), self.pairs + 1, tf.reshape(cells, [-1])))
        ids = self._null_ids(grid)
        null = tf.concat([tf.reshape(null, [-1]), tf.zeros([tf.size(ids) - tf.size(null)])], axis=0)
        add(self.null_counts, _counted(ids, self.words + 1, null))

    def maximize(self):
        """M-step: the most likely tables given what was counted (with back-off or a prior, the smoothed ones)."""
        counts, null = self.pair_counts, tf.convert_to_tensor(self.null_counts)[:-1]
        totals = _lookup(_counted(self.given_of, self.given, counts), self.given_of)
        if self.concentration:
            kinds = _lookup(_counted(self.given_of, self.given, tf.ones_like(counts)), self.given_of)
            table = _expected_log(counts, totals, kinds, self.concentration)
            null = _expected_log(null, tf.reduce_sum(null), float(self.words), self.concentration)
        elif self.strength:
            levels = [(*self.level_counts(number), each["share"]) for number, each in enumerate(self.classes)]
            seen = [
                (tf.gather(of_pairs, each["pair"]), tf.gather(of_given, tf.gather(each["given"], each["pair"])), share)
                for (of_pairs, of_given, share), each in zip(levels, self.classes, strict=True)
            ]
            seen.append((counts, totals, 1.0))
            table = backed_off(tf.convert_to_tensor(self.unigram), seen, self.strength)
            null = (null + self.strength * self.frequency) / (tf.reduce_sum(null) + self.strength)
        else:
            table = tf.math.divide_no_nan(counts, totals)
            null = tf.math.divide_no_nan(null, tf.reduce_sum(null))
        self._set_table(table, null)

    def level_counts(self, number):
        """Counts of the pairs of classes of a level, and of its generating classes."""
        each, (pairs, given) = self.classes[number], self.levels[number]
        of_pairs = bincount(each["pair"], pairs, self.pair_counts)
        return of_pairs, bincount(each["given"], given, of_pairs)

    def get_config(self):
        return {
            **super().get_config(),
            "pairs": self.pairs,
            "given": self.given,
            "words": self.words,
            "levels": self.levels,
            "strength": self.strength,
            "concentration": self.concentration,
        }


def backed_off(probability, levels, strength):
    """Probability of words given words, smoothed level by level.

    Args:
        probability: of each generated word whatever generates it.
        levels: from coarse to fine, the counts of the pair of classes, the count of the generating class, and how much
            of its class the generated word is.
        strength: counts that the coarser level is worth.
    """
    for pair, given, share in levels:
        probability = (pair + strength * probability / share) / (given + strength) * share
    return probability


def _lookup(table, ids):
    """Values by id, `(ids,)`."""
    return (_compiled_lookup if COMPILED else tf.gather)(tf.convert_to_tensor(table), tf.convert_to_tensor(ids))


def _counted(ids, size, values):
    """Sums of values by id, `(size,)`; ids and values `(ids,)`."""
    return (_compiled_count if COMPILED else bincount)(tf.convert_to_tensor(ids), size, values)


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def _compiled_lookup(table, ids):
    return tf.gather(table, ids)


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def _compiled_count(ids, size, values):
    return tf.math.unsorted_segment_sum(values, ids, size)


def _expected_log(counts, totals, kinds, concentration):
    """exp of the expected log-probability under the Dirichlet posterior."""
    return tf.exp(tf.math.digamma(counts + concentration) - tf.math.digamma(totals + concentration * kinds))
