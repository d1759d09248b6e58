"""Forward and backward messages of a linear chain, and the expected counts that follow from them.

`docs/explanation/lattice.md` derives what is computed here, and why in this order, in these memory layouts and number
spaces.

Messages are pairs `left, right` for each time step and tag. `left` is the weight of all paths up to and including the
step, normalised to sum to one; `right` is the weight of all paths from the step on, including its emission, scaled such
that `left[t] * exp(transition) * right[t + 1]` is the posterior of a pair of neighbouring tags.
"""

import abc
import functools
from collections.abc import Callable
from typing import TypeAlias

from keras import ops

from trellis.components.lattice.number_spaces import PROBABILITIES, NumberSpace, in_exact_space
from trellis.components.lattice.operations import reverse, sizes
from trellis.components.lattice.potentials import FORBIDDEN, pairwise, unary, valid_steps, varies
from trellis.components.lattice.recursion import associative_scan, scan
from trellis.components.types import Emissions, Lengths, Mask, TagScores, Tensor, TensorTree, Transitions


class Layout(abc.ABC):
    """The order of axes in which messages are kept.

    Attributes:
        batch_axis: the batch axis, counted from the end, so that it is the same with and without a leading time axis.
        tags_axis: the tag axis, counted in the same way.
    """

    batch_axis: int
    tags_axis: int

    @abc.abstractmethod
    def arrange(self, scores: Tensor) -> Tensor:
        """Arrange scores `(time, batch, tags)` in this layout."""

    @abc.abstractmethod
    def batch_first(self, values: Tensor) -> Tensor:
        """Arrange values of this layout as `(batch, time, tags)`."""

    @abc.abstractmethod
    def align_batch(self, values: Tensor) -> Tensor:
        """Reshape values `(batch,)` to broadcast against messages."""

    @abc.abstractmethod
    def align_tags(self, values: Tensor) -> Tensor:
        """Reshape values `(tags,)` to broadcast against messages."""

    @abc.abstractmethod
    def propagate(self, space: NumberSpace, message: Tensor, matrix: Tensor) -> Tensor:
        """Multiply the message of one time step by a transition matrix."""

    @abc.abstractmethod
    def sum_outer_products(self, left: Tensor, right: Tensor) -> Tensor:
        """Sum the outer products of two sets of messages over time and batch: `(tags, tags)`."""

    def mask(self, values: Tensor, lengths: Lengths) -> Mask:
        """Boolean mask of the real time steps that broadcasts against `values (time, ...)`."""
        times = ops.arange(sizes(values)[0], dtype="int32")[:, None, None]
        return times < self.align_batch(lengths)

    def reverse(self, values: Tensor, lengths: Lengths) -> Tensor:
        """Reverse the real time steps of each sequence."""
        return reverse(values, lengths, batch_axis=len(values.shape) + self.batch_axis)


class TagsLast(Layout):
    """`(time, batch, tags)`: each step is one matrix product. The only layout for transitions that vary over time."""

    batch_axis, tags_axis = -2, -1

    def arrange(self, scores: Tensor) -> Tensor:
        return scores

    def batch_first(self, values: Tensor) -> Tensor:
        return ops.transpose(values, (1, 0, 2))

    def align_batch(self, values: Tensor) -> Tensor:
        return values[:, None]

    def align_tags(self, values: Tensor) -> Tensor:
        return values

    def propagate(self, space: NumberSpace, message: Tensor, matrix: Tensor) -> Tensor:
        return space.propagate(message, matrix)

    def sum_outer_products(self, left: Tensor, right: Tensor) -> Tensor:
        rows, columns = (ops.reshape(message, (-1, sizes(message)[-1])) for message in (left, right))
        return ops.matmul(ops.transpose(rows), columns)


class BatchLast(Layout):
    """`(time, tags, batch)`: for XLA, which vectorizes along the innermost axis; few tags would not fill a vector."""

    batch_axis, tags_axis = -1, -2

    def arrange(self, scores: Tensor) -> Tensor:
        return ops.transpose(scores, (0, 2, 1))

    def batch_first(self, values: Tensor) -> Tensor:
        return ops.transpose(values, (2, 0, 1))

    def align_batch(self, values: Tensor) -> Tensor:
        return values

    def align_tags(self, values: Tensor) -> Tensor:
        return values[:, None]

    def propagate(self, space: NumberSpace, message: Tensor, matrix: Tensor) -> Tensor:
        return space.propagate_batch_last(message, matrix)

    def sum_outer_products(self, left: Tensor, right: Tensor) -> Tensor:
        rows, columns = (
            ops.reshape(ops.transpose(message, (1, 0, 2)), (sizes(message)[1], -1)) for message in (left, right)
        )
        return ops.matmul(rows, ops.transpose(columns))


