"""Which word of its sentence generates a word: the part of a word alignment model that looks at positions alone.

Every class has one interface: `posteriors` and `statistics` for the E-step, `counts` to add these up, and `maximize`.
Each also may generate a word from NULL, with `null_probability`; None: as likely as each of the words.

Sources: Brown et al. 1993 (Models 1 and 2); Dyer, Chahuneau and Smith 2013 (the diagonal of fast_align); Vogel, Ney and
Tillmann 1996 and Och and Ney 2003 (HMM, and its NULL states).
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from trellis.components.lattice import linear_chain
from trellis.components.lattice.potentials import FORBIDDEN

# A probability that is none, and yet keeps the lattice in the range where it computes with probabilities.
UNREACHABLE = -28.0


class Posteriors(NamedTuple):
    """Posterior probabilities of links `(tokens, source)` and of NULL for each generated word; nats of the whole batch.

    The HMM knows how often it jumps how far on average as well.
    """

    cells: tf.Tensor
    null: tf.Tensor
    log_likelihood: tf.Tensor
    jumps: tf.Tensor | None = None


def add(counts, values):
    """Adds to counts, over all replicas; Keras's own `assign_add` would add up what was there before as well."""
    counts.value.assign_add(values)


def bincount(ids, size, weights):
    """Sums of weights by id, `(size,)`; ids and weights of one shape."""
    # tf.math.bincount first looks for the largest id.
    ids = tf.reshape(tf.convert_to_tensor(ids), [-1])
    return tf.raw_ops.DenseBincount(input=ids, size=size, weights=tf.reshape(weights, [-1]))


class Positions(keras.layers.Layer):
    """Base: every word is generated on its own.

    Attributes:
        counts: what the M-step needs, the sum of `statistics` over the corpus; None where nothing is learned.
    """

    counts = None

    def __init__(self, null_probability=None, **kwargs):
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.null_probability = null_probability

    def prior(self, grid):
        """Probability of each position, `(tokens, source)`, None where all are alike; and of NULL.

        Both may lack a factor that is the same for all choices of a word; the log of all words' factors comes third.
        """
        raise NotImplementedError

    def posteriors(self, grid, translation, null):
        """Posteriors of a `DirectedBatch`, of probabilities of words `(tokens, source)` and of words given NULL."""
        prior, prior_of_null, log_factors = self.prior(grid)
        joint = translation if prior is None else translation * prior
        null = null * prior_of_null
        total = tf.maximum(grid.sum_choices(joint) + null, 1e-37)
        likelihood = tf.reduce_sum(grid.real * tf.math.log(total)) + log_factors
        return Posteriors(joint * grid.broadcast_to_cells(1.0 / total), grid.real * null / total, likelihood)

    def reset_counts(self):
        """Before an E-step."""
        if self.counts is not None:
            self.counts.assign(tf.zeros_like(self.counts))

    def statistics(self, grid, posteriors):
        """What a batch adds to `counts`."""

    def maximize(self):
        """M-step."""

    def _table(self, name, *shape, initializer="zeros"):
        how = {"aggregation": "sum"} if "counts" in name else {}
        return self.add_weight(shape=shape, initializer=initializer, name=name, trainable=False, **how)

    def get_config(self):
        return {**super().get_config(), "null_probability": self.null_probability}


@keras.saving.register_keras_serializable("trellis")
class Uniform(Positions):
    """Model 1: every position alike."""

    def prior(self, grid):
        given, generated = (tf.cast(each, tf.float32) for each in grid.lengths())
        if self.null_probability is None:
            return None, 1.0, -tf.reduce_sum(generated * tf.math.log(given + 1.0))
        # NULL's share of each word, relative to that of one of the words of the other side.
        of_null = self.null_probability / (1.0 - self.null_probability) * grid.choices()
        log_weights = tf.math.log((1.0 - self.null_probability) / given)
        return None, of_null, tf.reduce_sum(generated * log_weights)


