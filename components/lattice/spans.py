"""Posterior probabilities of labelled spans: runs of time steps that form one segment, such as an entity.

Neighbouring tags decide where segments are: `continues[j][k]` says whether tag k after tag j continues the segment
of j, and `tag_kinds` has the kind of each tag, -1 for tags outside of segments. A segment of a kind over the time steps
from `start` up to, not including, `stop` is a run of tags of that kind, each of which continues the one before it; its
first tag continues nothing, and the tag after it does not continue it. `trellis.components.text.tag_schemes.segments`
returns both for tags such as `B-PER`. The potentials and their shapes are those of
`trellis.components.lattice.potentials`; `docs/explanation/lattice.md` derives what is computed here.

Source: Culotta and McCallum 2004 (confidence of extracted segments), by messages instead of a constrained second pass.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from trellis.components.lattice import forward_backward
from trellis.components.lattice.number_spaces import NumberSpace, in_exact_space
from trellis.components.lattice.operations import gather, sizes
from trellis.components.lattice.potentials import FORBIDDEN, pairwise, prepared, varies
from trellis.components.lattice.recursion import compiled
from trellis.components.types import Emissions, Lengths, TagScores, Tensor, Transitions


def span_marginals(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    starts: Tensor,
    stops: Tensor,
    kinds: Tensor,
    tag_kinds: Sequence[int],
    continues: Sequence[Sequence[bool]],
) -> Tensor:
    """Return the posterior probabilities of given segments.

    Args:
        starts, stops: the first time step of each segment and the one after its last, `(batch, spans)` integers.
        kinds: the kind of each segment, `(batch, spans)` integers.
        tag_kinds: the kind of each tag, from 0; -1 for tags outside of segments.
        continues: booleans `(tags, tags)`: whether the tag [column] continues the segment of the tag [row] before it.

    Returns:
        `(batch, spans)`; 0 for spans that cannot be segments: empty, negative, beyond the sequence, of an unknown kind.
    """
    potentials = _stopped(emissions, lengths, transitions, start, end)
    starts, stops, kinds = (ops.cast(values, "int32") for values in (starts, stops, kinds))
    arguments = (*_of_tags(tag_kinds, continues, potentials[0].dtype), starts, stops, kinds)
    return ops.reshape(compiled(_span_marginals, False)(*potentials, *arguments), sizes(starts))


def all_span_marginals(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    tag_kinds: Sequence[int],
    continues: Sequence[Sequence[bool]],
    longest: int,
) -> Tensor:
    """Return the posterior probability of every segment of at most `longest` time steps.

    Args:
        tag_kinds, continues: as for `span_marginals`.
        longest: the number of time steps.

    Returns:
        `(batch, time, longest, kinds)`: at `[b, t, n - 1, kind]` that of the segment over the `n` time steps from `t`
        on; 0 where it would end in padding.

    Raises:
        ValueError: `longest` is less than 1.
    """
    if longest < 1:
        raise ValueError(f"longest={longest}: must be at least 1")
    potentials = _stopped(emissions, lengths, transitions, start, end)
    members, matrix = _of_tags(tag_kinds, continues, potentials[0].dtype)
    marginals = compiled(_all_up_to(longest), False)(*potentials, members, matrix)
    return ops.reshape(marginals, (*sizes(potentials[0])[:2], longest, members.shape[1]))


def _stopped(
    emissions: Emissions, lengths: Lengths, transitions: Transitions, start: TagScores, end: TagScores
) -> tuple[Tensor, ...]:
    return tuple(map(ops.stop_gradient, prepared(emissions, lengths, transitions, start, end)))


def _of_tags(tag_kinds: Sequence[int], continues: Sequence[Sequence[bool]], dtype: str) -> tuple[Tensor, Tensor]:
    """Return which tags are of which kind, `(tags, kinds)` of 1 and 0, and `continues` as a tensor.

    Raises:
        ValueError: the two are for different numbers of tags.
    """
    kinds, matrix = np.asarray(tag_kinds, int), np.asarray(continues, bool)
    if matrix.shape != (len(kinds), len(kinds)):
        raise ValueError(f"continues has the shape {matrix.shape}, tag_kinds are of {len(kinds)} tags")
    members = kinds[:, None] == np.arange(max(kinds.max(initial=-1) + 1, 1))
    return ops.convert_to_tensor(members, dtype=dtype), ops.convert_to_tensor(matrix)


class _Chain(NamedTuple):
    """The posterior as a Markov chain, in a number space; arrays are `(time, batch, tags)` unless said otherwise.

    The probability of a tag given the one before it is `matrix[j, k] * right[t + 1, k] / rest[t, j]`.

    Attributes:
        space: the number space.
        opens: probability that a segment, or an outside tag, begins at the time step with the tag.
        closes: probability that the next tag does not continue the segment, given the tag; 1 at the last time step.
        goes_on: weights of the transitions that continue a segment, `(tags, tags)` or
            `(time - 1, batch, tags, tags)`.
        right: see `forward_backward`.
        rest: the weight of everything after the time step.
    """

    space: NumberSpace
    opens: Tensor
    closes: Tensor
    goes_on: Tensor
    right: Tensor
    rest: Tensor


def _chain(
    space: NumberSpace, matrices: Tensor, lengths: Lengths, continues: Tensor, left: Tensor, right: Tensor
) -> _Chain:
    weights = space.from_log(matrices)
    goes_on, breaks = ops.where(continues, weights, space.zero), ops.where(continues, space.zero, weights)

    def before(matrix: Tensor) -> Tensor:
        """Sum over the tags of the next time step."""
        return _propagate(space, right[1:], ops.swapaxes(matrix, -1, -2))

    one = ops.full_like(right[:1], space.one)
    has_next = ops.arange(1, sizes(right)[0] + 1, dtype="int32")[:, None, None] < lengths[:, None]
    rest = ops.where(has_next, ops.concatenate([before(weights), one], axis=0), space.one)
    broken = ops.where(has_next, ops.concatenate([before(breaks), one], axis=0), space.one)
    opens = ops.concatenate(
        [
            space.multiply(left[:1], rest[:1]),
            space.multiply(_propagate(space, left[:-1], breaks), right[1:]),
        ],
        axis=0,
    )
    return _Chain(space, opens, space.divide(broken, rest), goes_on, right, rest)


def _propagate(space: NumberSpace, messages: Tensor, matrix: Tensor) -> Tensor:
    """Multiply messages `(time, batch, tags)` by one matrix or by one for each."""
    if varies(matrix):
        return space.propagate(messages, matrix)
    shape = sizes(messages)
    return ops.reshape(space.propagate(ops.reshape(messages, (-1, shape[-1])), matrix), shape)


def _messages(
    emissions: Emissions, lengths: Lengths, transitions: Transitions, start: TagScores, end: TagScores
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the transitions, time first, and the messages in the space that is exact for them."""
    _, _, left, right = forward_backward.infer(emissions, lengths, transitions, start, end)
    matrices = pairwise(transitions, lengths)
    return matrices - ops.max(matrices, initial=FORBIDDEN), left, right


