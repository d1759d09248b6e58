"""Reading a sentence again, knowing what the first reading found in the rest of its document.

Taggers see one sentence at a time. Here the lattice of the first reading gets further scores, which depend on the
posteriors of the same words elsewhere in the document (`trellis.components.text.document_evidence`). They are so few
that the dev part can teach them, where the first reading is as unsure as on new texts; on the training part it is
nearly always right. All heads have a lattice, so this works with every tagger.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np
import tensorflow as tf
from scipy.optimize import minimize

from trellis.components.lattice import linear_chain, paths
from trellis.components.types import Emissions, Lengths, TagIds, TagScores, Tensor, Transitions

STEPS = 80  # of the search for the optimum, at most

# Relative strengths of the belief that the scale stays as it is, that evidence does not matter, and that transitions
# stay as they are.
_STRENGTHS = 100.0, 1.0, 10.0


class Lattice(NamedTuple):
    """The lattices of sentences, boundaries and constraints included.

    Attributes:
        unary: `(batch, time, tags)`.
        pairwise: `(batch, time - 1, tags, tags)`.
        lengths: `(batch,)`.
    """

    unary: Emissions
    pairwise: Transitions
    lengths: Lengths

    def best(self) -> TagIds:
        """Return the tags of the best path, `(batch, time)`."""
        unary, pairwise, lengths = self
        return paths.viterbi(unary, lengths, pairwise, *self._no_boundaries, jit_compile=False)[0]

    def posteriors(self) -> Tensor:
        """Return the posterior probability of each tag, `(batch, time, tags)`."""
        unary, pairwise, lengths = self
        return linear_chain.marginals(unary, lengths, pairwise, *self._no_boundaries, jit_compile=False)

    def losses(self, tags: TagIds) -> Tensor:
        """Return the negative log-likelihood of tags in nats, `(batch,)`."""
        unary, pairwise, lengths = self
        total = linear_chain.log_partition(unary, lengths, pairwise, *self._no_boundaries, jit_compile=False)
        return total - linear_chain.path_score(unary, tags, lengths, pairwise, *self._no_boundaries)

    @property
    def _no_boundaries(self) -> tuple[TagScores, TagScores]:
        zeros = tf.zeros_like(self.unary[0, 0])
        return zeros, zeros


class SecondReading(NamedTuple):
    """What changes in the lattice of a sentence when it is read again.

    Attributes:
        scale: what the unary scores are multiplied with.
        evidence: the score of each tag for each number of the evidence, `(2 * tags + 1, tags)`.
        transitions: the score added to each pair of neighbouring tags, `(tags, tags)`.
    """

    scale: Tensor
    evidence: Tensor
    transitions: Tensor

    def lattice(self, first: Lattice, evidence: Tensor) -> Lattice:
        """Return the lattices of the second reading.

        Args:
            first: those of the first reading.
            evidence: see `document_evidence`, `(batch, time, 2 * tags + 1)`.
        """
        unary = first.unary * self.scale + tf.einsum("bti,ij->btj", evidence, self.evidence)
        return Lattice(unary, first.pairwise + self.transitions, first.lengths)

    @classmethod
    def unchanged(cls, tags: int) -> Self:
        """Return the second reading that finds what the first one found."""
        sizes = (), (2 * tags + 1, tags), (tags, tags)
        scale, evidence, transitions = (np.zeros(size, np.float32) for size in sizes)
        return cls(scale + 1, evidence, transitions)


class Fitter:
    """Finds the second reading under which gold tags are most probable; its graph is traced once for all fits.

    Args:
        tags: the number of tags.
    """

    def __init__(self, tags: int) -> None:
        self.unchanged = SecondReading.unchanged(tags)
        floats, integers = (
            functools.partial(tf.TensorSpec, dtype=tf.float32),
            functools.partial(tf.TensorSpec, dtype=tf.int32),
        )
        signature = [
            *(floats(weight.shape) for weight in self.unchanged),
            Lattice(floats([None, None, tags]), floats([None, None, tags, tags]), integers([None])),
            floats([None, None, 2 * tags + 1]),
            integers([None, None]),
        ]
        self._slope = tf.function(_loss_and_slope, input_signature=signature, autograph=False)

    def fit(self, batches: Sequence[tuple[Lattice, Tensor, TagIds]], prior: float = 1.0) -> SecondReading:
        """Return the optimum of a convex loss.

        Args:
            batches: lattices of the first reading, their evidence, and gold tags `(batch, time)`.
            prior: strength of the belief that a second reading changes nothing.
        """
        start = _flat(self.unchanged)
        strength = prior * _flat(
            np.full_like(weight, each) for weight, each in zip(self.unchanged, _STRENGTHS, strict=True)
        )
        sentences = float(sum(len(lattice.lengths) for lattice, *_ in batches))

        def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
            loss, slope = strength @ (point - start) ** 2, 2 * strength * (point - start)
            weights = self._weights(point)
            for batch in batches:
                of_batch, slope_of_batch = self._slope(*weights, *batch)
                loss, slope = loss + float(of_batch), slope + slope_of_batch.numpy()
            return loss / sentences, slope / sentences

        found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
        return self._weights(found.x)

    def _weights(self, point: np.ndarray) -> SecondReading:
        """Return what a point of the search space, a vector, stands for."""
        ends = np.cumsum([np.size(weight) for weight in self.unchanged])[:-1]
        parts = zip(np.split(point.astype(np.float32), ends), self.unchanged, strict=True)
        return SecondReading(*(part.reshape(np.shape(weight)) for part, weight in parts))


def _loss_and_slope(
    scale: Tensor, evidence: Tensor, transitions: Tensor, first: Lattice, of_tokens: Tensor, gold: TagIds
) -> tuple[Tensor, Tensor]:
    """Return the loss of a batch, and its gradient as one vector."""
    weights = SecondReading(scale, evidence, transitions)
    with tf.GradientTape() as tape:
        tape.watch(list(weights))
        loss = tf.reduce_sum(weights.lattice(first, of_tokens).losses(gold))
    slopes = tape.gradient(loss, list(weights))
    return loss, tf.concat([tf.reshape(slope, [-1]) for slope in slopes], axis=0)


def _flat(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64)