@keras.saving.register_keras_serializable("trellis")
class PositionTable(Positions):
    """Model 2: a probability for each position given the position of the generated word and both lengths.

    Args:
        sizes: `(source length, target length)` of the sentence pairs that there are, each once. Pairs of other lengths
            have every position alike.
        forward: the direction of its grids.
    """

    def __init__(self, sizes, forward, **kwargs):
        super().__init__(**kwargs)
        self.sizes, self.forward = [list(size) for size in sizes], forward
        cells = [source * target for source, target in self.sizes]
        self._starts = tf.constant([0, *_running_sums(cells)], tf.int32)
        self._keys = tf.constant([source * _MOST + target for source, target in self.sizes] or [0], tf.int64)
        self.table = self._table("table", sum(cells) + 1, initializer="ones")
        self.counts = self._table("position_counts", sum(cells) + 1)
        self._initialised = False
        self.built = True

    def _numbers(self, grid):
        """The number of each cell in the table, the last where the table has no such lengths."""
        key = tf.cast(grid.source_lengths, tf.int64) * _MOST + tf.cast(grid.target_lengths, tf.int64)
        row = tf.minimum(tf.searchsorted(self._keys, key), len(self._keys) - 1)
        known = tf.gather(tf.gather(self._keys, row) == key, grid.sentences)[:, tf.newaxis]
        start = tf.gather(tf.gather(self._starts, row), grid.sentences)
        width = tf.gather(grid.source_lengths, grid.sentences)
        columns = tf.range(tf.shape(grid.pairs)[1])
        numbers = (start + grid.row_positions * width)[:, tf.newaxis] + columns
        return tf.where(known & (columns < width[:, tf.newaxis]), numbers, self.table.shape[0] - 1)

    def prior(self, grid):
        weights = tf.gather(tf.convert_to_tensor(self.table), self._numbers(grid))
        weights = tf.where(grid.cell_mask(), weights, 0.0)
        if self.null_probability is None:
            null = 1.0 / (grid.choices() + 1.0)
        else:
            null = tf.fill(tf.shape(grid.choices()), self.null_probability)
        weights *= grid.broadcast_to_cells(tf.math.divide_no_nan(1.0 - null, grid.sum_choices(weights)))
        return weights, null, 0.0

    def statistics(self, grid, posteriors):
        return bincount(self._numbers(grid), self.counts.shape[0], posteriors.cells)

    def maximize(self):
        # Only ratios matter: `prior` makes the positions of each word sum to one.
        self.table.assign(tf.concat([tf.convert_to_tensor(self.counts)[:-1] + 1e-6, [1.0]], axis=0))

    def get_config(self):
        return {**super().get_config(), "sizes": self.sizes, "forward": self.forward}


_MOST = 1 << 31


def _running_sums(values):
    total, sums = 0, []
    for value in values:
        total += value
        sums.append(total)
    return sums


@keras.saving.register_keras_serializable("trellis")
class Diagonal(Positions):
    """fast_align: the nearer a position is to the diagonal of the grid, the likelier, exp(-tension * distance).

    The tension and the probability of NULL are learned.
    """

    def __init__(self, tension=4.0, null_probability=0.08, **kwargs):
        super().__init__(null_probability=null_probability, **kwargs)
        self.first_tension = tension
        self.tension = self._table("tension", initializer=keras.initializers.Constant(tension))
        self.null_weight = self._table("null_weight", initializer=keras.initializers.Constant(null_probability))
        # Distance under the posterior, its mean and square under the prior, words from NULL, words.
        self.counts = self._table("diagonal_counts", 5)
        self.built = True

    def _distance(self, grid):
        sources = tf.cast(tf.gather(grid.source_lengths, grid.sentences), tf.float32)[:, tf.newaxis]
        targets = tf.cast(tf.gather(grid.target_lengths, grid.sentences), tf.float32)[:, tf.newaxis]
        columns = tf.range(tf.shape(grid.pairs)[1], dtype=tf.float32)
        rows = tf.cast(grid.row_positions, tf.float32)[:, tf.newaxis]
        return tf.abs((columns + 1.0) / sources - (rows + 1.0) / targets)

    def _diagonal(self, grid):
        distance = self._distance(grid)
        weights = tf.where(grid.cell_mask(), tf.exp(-tf.convert_to_tensor(self.tension) * distance), 0.0)
        return weights * grid.broadcast_to_cells(tf.math.divide_no_nan(1.0, grid.sum_choices(weights))), distance

    def prior(self, grid):
        null = tf.convert_to_tensor(self.null_weight)
        return (1.0 - null) * self._diagonal(grid)[0], null, 0.0

    def statistics(self, grid, posteriors):
        prior, distance = self._diagonal(grid)
        aligned = grid.sum_choices(posteriors.cells)
        mean, square = grid.sum_choices(prior * distance), grid.sum_choices(prior * distance**2)
        totals = (posteriors.cells * distance, aligned * mean, aligned * (square - mean**2), posteriors.null, grid.real)
        return tf.stack([tf.reduce_sum(each) for each in totals])

    def maximize(self):
        seen, expected, variance, null, words = tf.unstack(tf.convert_to_tensor(self.counts))
        # A step of Newton's method: the log-likelihood is concave in the tension.
        step = (expected - seen) / tf.maximum(variance, 1e-6)
        self.tension.assign(tf.clip_by_value(tf.convert_to_tensor(self.tension) + step, 0.1, 20.0))
        self.null_weight.assign(tf.clip_by_value(null / tf.maximum(words, 1.0), 1e-3, 0.5))

    def get_config(self):
        return {**super().get_config(), "tension": self.first_tension}


