"""What is added to the scores of finished hypotheses: it follows them token by token, with states of its own."""

from typing import NamedTuple, Protocol

import tensorflow as tf

from trellis.components.types import Mask, States, Tensor, TokenIds

_SMALLEST = 1e-6  # lower bound of the attention to a source position, for its logarithm


class Penalty(Protocol):
    """Follows hypotheses. The rows of its states are sources at first, then several hypotheses of each source."""

    def first(self) -> States:
        """Return the states before the first token, `(batch, …)` each."""

    def after(self, tokens: TokenIds, attention: Tensor | None, states: States) -> States:
        """Return the states after one more token of each row.

        Args:
            tokens: `(rows,)`.
            attention: to each source position when the next token is chosen, `(rows, source)`.
            states: those before.
        """

    def of(self, states: States) -> Tensor:
        """Return what is added to the scores of hypotheses that end here, `(rows,)`, at most 0."""


def is_off(weight: float | Tensor) -> bool:
    """Return whether a weight is known to be 0 when a graph is traced."""
    return isinstance(weight, int | float) and not weight


class Coverage(NamedTuple):
    """`Σ log min(attention to a source position, 1)` (Wu et al. 2016): little where something was not attended to.

    Attributes:
        mask: of the sources, `(batch, source)`.
        weight: factor, a scalar.
    """

    mask: Mask
    weight: float | Tensor

    def first(self) -> States:
        return [tf.zeros(tf.shape(self.mask))]

    def after(self, tokens: TokenIds, attention: Tensor | None, states: States) -> States:
        del tokens
        return [states[0] + tf.cast(attention, tf.float32)]

    def of(self, states: States) -> Tensor:
        covered = tf.math.log(tf.clip_by_value(states[0], _SMALLEST, 1.0))
        # Rows of a beam share the mask of their source.
        mask = tf.repeat(self.mask, tf.shape(covered)[0] // tf.shape(self.mask)[0], axis=0)
        return tf.cast(self.weight, tf.float32) * tf.reduce_sum(tf.where(mask, covered, 0.0), axis=1)