def _span_marginals(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    members: Tensor,
    continues: Tensor,
    starts: Tensor,
    stops: Tensor,
    kinds: Tensor,
) -> Tensor:
    """Follow the tags of each span through the chain, all spans at once."""
    matrices, left, right = _messages(emissions, lengths, transitions, start, end)
    steps, count = sizes(emissions)[1], sizes(members)[1]
    possible = (starts >= 0) & (starts < stops) & (stops <= lengths[:, None]) & (kinds >= 0) & (kinds < count)
    first = ops.where(possible, starts, 0)
    last = ops.where(possible, stops - 1, 0)
    of_kind = gather(ops.transpose(members), ops.where(possible, kinds, 0)) > 0
    longest = ops.max(last - first, initial=0)

    def branch(space: NumberSpace) -> Tensor:
        chain = _chain(space, matrices, lengths, continues, left, right)
        opens, closes, right_, rest = (
            ops.transpose(values, (1, 0, 2)) for values in (chain.opens, chain.closes, chain.right, chain.rest)
        )

        def at(values: Tensor, times: Tensor) -> Tensor:
            """Select time steps `(batch, spans)` of `values (batch, time, tags)`."""
            return gather(values, times, batch_dims=1)

        def extend(offset: Tensor, message: Tensor) -> tuple[Tensor, Tensor]:
            times = ops.minimum(first + offset, steps - 1)
            given = space.divide(message, at(rest, ops.maximum(times - 1, 0)))
            shape = sizes(given)
            flat = ops.reshape(given, (-1, shape[-1]))
            if varies(matrices):
                rows = ops.arange(shape[0], dtype="int32")[:, None]
                index = ops.reshape(ops.maximum(times - 1, 0) * shape[0] + rows, (-1,))
                matrix = gather(ops.reshape(chain.goes_on, (-1, shape[-1], shape[-1])), index)
            else:
                matrix = chain.goes_on
            extended = space.multiply(ops.reshape(space.propagate(flat, matrix), shape), at(right_, times))
            return offset + 1, ops.where((first + offset <= last)[:, :, None], extended, message)

        message = ops.where(of_kind, at(opens, first), space.zero)
        one = ops.ones_like(longest)
        _, message = ops.while_loop(lambda offset, _: offset <= longest, extend, (one, message))
        return ops.sum(space.to_probability(space.multiply(message, at(closes, last))), axis=-1)

    return ops.where(possible, in_exact_space(matrices, branch), 0.0)


def _all_span_marginals(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    members: Tensor,
    continues: Tensor,
    longest: int,
) -> Tensor:
    """Extend the spans that begin at all time steps together, one time step at a time."""
    matrices, left, right = _messages(emissions, lengths, transitions, start, end)
    times = ops.arange(sizes(right)[0], dtype="int32")[:, None, None]

    def branch(space: NumberSpace) -> Tensor:
        chain = _chain(space, matrices, lengths, continues, left, right)
        goes_on = chain.goes_on
        if varies(matrices):
            goes_on = ops.concatenate([goes_on, ops.full_like(right[:1, :, :, None] * right[:1, :, None], 0.0)], axis=0)
        message, marginals = chain.opens, []
        for offset in range(longest):
            ends = space.to_probability(space.multiply(message, _later(chain.closes, offset, space.zero)))
            ends = ops.where(times + offset < lengths[:, None], ends, 0.0)
            marginals.append(ops.matmul(ends, members))
            given = space.divide(message, _later(chain.rest, offset, space.one))
            matrix = _later(goes_on, offset, space.zero) if varies(matrices) else goes_on
            message = space.multiply(_propagate(space, given, matrix), _later(right, offset + 1, space.zero))
        return ops.transpose(ops.stack(marginals), (2, 1, 0, 3))

    return in_exact_space(matrices, branch)


def _later(values: Tensor, offset: int, fill: float) -> Tensor:
    """Shift `values (time, ...)`: each time step gets the value of `offset` time steps later."""
    return ops.concatenate([values[offset:], ops.full_like(values[:offset], fill)], axis=0)


@functools.cache
def _all_up_to(longest: int) -> Callable[..., Tensor]:
    """Return the same function object for the same length: `compiled` keeps one graph for each."""
    return functools.partial(_all_span_marginals, longest=longest)
