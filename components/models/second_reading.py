"""Reading a sentence again, knowing what the first reading found in the rest of its document.

Taggers see one sentence at a time. Here the lattice of the first reading gets further scores, which depend on the
posteriors of the same words elsewhere in the document (`trellis.components.text.document_evidence`). They are so few
that the dev part can teach them, where the first reading is as unsure as on new texts; on the training part it is
nearly always right. All heads have a lattice, so this works with every tagger.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from trellis.components.lattice import linear_chain, paths
from trellis.components.training.lbfgs import LBFGS
from trellis.components.types import Emissions, Lengths, TagIds, TagScores, Tensor, Transitions

STEPS = 80  # evaluations of the loss and its gradient
BATCHES = 8  # of sentences of similar length

# Relative strengths of the belief that evidence does not matter, and that transitions and scale stay as they are.
_EVIDENCE, _TRANSITIONS, _SCALE = 1.0, 10.0, 100.0


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

    @classmethod
    def fit(cls, batches: Sequence[tuple[Lattice, Tensor, TagIds]], prior: float = 1.0) -> Self:
        """Return the second reading under which gold tags are most probable; the loss is convex.

        Args:
            batches: lattices of the first reading, their evidence, and gold tags `(batch, time)`.
            prior: strength of the belief that a second reading changes nothing.
        """
        weights = [keras.Variable(value) for value in cls.unchanged(batches[0][0].unary.shape[-1])]
        scale, evidence, transitions = weights
        sentences = float(sum(len(lattice.lengths) for lattice, *_ in batches))
        optimizer = LBFGS(steps=len(batches))
        optimizer.build(weights)

        @tf.function(reduce_retracing=True, autograph=False)
        def step(lattice: Lattice, of_tokens: Tensor, gold: TagIds) -> None:
            with tf.GradientTape() as tape:
                second = cls(*(weight.value for weight in weights)).lattice(lattice, of_tokens)
                change = (
                    _SCALE * tf.square(scale.value - 1)
                    + _EVIDENCE * tf.reduce_sum(tf.square(evidence.value))
                    + _TRANSITIONS * tf.reduce_sum(tf.square(transitions.value))
                )
                loss = (len(batches) * tf.reduce_sum(second.losses(gold)) + prior * change) / sentences
            optimizer.apply(tape.gradient(loss, [weight.value for weight in weights]), weights)

        for _ in range(STEPS):
            for batch in batches:
                step(*batch)
        return cls(*(keras.ops.convert_to_numpy(weight) for weight in weights))
