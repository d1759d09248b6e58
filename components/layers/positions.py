"""Which word of the other sentence generates a word: the part of a word alignment model that looks at positions only.

Sources: Brown et al. 1993 (Models 1 and 2); Dyer, Chahuneau and Smith 2013 (the diagonal of fast_align); Vogel, Ney and
Tillmann 1996 and Och and Ney 2003 (HMM, and its NULL states).
"""

import abc
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trellis.components.alignment.directed_batch import DirectedBatch
from trellis.components.lattice import linear_chain
from trellis.components.lattice.potentials import FORBIDDEN
from trellis.components.types import JSON, Emissions, Tensor

# A log-probability of practically zero that keeps the lattice in the range where it computes with probabilities.
UNREACHABLE = -28.0


class Posteriors(NamedTuple):
    """Posterior probabilities of links.

    Attributes:
        cells: the posterior of each link, `(tokens, source)`.
        null: the posterior of NULL for each generated word.
        log_likelihood: nats of the whole batch.
        jumps: the HMM's expected number of jumps of each width, `(widths,)`.
    """

    cells: Tensor
    null: Tensor
    log_likelihood: Tensor
    jumps: Tensor | None = None


def add_to(counts: Any, values: Tensor) -> None:
    """Add values to the counts of a weight, over all replicas.

    Keras's own `assign_add` would also add the previous value once for each replica.
    """
    counts.value.assign_add(values)


def bincount(ids: Tensor, size: int, weights: Tensor) -> Tensor:
    """Sum weights by id, `(size,)`; ids and weights have the same shape."""
    # tf.math.bincount first looks for the largest id.
    ids = tf.reshape(tf.convert_to_tensor(ids), [-1])
    return tf.raw_ops.DenseBincount(input=ids, size=size, weights=tf.reshape(weights, [-1]))


