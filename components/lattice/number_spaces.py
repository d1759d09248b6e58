"""The two number spaces in which messages are computed: probabilities, which are fast, and logs, which never underflow.

Each is a semiring with division, so that one recursion serves both. `docs/explanation/lattice.md` derives when
probabilities are exact enough.
"""

import abc
import functools
from collections.abc import Callable

from keras import ops

from trellis.components.lattice.operations import logsumexp
from trellis.components.lattice.potentials import FORBIDDEN
from trellis.components.types import Tensor, TensorTree

# A float32 below exp(-87) becomes 0. Where transitions span at most this range, a tag whose weight becomes 0 in the
# recursion on probabilities is behind another one by exp(-87), and can win back at most this range twice (going in
# and going out): what is lost weighs less than exp(-87 + 2 * 30) ~ 2e-12 of the total, whatever the emissions are.
PROBABILITY_RANGE = 30.0


class NumberSpace(abc.ABC):
    """How messages, the normalised weights of tags, are represented.

    Attributes:
        one, zero: the representations of the weights 1 and 0.
    """

    one: float
    zero: float

    @abc.abstractmethod
    def from_log(self, logs: Tensor) -> Tensor:
        """Convert log weights to this space."""

    @abc.abstractmethod
    def to_log(self, weights: Tensor) -> Tensor:
        """Convert weights of this space to logs."""

    @abc.abstractmethod
    def to_probability(self, weights: Tensor) -> Tensor:
        """Convert weights of this space to probabilities."""

    @abc.abstractmethod
    def multiply(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the elementwise product."""

    @abc.abstractmethod
    def divide(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the elementwise quotient."""

    @abc.abstractmethod
    def sum(self, weights: Tensor, axis: int | tuple[int, ...], keepdims: bool = False) -> Tensor:
        """Return the sum along an axis."""

    @abc.abstractmethod
    def propagate(self, message: Tensor, matrix: Tensor) -> Tensor:
        """Multiply a message by a matrix.

        Args:
            message: `(..., batch, tags)`.
            matrix: `(..., tags, tags)` for the whole batch, or `(..., batch, tags, tags)`.
        """

    @abc.abstractmethod
    def propagate_batch_last(self, message: Tensor, matrix: Tensor) -> Tensor:
        """Multiply a message `(tags, batch)` by a matrix `(tags, tags)`."""

    @abc.abstractmethod
    def matrix_product(self, first: Tensor, second: Tensor) -> Tensor:
        """Multiply matrices `(..., tags, tags)`."""


class Probabilities(NumberSpace):
    """Messages as weights that sum to one: fast, and exact while transitions span at most `PROBABILITY_RANGE`."""

    one, zero = 1.0, 0.0

    def from_log(self, logs: Tensor) -> Tensor:
        return ops.exp(logs)

    def to_log(self, weights: Tensor) -> Tensor:
        return ops.log(weights)

    def to_probability(self, weights: Tensor) -> Tensor:
        return weights

    def multiply(self, first: Tensor, second: Tensor) -> Tensor:
        return ops.multiply(first, second)

    def divide(self, first: Tensor, second: Tensor) -> Tensor:
        return ops.divide(first, second)

    def sum(self, weights: Tensor, axis: int | tuple[int, ...], keepdims: bool = False) -> Tensor:
        return ops.sum(weights, axis=axis, keepdims=keepdims)

    def propagate(self, message: Tensor, matrix: Tensor) -> Tensor:
        if len(matrix.shape) == len(message.shape):
            return ops.matmul(message, matrix)
        return ops.matmul(message[..., None, :], matrix)[..., 0, :]

    def propagate_batch_last(self, message: Tensor, matrix: Tensor) -> Tensor:
        return functools.reduce(ops.add, (message[tag] * matrix[tag, :, None] for tag in range(message.shape[0])))

    def matrix_product(self, first: Tensor, second: Tensor) -> Tensor:
        return ops.matmul(first, second)


class Logarithms(NumberSpace):
    """Messages as the logs of such weights: slower, and exact for any potentials."""

    one, zero = 0.0, FORBIDDEN

    def from_log(self, logs: Tensor) -> Tensor:
        return logs

    def to_log(self, weights: Tensor) -> Tensor:
        return weights

    def to_probability(self, weights: Tensor) -> Tensor:
        return ops.exp(weights)

    def multiply(self, first: Tensor, second: Tensor) -> Tensor:
        return ops.add(first, second)

    def divide(self, first: Tensor, second: Tensor) -> Tensor:
        return ops.subtract(first, second)

    def sum(self, weights: Tensor, axis: int | tuple[int, ...], keepdims: bool = False) -> Tensor:
        return logsumexp(weights, axis=axis, keepdims=keepdims)

    def propagate(self, message: Tensor, matrix: Tensor) -> Tensor:
        if len(matrix.shape) == len(message.shape):
            matrix = matrix[..., None, :, :]
        return logsumexp(message[..., :, None] + matrix, axis=-2)

    def propagate_batch_last(self, message: Tensor, matrix: Tensor) -> Tensor:
        return logsumexp(message[:, None] + matrix[..., None], axis=0)

    def matrix_product(self, first: Tensor, second: Tensor) -> Tensor:
        # One inner index at a time: all at once would need `tags` times the memory.
        summands = [first[..., :, tag, None] + second[..., None, tag, :] for tag in range(first.shape[-1])]
        highest = functools.reduce(ops.maximum, summands)
        return highest + ops.log(functools.reduce(ops.add, (ops.exp(summand - highest) for summand in summands)))


PROBABILITIES = Probabilities()
LOGARITHMS = Logarithms()


def in_exact_space(transitions: Tensor, branch: Callable[[NumberSpace], TensorTree]) -> TensorTree:
    """Return `branch(space)` for the faster of the spaces that are exact for these transitions.

    Both branches are traced; the data decide at run time.
    """
    spread = ops.max(transitions, initial=FORBIDDEN) - ops.min(transitions, initial=-FORBIDDEN)
    return ops.cond(spread <= PROBABILITY_RANGE, lambda: branch(PROBABILITIES), lambda: branch(LOGARITHMS))
