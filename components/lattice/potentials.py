"""The log scores that every function of the lattice takes, and the views of them that the recursions share.

    emissions    (batch, time, tags)           score of each tag at each time step
    lengths      (batch,)                      number of real time steps; later ones are padding and are ignored
    transitions  (tags, tags)                  score of moving from tag [row] to tag [column]; or one matrix for each
                 (time - 1, tags, tags)        pair of neighbouring time steps, shared by the batch
                 (batch, time - 1, tags, tags) or separate for each sequence
    start, end   (tags,)                       score of the first and of the last tag

The score of a path is the sum of the potentials along it; a sequence of length 0 has one (empty) path, of score 0.
Half-precision inputs are computed in float32. Potentials of -inf mean "forbidden" and are treated as -1e30.
"""

from collections.abc import Sequence

from keras import ops

from trellis.components.lattice.operations import sizes
from trellis.components.types import Emissions, Lengths, Mask, TagScores, Tensor, Transitions

FORBIDDEN = -1e30


def prepared(
    emissions: Emissions, lengths: Lengths, transitions: Transitions, start: TagScores, end: TagScores
) -> tuple[Emissions, Lengths, Transitions, TagScores, TagScores]:
    """Cast the potentials to one float type, replace -inf by `FORBIDDEN`, and expand transitions that vary over time.

    Returns:
        The arguments in their order. Transitions of shape `(time - 1, tags, tags)` become
        `(batch, time - 1, tags, tags)`.
    """
    emissions = ops.convert_to_tensor(emissions)
    dtype = "float64" if ops.dtype(emissions) == "float64" else "float32"
    emissions, transitions, start, end = (
        ops.maximum(ops.cast(scores, dtype), FORBIDDEN) for scores in (emissions, transitions, start, end)
    )
    if len(transitions.shape) == 3:
        transitions = ops.broadcast_to(transitions, (sizes(emissions)[0], *sizes(transitions)))
    return emissions, ops.cast(lengths, "int32"), transitions, start, end


def shaped_as(values: Tensor, emissions: Emissions, axes: Sequence[str], name: str) -> Tensor:
    """Return values after checking that their first axes are those of the emissions; a mismatch would be broadcast.

    Args:
        axes: a name for each axis.
        name: the name of the values, for the message.

    Raises:
        ValueError: an axis has another size; in a graph of unknown shapes, an error when it runs.
    """
    if len(values.shape) != len(axes):
        raise ValueError(f"{name} have rank {len(values.shape)}, expected {len(axes)}: {', '.join(axes)}")
    for axis, size, expected in zip(axes, values.shape, emissions.shape, strict=False):
        if None not in (size, expected) and size != expected:
            raise ValueError(f"{name} have {size} {axis}, the emissions have {expected}")
    return ops.reshape(values, sizes(emissions)[: len(axes)])


def varies(transitions: Transitions) -> bool:
    """Return whether each pair of time steps has a transition matrix of its own."""
    return len(transitions.shape) > 2


def valid_steps(emissions: Emissions, lengths: Lengths) -> Mask:
    """Boolean mask of the real time steps, `(batch, time)`."""
    return ops.arange(sizes(emissions)[1], dtype="int32")[None, :] < lengths[:, None]


def unary(emissions: Emissions, lengths: Lengths, start: TagScores, end: TagScores) -> Tensor:
    """Return the scores of single tags, boundaries included, time first: `(time, batch, tags)`, 0 at padding."""
    times = ops.arange(sizes(emissions)[1], dtype="int32")[:, None, None]
    lengths = lengths[None, :, None]
    scores = ops.transpose(emissions, (1, 0, 2)) + ops.where(times == 0, start, 0.0)
    return ops.where(times < lengths, scores + ops.where(times == lengths - 1, end, 0.0), 0.0)


def pairwise(transitions: Transitions, lengths: Lengths) -> Tensor:
    """Return the scores of tag pairs, time first.

    Returns:
        `(tags, tags)` unchanged, or varying transitions as `(time - 1, batch, tags, tags)`, 0 where either is padding.
    """
    if not varies(transitions):
        return transitions
    times = ops.arange(sizes(transitions)[1], dtype="int32")[:, None, None, None]
    return ops.where(times < lengths[None, :, None, None] - 1, ops.transpose(transitions, (1, 0, 2, 3)), 0.0)


def at_last_step(values: Tensor, lengths: Lengths) -> Tensor:
    """Select the last real time step of `values (time, batch, ...)`: `(batch, ...)`, 0 for empty sequences."""
    shape = (-1,) + (1,) * (len(values.shape) - 2)
    times = ops.reshape(ops.arange(sizes(values)[0], dtype="int32"), (-1, 1, *shape[1:]))
    return ops.sum(ops.where(times == ops.reshape(lengths, shape) - 1, values, ops.zeros_like(values)), axis=0)