TAGS_LAST, BATCH_LAST = TagsLast(), BatchLast()

# `(space, layout, emitted, weights, lengths) -> (left, scales, right)`; see `_messages_in_turn`.
Messages: TypeAlias = Callable[[NumberSpace, Layout, Tensor, Tensor, Lengths], tuple[Tensor, Tensor, Tensor]]


def _infer(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    *,
    layout: Layout,
    messages: Messages,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the log-partition and the messages of both directions, neither of which waits for the other.

    Returns:
        The log-partition `(batch,)`; and in the layout, the posteriors of tags and the messages `left` and `right`, the
        latter two in the number space that `in_exact_space` chooses for the transitions.
    """
    matrices = pairwise(transitions, lengths)
    highest = ops.max(matrices, initial=FORBIDDEN)
    matrices -= highest
    scores = unary(emissions, lengths, start, end)

    def walk(space: NumberSpace) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        arranged = layout.arrange(scores)
        top = ops.max(arranged, axis=layout.tags_axis, keepdims=True)
        emitted, weights = space.from_log(arranged - top), space.from_log(matrices)
        left, scales, right = messages(space, layout, emitted, weights, lengths)
        right = space.divide(right, space.sum(space.multiply(left, right), axis=layout.tags_axis, keepdims=True))
        # The recursion continues through padding, where its values are unbounded.
        right = ops.where(layout.mask(right, lengths), right, space.zero)
        return (
            ops.squeeze(space.to_log(scales) + top, axis=layout.tags_axis),
            space.to_probability(space.multiply(left, right)),
            left,
            space.multiply(right, space.divide(emitted, scales)),
        )

    scales, posterior, left, right = in_exact_space(matrices, walk)
    scales = ops.where(ops.transpose(valid_steps(emissions, lengths)), scales, 0.0)
    steps = ops.cast(ops.maximum(lengths - 1, 0), scales.dtype)
    return ops.sum(scales, axis=0) + highest * steps, posterior, left, right


def _messages_in_turn(
    space: NumberSpace, layout: Layout, emitted: Tensor, weights: Tensor, lengths: Lengths
) -> tuple[Tensor, Tensor, Tensor]:
    """Walk over time forwards and, over the reversed sequences, backwards.

    Args:
        emitted: emissions in the number space and layout.
        weights: transitions in the number space, `(tags, tags)` or `(time - 1, batch, tags, tags)`.

    Returns:
        The normalised `left` messages; the factors that normalised them, with a tag axis of size 1; and the
        weight of what follows each time step, up to a factor.
    """
    varying = varies(weights)
    turned = reverse(weights, ops.maximum(lengths - 1, 0)) if varying else weights
    back = ops.swapaxes(turned, -1, -2)

    def normalise(message: Tensor) -> tuple[Tensor, Tensor]:
        scale = space.sum(message, axis=layout.tags_axis, keepdims=True)
        return space.divide(message, scale), scale

    def forward(message: Tensor, inputs: TensorTree) -> tuple[Tensor, TensorTree]:
        emitted, matrix = inputs if varying else (inputs, weights)
        message, scale = normalise(space.multiply(layout.propagate(space, message, matrix), emitted))
        return message, (message, scale)

    def backward(message: Tensor, inputs: TensorTree) -> tuple[Tensor, Tensor]:
        emitted, matrix = inputs if varying else (inputs, back)
        message, _ = normalise(layout.propagate(space, space.multiply(message, emitted), matrix))
        return message, message

    first, scale = normalise(emitted[0])
    left, scales = scan(forward, first, (emitted[1:], weights) if varying else emitted[1:], like=(first, scale))
    left = ops.concatenate([first[None], left], axis=0)
    scales = ops.concatenate([scale[None], scales], axis=0)
    inputs = layout.reverse(emitted, lengths)[:-1]
    last = ops.full_like(first, space.one)
    right = scan(backward, last, (inputs, back) if varying else inputs, like=first)
    return left, scales, layout.reverse(ops.concatenate([last[None], right], axis=0), lengths)


def _messages_in_parallel(
    space: NumberSpace, layout: Layout, emitted: Tensor, weights: Tensor, lengths: Lengths
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute what `_messages_in_turn` computes, in `TAGS_LAST`, at a depth logarithmic in time.

    The forward message at a time step is the first one times the product of all matrices (transition times emission) up
    to there, and products are associative (Blelloch 1990; Särkkä and García-Fernández 2021). That is `tags` times the
    work of a walk; it pays on machines whose time goes into consecutive steps.
    """
    tags = sizes(emitted)[-1]
    # The identity matrix carries a message through padding unchanged.
    identity = ops.where(ops.eye(tags, dtype="bool"), space.one, space.zero)
    steps = space.multiply(weights, emitted[1:, :, None, :])
    steps = ops.where(layout.mask(emitted, lengths)[1:, :, :, None], steps, identity)

    def scaled(matrix: Tensor) -> Tensor:
        return space.divide(matrix, space.sum(matrix, axis=(-2, -1), keepdims=True))

    def product(first: Tensor, second: Tensor) -> Tensor:
        return scaled(space.matrix_product(first, second))

    def normalised(message: Tensor) -> Tensor:
        return space.divide(message, space.sum(message, axis=-1, keepdims=True))

    steps = scaled(steps)
    prefixes = associative_scan(product, steps)
    suffixes = ops.flip(associative_scan(lambda later, earlier: product(earlier, later), ops.flip(steps, 0)), 0)

    scale = space.sum(emitted[0], axis=-1, keepdims=True)
    first = space.divide(emitted[0], scale)
    before = ops.concatenate([first[None], normalised(space.propagate(first[None], prefixes))[:-1]], axis=0)
    outgoing = space.multiply(space.propagate(before, weights), emitted[1:])
    scales = space.sum(outgoing, axis=-1, keepdims=True)
    left = ops.concatenate([first[None], space.divide(outgoing, scales)], axis=0)
    right = normalised(space.sum(suffixes, axis=-1))
    right = ops.concatenate([right, ops.full_like(first, space.one)[None]], axis=0)
    return left, ops.concatenate([scale[None], scales], axis=0), right


def _expected_counts(
    posterior: Tensor,
    left: Tensor,
    right: Tensor,
    lengths: Lengths,
    transitions: Transitions,
    upstream: Tensor,
    *,
    layout: Layout,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradient of the log-partition with respect to each potential, times `upstream (batch,)`.

    These are expected counts: of tags `(batch, time, tags)`, of pairs in the shape of the transitions, of first and of
    last tags `(tags,)`.

    Args:
        posterior, left, right: from `_infer`.
    """
    mask = layout.mask(posterior, lengths)
    weight = ops.where(mask, layout.align_batch(upstream), 0.0)
    varying = varies(transitions)
    matrices = pairwise(transitions, lengths)
    matrices = matrices - ops.max(matrices, initial=FORBIDDEN)
    left, right = left[:-1], right[1:]

    def pairs(space: NumberSpace) -> Tensor:
        if varying:
            products = space.multiply(space.multiply(left[..., None], space.from_log(matrices)), right[:, :, None, :])
            return space.to_probability(products) * weight[1:, ..., None]
        if space is PROBABILITIES:
            return space.from_log(matrices) * layout.sum_outer_products(left, right * weight[1:])

        # One row at a time: all at once would need `tags` times the memory.
        def row(carry: Tensor, inputs: TensorTree) -> tuple[Tensor, Tensor]:
            of_tag, scores = inputs
            logs = ops.expand_dims(of_tag, layout.tags_axis) + layout.align_tags(scores) + right
            return carry, ops.sum(ops.exp(logs) * weight[1:], axis=(0, layout.batch_axis))

        rows = ops.moveaxis(left, layout.tags_axis, 0), matrices
        return scan(row, matrices[0], rows, like=matrices[0])

    counts, of_pairs = posterior * weight, in_exact_space(matrices, pairs)
    if varying:
        of_pairs = ops.transpose(of_pairs, (1, 0, 2, 3))
    times = ops.arange(sizes(counts)[0], dtype="int32")[:, None, None]
    is_last = times == layout.align_batch(lengths) - 1
    return (
        layout.batch_first(counts),
        of_pairs,
        ops.sum(counts[0], axis=layout.batch_axis),
        ops.sum(ops.where(is_last, counts, 0.0), axis=(0, layout.batch_axis)),
    )


# Defined once per module, because `compiled` keeps one graph for each function object.
infer = functools.partial(_infer, layout=TAGS_LAST, messages=_messages_in_turn)
infer_batch_last = functools.partial(_infer, layout=BATCH_LAST, messages=_messages_in_turn)
infer_in_parallel = functools.partial(_infer, layout=TAGS_LAST, messages=_messages_in_parallel)
expected_counts = functools.partial(_expected_counts, layout=TAGS_LAST)
expected_counts_batch_last = functools.partial(_expected_counts, layout=BATCH_LAST)
