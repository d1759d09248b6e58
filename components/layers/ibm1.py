"""Word translation probabilities learned by expectation-maximisation: IBM Model 1 (Brown et al. 1993).

The layer counts in the E-step and divides in the M-step; nothing is descended to. Its successors (Model 2, fast_align,
the HMM) have the same table and another idea of positions, see `components.layers.positions`.

Sources: Brown et al. 1993; Riley and Gildea 2012 (variational Bayes); MacKay and Peto 1995 (hierarchical back-off).
"""

import math
import os

import keras
import tensorflow as tf

from components.layers.positions import Uniform, add, bincount

# XLA reads a number by its id, and adds one, in a fifth of the time that TensorFlow's own operations take.
COMPILED = os.environ.get("TRELLIS_XLA") != "0"


class Grid:
    """A batch of a bitext as one direction sees it: which words are generated, and by which.

    Args:
        batch: of `components.text.co_occurrence.CoOccurrence`.
        sizes: numbers of pairs, source words and target words.
        forward: whether source words generate target words, or the other way round.

    Cells are `(tokens, source)` in both directions: a row for each target word of all sentences in turn. Values of the
    generated words are `(tokens,)` forward and `(batch, source)` in reverse.
    """

    def __init__(self, batch, sizes, forward=True):
        self.batch, self.sizes, self.forward = batch, sizes, forward
        self.pairs, self.sentences = batch["pairs"], batch["sentences"]
        self.source_lengths = tf.reduce_sum(tf.cast(batch["sources"] != sizes[1], tf.int32), axis=1)
        self.target_lengths = tf.math.segment_sum(tf.ones_like(self.sentences), self.sentences)
        starts = tf.cumsum(self.target_lengths, exclusive=True)
        self.places = tf.range(tf.size(self.sentences)) - tf.gather(starts, self.sentences)

    def turned(self):
        """The same batch in the other direction."""
        return Grid(self.batch, self.sizes, not self.forward)

    @property
    def words(self):
        """Ids of the generated words."""
        return self.batch["targets" if self.forward else "sources"]

    @property
    def real(self):
        """Which generated words are none of padding, as 1.0 and 0.0."""
        padding = self.sizes[2 if self.forward else 1]
        return tf.cast(self.words != padding, tf.float32)

    def choices(self):
        """How many words may have generated each word, in the shape of its values or broadcasting to it."""
        if self.forward:
            return tf.cast(tf.gather(self.source_lengths, self.sentences), tf.float32)
        return tf.cast(self.target_lengths, tf.float32)[:, tf.newaxis]

    def summed(self, cells):
        """Sum over the words that may have generated each word."""
        return tf.reduce_sum(cells, axis=1) if self.forward else tf.math.segment_sum(cells, self.sentences)

    def dense(self, cells):
        """Cells as `(batch, source, target)`, 0 at padding."""
        places = tf.stack([self.sentences, self.places], axis=1)
        shape = [tf.shape(self.source_lengths)[0], tf.reduce_max(self.target_lengths), tf.shape(cells)[1]]
        return tf.transpose(tf.scatter_nd(places, cells, shape), [0, 2, 1])

    def spread(self, values):
        """Values of generated words, beside every cell of theirs."""
        return values[:, tf.newaxis] if self.forward else tf.gather(values, self.sentences)


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
        # Of pairs, then of words given NULL. A place more at the end of each for padding: no translation has it, and
        # NULL generates it for sure.
        self.table, self.counts = (self._variable(name, pairs + words + 2) for name in ("table", "counts"))
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
            words, levels: `Level`s of `CoOccurrence`, the latter from coarse to fine.
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
        self.counts.assign(tf.concat([self.table[:-1], [0.0]], axis=0))

    @property
    def translations(self):
        """Probability of the generated word of each pair given the other one, `(pairs,)`."""
        return self._parts(self.table)[0]

    @property
    def from_null(self):
        """Probability of each generated word given NULL, `(words,)`."""
        return self._parts(self.table)[1]

    @property
    def pair_counts(self):
        """Expected number of links of each pair, `(pairs,)`."""
        return self._parts(self.counts)[0]

    def _parts(self, values):
        values = tf.convert_to_tensor(values)
        return values[: self.pairs], values[self.pairs + 1 : -1]

    def _set_table(self, of_pairs, of_null):
        self.table.assign(tf.concat([of_pairs, [0.0], of_null, [1.0]], axis=0))

    def _ids(self, grid):
        """Places in the table of all cells of a grid, then of its words given NULL; filled up with padding.

        Each number of them is compiled, so there are only multiples of 4,096 and, of many, of an eighth.
        """
        words = tf.reshape(grid.words, [-1]) + (self.pairs + 1)
        count = tf.size(grid.pairs) + tf.size(words)
        doublings = tf.math.log(tf.cast(count, tf.float32)) / math.log(2)
        step = tf.bitwise.left_shift(1, tf.maximum(tf.cast(doublings, tf.int32) - 3, 12))
        return tf.concat([tf.reshape(grid.pairs, [-1]), words, tf.fill([-count % step], self.pairs)], axis=0)

    def posteriors(self, grid, positions=None):
        """Posterior probability of every link: `Posteriors` of `components.layers.positions`."""
        values = _lookup(self.table, self._ids(grid))
        cells, words = tf.size(grid.pairs), tf.size(grid.words)
        translation = tf.reshape(values[:cells], tf.shape(grid.pairs))
        null = tf.reshape(values[cells : cells + words], tf.shape(grid.words))
        return (positions or Uniform()).posteriors(grid, translation, null)

    def reset_counts(self):
        """Before an E-step."""
        self.counts.assign(tf.zeros_like(self.counts))

    def count(self, grid, cells, null):
        """E-step: adds posterior probabilities of cells and of NULL."""
        ids = self._ids(grid)
        filling = tf.zeros([tf.size(ids) - tf.size(cells) - tf.size(null)])
        values = tf.concat([tf.reshape(cells, [-1]), tf.reshape(null, [-1]), filling], axis=0)
        add(self.counts, _counted(ids, self.counts.shape[0], values))

    def maximize(self):
        """M-step: the most likely tables given what was counted (with back-off or a prior, the smoothed ones)."""
        counts, null = self._parts(self.counts)
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