class Positions(keras.layers.Layer, abc.ABC):
    """Base of the models of positions: `posteriors` and `statistics` for the E-step, `maximize` for the M-step.

    Args:
        null_probability: probability that NULL generates a word; None: NULL is as likely as each of the words.

    Attributes:
        counts: the sum of `statistics` over the corpus, which the M-step needs; None where nothing is learned.
    """

    counts: Any = None

    def __init__(self, null_probability: float | None = None, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.null_probability = null_probability

    @abc.abstractmethod
    def posteriors(self, batch: DirectedBatch, translation: Tensor, null: Tensor) -> Posteriors:
        """Return the posteriors of a batch.

        Args:
            translation: probability of each generated word given each word that may generate it, `(tokens, source)`.
            null: probability of each generated word given NULL, in the shape of its values.
        """

    def reset_counts(self) -> None:
        """Start an E-step."""
        if self.counts is not None:
            self.counts.assign(tf.zeros_like(self.counts))

    def statistics(self, batch: DirectedBatch, posteriors: Posteriors) -> Tensor | None:
        """Return what a batch adds to `counts`; None where nothing is learned."""
        return None

    def maximize(self) -> None:
        """M-step: update the weights from `counts`."""

    def _add_table(self, name: str, *shape: int, initializer: Any = "zeros", summed: bool = False) -> Any:
        """Create a weight; `summed` if each replica adds its own part."""
        options = {"aggregation": "sum"} if summed else {}
        return self.add_weight(shape=shape, initializer=initializer, name=name, trainable=False, **options)

    def get_config(self) -> JSON:
        return {**super().get_config(), "null_probability": self.null_probability}


class IndependentPositions(Positions):
    """Base of the models that generate each word independently of the other generated words."""

    @abc.abstractmethod
    def prior(self, batch: DirectedBatch) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return the probability of each position, `(tokens, source)`, None where all are alike; and that of NULL.

        Both may lack a factor that is the same for all choices of a word; the third value is the log of these factors,
        summed over all words.
        """

    def posteriors(self, batch: DirectedBatch, translation: Tensor, null: Tensor) -> Posteriors:
        prior, null_prior, log_factors = self.prior(batch)
        joint = translation if prior is None else translation * prior
        null = null * null_prior
        total = tf.maximum(batch.sum_choices(joint) + null, 1e-37)
        log_likelihood = tf.reduce_sum(batch.real * tf.math.log(total)) + log_factors
        return Posteriors(joint * batch.broadcast_to_cells(1.0 / total), batch.real * null / total, log_likelihood)


@keras.saving.register_keras_serializable("trellis")
class Uniform(IndependentPositions):
    """Model 1: all positions are equally likely."""

    def prior(self, batch: DirectedBatch) -> tuple[Tensor | None, Tensor, Tensor]:
        given, generated = (tf.cast(lengths, tf.float32) for lengths in batch.lengths())
        if self.null_probability is None:
            return None, 1.0, -tf.reduce_sum(generated * tf.math.log(given + 1.0))
        # NULL's share of each word, relative to that of one of the words of the other side.
        null = self.null_probability / (1.0 - self.null_probability) * batch.choices()
        log_weights = tf.math.log((1.0 - self.null_probability) / given)
        return None, null, tf.reduce_sum(generated * log_weights)


# Above all lengths, so that a pair of lengths makes one integer key.
_LENGTH_LIMIT = 1 << 31


@keras.saving.register_keras_serializable("trellis")
class PositionTable(IndependentPositions):
    """Model 2: a probability for each position given the position of the generated word and both lengths.

    Args:
        sizes: `(source length, target length)` of the sentence pairs that occur, each once. Pairs of other lengths have
            all positions equally likely.
        forward: the direction of its batches.
    """

    def __init__(self, sizes: Sequence[Sequence[int]], forward: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes, self.forward = [list(size) for size in sizes], forward
        cells = [source * target for source, target in self.sizes]
        self._starts = tf.constant([0, *itertools.accumulate(cells)], tf.int32)
        self._keys = tf.constant([source * _LENGTH_LIMIT + target for source, target in self.sizes] or [0], tf.int64)
        self.table = self._add_table("table", sum(cells) + 1, initializer="ones")
        self.counts = self._add_table("position_counts", sum(cells) + 1, summed=True)
        self.built = True

    def _cell_indices(self, batch: DirectedBatch) -> Tensor:
        """Return the index of each cell in the table, `(tokens, source)`; the last one for unknown lengths."""
        key = tf.cast(batch.source_lengths, tf.int64) * _LENGTH_LIMIT + tf.cast(batch.target_lengths, tf.int64)
        row = tf.minimum(tf.searchsorted(self._keys, key), len(self._keys) - 1)
        known = tf.gather(tf.gather(self._keys, row) == key, batch.sentences)[:, tf.newaxis]
        start = tf.gather(tf.gather(self._starts, row), batch.sentences)
        width = tf.gather(batch.source_lengths, batch.sentences)
        columns = tf.range(tf.shape(batch.pairs)[1])
        indices = (start + batch.row_positions * width)[:, tf.newaxis] + columns
        return tf.where(known & (columns < width[:, tf.newaxis]), indices, self.table.shape[0] - 1)

    def prior(self, batch: DirectedBatch) -> tuple[Tensor | None, Tensor, Tensor]:
        weights = tf.gather(tf.convert_to_tensor(self.table), self._cell_indices(batch))
        weights = tf.where(batch.cell_mask(), weights, 0.0)
        if self.null_probability is None:
            null = 1.0 / (batch.choices() + 1.0)
        else:
            null = tf.fill(tf.shape(batch.choices()), self.null_probability)
        weights *= batch.broadcast_to_cells(tf.math.divide_no_nan(1.0 - null, batch.sum_choices(weights)))
        return weights, null, 0.0

    def statistics(self, batch: DirectedBatch, posteriors: Posteriors) -> Tensor:
        return bincount(self._cell_indices(batch), self.counts.shape[0], posteriors.cells)

    def maximize(self) -> None:
        # Only ratios matter: `prior` makes the positions of each word sum to one.
        self.table.assign(tf.concat([tf.convert_to_tensor(self.counts)[:-1] + 1e-6, [1.0]], axis=0))

    def get_config(self) -> JSON:
        return {**super().get_config(), "sizes": self.sizes, "forward": self.forward}


@keras.saving.register_keras_serializable("trellis")
class Diagonal(IndependentPositions):
    """fast_align: the probability of a position falls with its distance from the diagonal, exp(-tension * distance).

    The tension and the probability of NULL are learned.

    Args:
        tension: initial value.
        null_probability: initial value.
    """

    def __init__(self, tension: float = 4.0, null_probability: float = 0.08, **kwargs: Any) -> None:
        super().__init__(null_probability=null_probability, **kwargs)
        self.first_tension = tension
        self.tension = self._add_table("tension", initializer=keras.initializers.Constant(tension))
        self.null_weight = self._add_table("null_weight", initializer=keras.initializers.Constant(null_probability))
        # Distance under the posterior, its mean and variance under the prior, words from NULL, words.
        self.counts = self._add_table("diagonal_counts", 5, summed=True)
        self.built = True

    def _distance(self, batch: DirectedBatch) -> Tensor:
        """Return the distance of each cell from the diagonal, `(tokens, source)`."""
        sources = tf.cast(tf.gather(batch.source_lengths, batch.sentences), tf.float32)[:, tf.newaxis]
        targets = tf.cast(tf.gather(batch.target_lengths, batch.sentences), tf.float32)[:, tf.newaxis]
        columns = tf.range(tf.shape(batch.pairs)[1], dtype=tf.float32)
        rows = tf.cast(batch.row_positions, tf.float32)[:, tf.newaxis]
        return tf.abs((columns + 1.0) / sources - (rows + 1.0) / targets)

    def _diagonal(self, batch: DirectedBatch) -> tuple[Tensor, Tensor]:
        """Return the probability of each position, NULL aside, and its distance."""
        distance = self._distance(batch)
        weights = tf.where(batch.cell_mask(), tf.exp(-tf.convert_to_tensor(self.tension) * distance), 0.0)
        normaliser = tf.math.divide_no_nan(1.0, batch.sum_choices(weights))
        return weights * batch.broadcast_to_cells(normaliser), distance

    def prior(self, batch: DirectedBatch) -> tuple[Tensor | None, Tensor, Tensor]:
        null = tf.convert_to_tensor(self.null_weight)
        return (1.0 - null) * self._diagonal(batch)[0], null, 0.0

    def statistics(self, batch: DirectedBatch, posteriors: Posteriors) -> Tensor:
        prior, distance = self._diagonal(batch)
        aligned = batch.sum_choices(posteriors.cells)
        mean, square = batch.sum_choices(prior * distance), batch.sum_choices(prior * distance**2)
        sums = (posteriors.cells * distance, aligned * mean, aligned * (square - mean**2), posteriors.null, batch.real)
        return tf.stack([tf.reduce_sum(values) for values in sums])

    def maximize(self) -> None:
        observed, expected, variance, null, words = tf.unstack(tf.convert_to_tensor(self.counts))
        # A step of Newton's method: the log-likelihood is concave in the tension.
        step = (expected - observed) / tf.maximum(variance, 1e-6)
        self.tension.assign(tf.clip_by_value(tf.convert_to_tensor(self.tension) + step, 0.1, 20.0))
        self.null_weight.assign(tf.clip_by_value(null / tf.maximum(words, 1.0), 1e-3, 0.5))

    def get_config(self) -> JSON:
        return {**super().get_config(), "tension": self.first_tension}


@keras.saving.register_keras_serializable("trellis")
class Jumps(Positions):
    """The HMM: the probability of a position depends on its distance from the position of the previous word.

    NULL has a state for each position, which remembers where to jump from.

    Args:
        null_probability: probability that NULL generates a word.
        widest: jumps over more words count as jumps over this many.
        smoothing: added to the count of every jump.
    """

    null_probability: float

    def __init__(
        self, null_probability: float = 0.1, widest: int = 100, smoothing: float = 0.05, **kwargs: Any
    ) -> None:
        super().__init__(null_probability=null_probability, **kwargs)
        self.widest, self.smoothing = widest, smoothing
        widths = tf.range(-widest, widest + 1, dtype=tf.float32)
        weights = tf.exp(-tf.abs(widths - 1.0) / 2.0) + 1e-4

        def near_one(shape: Any, dtype: Any = None) -> Tensor:
            return weights / tf.reduce_sum(weights)

        self.jumps = self._add_table("jumps", 2 * widest + 1, initializer=near_one)
        self.counts = self._add_table("jump_counts", 2 * widest + 1, summed=True)
        self.built = True

    def _jump_indices(self, width: Tensor) -> Tensor:
        """Return the index in the table of the jump from each position (row) to each other, `(width, width)`."""
        positions = tf.range(width)
        jumps = positions[tf.newaxis, :] - positions[:, tf.newaxis]
        return tf.clip_by_value(jumps, -self.widest, self.widest) + self.widest

    def posteriors(self, batch: DirectedBatch, translation: Tensor, null: Tensor) -> Posteriors:
        dense = _DenseView(batch)
        words, lengths = dense.cells(translation), dense.lengths
        width = tf.shape(words)[2]
        inside = tf.range(width) < dense.choices[:, tf.newaxis]
        weights = tf.gather(tf.convert_to_tensor(self.jumps), self._jump_indices(width))
        # NULL counts as one more jump, so that with it all jumps from a position within the sentence sum to one.
        to_null = self.null_probability / (1.0 - self.null_probability)
        leaving = tf.matmul(tf.cast(inside, tf.float32), weights, transpose_b=True) + to_null
        moves_on = tf.range(tf.shape(words)[1])[tf.newaxis, :, tf.newaxis] < lengths[:, tf.newaxis, tf.newaxis] - 1
        leaving = tf.where(moves_on, tf.math.log(leaving)[:, tf.newaxis], 0.0)
        first = tf.range(tf.shape(words)[1])[:, tf.newaxis] == 0
        choices = tf.cast(dense.choices, tf.float32)[:, tf.newaxis, tf.newaxis]
        begin = tf.math.log(tf.stack([1.0 - self.null_probability, self.null_probability]))

        def states(log_words: Tensor, begin: Tensor) -> Emissions:
            begin = tf.where(first, begin - tf.math.log(choices), 0.0)
            return tf.where(inside[:, tf.newaxis], log_words - leaving + begin, FORBIDDEN)

        null_words = tf.math.log(tf.maximum(dense.words(null), 1e-37))[:, :, tf.newaxis]
        emissions = tf.concat(
            [states(tf.math.log(tf.maximum(words, 1e-37)), begin[0]), states(null_words, begin[1])], axis=2
        )
        jump = tf.math.log(tf.maximum(weights, 1e-7))
        stay = tf.where(tf.eye(width, dtype=tf.bool), tf.math.log(to_null), UNREACHABLE)
        row = tf.concat([jump, stay], axis=1)
        zeros = tf.zeros([2 * width])
        tags, pairs, _, _, total = linear_chain.expected_counts(
            emissions, lengths, tf.concat([row, row], axis=0), zeros, zeros
        )
        jumped = pairs[:, :width]
        jumps = bincount(self._jump_indices(width), 2 * self.widest + 1, jumped[:width] + jumped[width:])
        cells, from_null = dense.flat(tags[:, :, :width]), dense.flat_words(tf.reduce_sum(tags[:, :, width:], axis=2))
        return Posteriors(cells, from_null, tf.reduce_sum(total), jumps)

    def statistics(self, batch: DirectedBatch, posteriors: Posteriors) -> Tensor | None:
        return posteriors.jumps

    def maximize(self) -> None:
        smoothed = tf.convert_to_tensor(self.counts) + self.smoothing
        self.jumps.assign(smoothed / tf.reduce_sum(smoothed))

    def get_config(self) -> JSON:
        return {**super().get_config(), "widest": self.widest, "smoothing": self.smoothing}


class _DenseView:
    """A batch as `(batch, generated words, choices)`.

    Attributes:
        choices: the number of generating words of each sentence pair, `(batch,)`.
        lengths: the number of generated words of each sentence pair, `(batch,)`.
    """

    def __init__(self, batch: DirectedBatch) -> None:
        self.batch = batch
        self.choices, self.lengths = batch.lengths()

    def cells(self, cells: Tensor) -> Tensor:
        """Arrange cells `(tokens, source)` as `(batch, generated words, choices)`."""
        return self.batch.by_sentence(cells) if self.batch.forward else self.batch.dense(cells)

    def words(self, values: Tensor) -> Tensor:
        """Arrange values of generated words as `(batch, generated words)`."""
        return self.batch.by_sentence(values) if self.batch.forward else values

    def flat(self, cells: Tensor) -> Tensor:
        """Invert `cells`."""
        return self.batch.by_row(cells if self.batch.forward else tf.transpose(cells, [0, 2, 1]))

    def flat_words(self, values: Tensor) -> Tensor:
        """Invert `words`."""
        return self.batch.by_row(values) if self.batch.forward else values