@keras.saving.register_keras_serializable("trellis")
class Jumps(Positions):
    """The HMM: a position is as likely as the jump to it from the position of the word before.

    NULL has a state for each position, which remembers where to jump from.

    Args:
        widest: jumps of more words than this count as this one.
        smoothing: added to the count of every jump.
    """

    def __init__(self, null_probability=0.1, widest=100, smoothing=0.05, **kwargs):
        super().__init__(null_probability=null_probability, **kwargs)
        self.widest, self.smoothing = widest, smoothing
        jumps = tf.range(-widest, widest + 1, dtype=tf.float32)
        forward = tf.exp(-tf.abs(jumps - 1.0) / 2.0) + 1e-4

        def near_one(shape, dtype=None):
            return forward / tf.reduce_sum(forward)

        self.jumps = self._table("jumps", 2 * widest + 1, initializer=near_one)
        self.counts = self._table("jump_counts", 2 * widest + 1)
        self.built = True

    def _numbers(self, width):
        places = tf.range(width)
        return tf.clip_by_value(places[tf.newaxis, :] - places[:, tf.newaxis], -self.widest, self.widest) + self.widest

    def posteriors(self, grid, translation, null):
        dense = _Dense(grid)
        words, lengths = dense.cells(translation), dense.lengths
        width = tf.shape(words)[2]
        inside = tf.range(width) < dense.choices[:, tf.newaxis]
        weights = tf.gather(tf.convert_to_tensor(self.jumps), self._numbers(width))
        # NULL as one more jump, so that all jumps from a position that stay in the sentence sum to one with it.
        from_null = self.null_probability / (1.0 - self.null_probability)
        leaving = tf.matmul(tf.cast(inside, tf.float32), weights, transpose_b=True) + from_null
        moved = tf.range(tf.shape(words)[1])[tf.newaxis, :, tf.newaxis] < lengths[:, tf.newaxis, tf.newaxis] - 1
        leaving = tf.where(moved, tf.math.log(leaving)[:, tf.newaxis], 0.0)
        first = tf.range(tf.shape(words)[1])[:, tf.newaxis] == 0
        choices = tf.cast(dense.choices, tf.float32)[:, tf.newaxis, tf.newaxis]
        begin = tf.math.log(tf.stack([1.0 - self.null_probability, self.null_probability]))

        def states(log_words, begin):
            begin = tf.where(first, begin - tf.math.log(choices), 0.0)
            return tf.where(inside[:, tf.newaxis], log_words - leaving + begin, FORBIDDEN)

        of_null = tf.math.log(tf.maximum(dense.words(null), 1e-37))[:, :, tf.newaxis]
        emissions = tf.concat(
            [states(tf.math.log(tf.maximum(words, 1e-37)), begin[0]), states(of_null, begin[1])], axis=2
        )
        jump = tf.math.log(tf.maximum(weights, 1e-7))
        stay = tf.where(tf.eye(width, dtype=tf.bool), tf.math.log(from_null), UNREACHABLE)
        row = tf.concat([jump, stay], axis=1)
        nothing = tf.zeros([2 * width])
        tags, pairs, _, _, total = linear_chain.expected_counts(
            emissions, lengths, tf.concat([row, row], axis=0), nothing, nothing
        )
        jumped = pairs[:, :width]
        jumped = bincount(self._numbers(width), 2 * self.widest + 1, jumped[:width] + jumped[width:])
        cells, from_null = dense.flat(tags[:, :, :width]), dense.flat_words(tf.reduce_sum(tags[:, :, width:], axis=2))
        return Posteriors(cells, from_null, tf.reduce_sum(total), jumped)

    def statistics(self, grid, posteriors):
        return posteriors.jumps

    def maximize(self):
        smoothed = tf.convert_to_tensor(self.counts) + self.smoothing
        self.jumps.assign(smoothed / tf.reduce_sum(smoothed))

    def get_config(self):
        return {**super().get_config(), "widest": self.widest, "smoothing": self.smoothing}


class _Dense:
    """Cells as `(batch, generated words, choices)`."""

    def __init__(self, grid):
        self.grid = grid
        self.choices, self.lengths = grid.lengths()

    def cells(self, flat):
        return self.grid.by_sentence(flat) if self.grid.forward else self.grid.dense(flat)

    def words(self, values):
        return self.grid.by_sentence(values) if self.grid.forward else values

    def flat(self, dense):
        return self.grid.by_row(dense if self.grid.forward else tf.transpose(dense, [0, 2, 1]))

    def flat_words(self, dense):
        return self.grid.by_row(dense) if self.grid.forward else dense
