"""The log scores that every function of the lattice takes, and the common ways of looking at them.

    emissions    (batch, time, tags)           score of each tag at each time step
    lengths      (batch,)                      number of real time steps; later ones are padding and never matter
    transitions  (tags, tags)                  score of going from tag [row] to tag [column]; or one matrix for each
                 (time - 1, tags, tags)        pair of neighbouring time steps, for the whole batch
                 (batch, time - 1, tags, tags) or for each sequence
    start, end   (tags,)                       score of the first and of the last tag

The score of a path is the sum of the potentials along it; a sequence of length 0 has one (empty) path, of score 0.
Half-precision inputs are computed in float32. Potentials of -inf mean "forbidden" and are treated as -1e30.
"""

from keras import ops

FORBIDDEN = -1e30


def prepared(emissions, lengths, transitions, start, end):
    """The potentials in one type, -inf made finite, varying transitions as `(batch, time - 1, tags, tags)`."""
    emissions = ops.convert_to_tensor(emissions)
    dtype = "float64" if ops.dtype(emissions) == "float64" else "float32"
    emissions, transitions, start, end = (
        ops.maximum(ops.cast(each, dtype), FORBIDDEN) for each in (emissions, transitions, start, end)
    )
    if len(transitions.shape) == 3:
        transitions = ops.broadcast_to(transitions, (ops.shape(emissions)[0], *ops.shape(transitions)))
    return emissions, ops.cast(lengths, "int32"), transitions, start, end


def varies(transitions):
    """Whether there is a matrix for each pair of time steps."""
    return len(transitions.shape) > 2


def valid_steps(emissions, lengths):
    """`(batch, time)` booleans."""
    return ops.arange(ops.shape(emissions)[1], dtype="int32")[None, :] < lengths[:, None]


def unary(emissions, lengths, start, end):
    """Time first, the boundaries counted in, 0 at padding: `(time, batch, tags)`."""
    times = ops.arange(ops.shape(emissions)[1], dtype="int32")[:, None, None]
    lengths = lengths[None, :, None]
    scores = ops.transpose(emissions, (1, 0, 2)) + ops.where(times == 0, start, 0.0)
    return ops.where(times < lengths, scores + ops.where(times == lengths - 1, end, 0.0), 0.0)


def pairwise(transitions, lengths):
    """Transitions that vary, time first, with 0 between padded steps: `(time - 1, batch, tags, tags)`; others as is."""
    if not varies(transitions):
        return transitions
    times = ops.arange(ops.shape(transitions)[1], dtype="int32")[:, None, None, None]
    return ops.where(times < lengths[None, :, None, None] - 1, ops.transpose(transitions, (1, 0, 2, 3)), 0.0)


def at_last_step(values, lengths):
    """Of `(time, batch, ...)` what stands at the last real time step, `(batch, ...)`; 0 where there is none."""
    shape = (-1,) + (1,) * (len(values.shape) - 2)
    times = ops.reshape(ops.arange(ops.shape(values)[0], dtype="int32"), (-1, 1, *shape[1:]))
    return ops.sum(ops.where(times == ops.reshape(lengths, shape) - 1, values, ops.zeros_like(values)), axis=0)
