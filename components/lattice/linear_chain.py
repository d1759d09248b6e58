"""Sums over all paths of a linear chain, by the forward and the backward recursion; the score of one path.

The potentials and their shapes are those of `trellis.components.lattice.potentials`. Scores are in nats. The recursions
themselves are in `trellis.components.lattice.forward_backward`; `docs/explanation/lattice.md` derives them.

Sources: Rabiner 1989 (forward-backward); Lafferty, McCallum and Pereira 2001 (linear-chain CRF); Hernando, Crespi and
Cybenko 2005 (entropy).
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from trellis.components.lattice import forward_backward
from trellis.components.lattice.number_spaces import in_exact_space
from trellis.components.lattice.operations import gather, sizes
from trellis.components.lattice.potentials import (
    at_last_step,
    pairwise,
    prepared,
    shaped_as,
    valid_steps,
    varies,
)
from trellis.components.lattice.recursion import compiled, has_gpu, scan, use_xla
from trellis.components.types import Emissions, Lengths, TagIds, TagScores, Tensor, TensorTree, Transitions

# With at most this many tags, XLA is faster with the batch in the innermost axis; see `forward_backward.BatchLast`.
FEW_TAGS = 32

# With at least this many time steps and at most this many tags, a GPU multiplies matrices instead of walking; see
# `forward_backward._messages_in_parallel`.
PARALLEL_STEPS, PARALLEL_TAGS = 4096, 16


def path_score(
    emissions: Emissions,
    tags: TagIds,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
) -> Tensor:
    """Return the score of one path through each lattice.

    Args:
        tags: `(batch, time)` integers; values at padded positions are ignored.

    Returns:
        Scores `(batch,)`, 0 for sequences of length 0.

    Raises:
        ValueError: the tags have another shape than the emissions; in a graph of unknown shapes, an error when it runs.
    """
    emissions, lengths, *chain = prepared(emissions, lengths, transitions, start, end)
    tags = shaped_as(ops.cast(tags, "int32"), emissions, ("sequences", "time steps"), "the tags")
    return path_scores(emissions, tags[:, :, None], lengths, *chain)[:, 0]


def path_scores(
    emissions: Emissions,
    tags: Tensor,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
) -> Tensor:
    """Return the scores of several paths through each lattice, `(batch, paths)`; for potentials that are `prepared`.

    Args:
        tags: `(batch, time, paths)` int32.
    """
    valid, size = valid_steps(emissions, lengths)[:, :, None], emissions.shape[-1]
    tags = ops.where(valid, tags, 0)
    steps = gather(emissions, tags, batch_dims=2)
    pairs = tags[:, :-1] * size + tags[:, 1:]
    if varies(transitions):
        matrices = ops.reshape(transitions, (*sizes(pairs)[:2], size * size))
        pairs = gather(matrices, pairs, batch_dims=2)
    else:
        pairs = gather(ops.reshape(transitions, (-1,)), pairs)
    last = gather(tags, ops.maximum(lengths - 1, 0)[:, None], batch_dims=1)[:, 0]
    return (
        ops.sum(ops.where(valid, steps, 0.0), axis=1)
        + ops.sum(ops.where(valid[:, 1:], pairs, 0.0), axis=1)
        + ops.where(lengths[:, None] > 0, gather(start, tags[:, 0]) + gather(end, last), 0.0)
    )


def log_partition(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    jit_compile: bool | None = None,
) -> Tensor:
    """Return the log of the summed exp-scores of all paths; differentiable (once) in every potential.

    The gradient is analytic: it comes from the messages of one walk in both directions, not from a differentiated loop.

    Args:
        jit_compile: compile with XLA; None means TRELLIS_XLA=1.

    Returns:
        `(batch,)`, 0 for sequences of length 0.
    """
    emissions, lengths, transitions, start, end = prepared(emissions, lengths, transitions, start, end)
    infer, expected = _recursions(emissions, transitions, jit_compile)

    @ops.custom_gradient
    def partition(*potentials: Tensor) -> tuple[Tensor, Callable[..., tuple[Tensor, ...]]]:
        # Without stop_gradient the loop inside would be differentiated too, and would keep its intermediate values.
        emissions, *chain = map(ops.stop_gradient, potentials)
        total, *messages = infer(emissions, lengths, *chain)

        def gradient(*arguments: Tensor, upstream: Tensor = None) -> tuple[Tensor, ...]:
            (upstream,) = arguments if upstream is None else (upstream,)
            return _shaped_like(potentials, expected(*messages, lengths, chain[0], upstream))

        return total, gradient

    return partition(emissions, transitions, start, end)


def marginals(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    jit_compile: bool | None = None,
) -> Tensor:
    """Return the posterior probability of each tag at each time step: `(batch, time, tags)`, zero at padding."""
    return _posteriors(*prepared(emissions, lengths, transitions, start, end), jit_compile)[0]


def pair_marginals(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    jit_compile: bool | None = None,
) -> Tensor:
    """Return the posterior probability of each pair of neighbouring tags.

    Returns:
        `(batch, time - 1, tags, tags)`, zero where either of the two is padding.
    """
    emissions, lengths, transitions, start, end = prepared(emissions, lengths, transitions, start, end)
    if not varies(transitions):
        # If each pair of steps has a matrix of its own, these are its expected counts of transitions.
        batch, time, size = sizes(emissions)
        transitions = ops.broadcast_to(transitions, (batch, time - 1, size, size))
    return _posteriors(emissions, lengths, transitions, start, end, jit_compile)[1]


def expected_counts(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    jit_compile: bool | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return how often a path contains each potential on average: the statistics of an E-step.

    Args:
        weights: the weight of each sequence, `(batch,)`; None: 1 for each.

    Returns:
        Counts of tags `(batch, time, tags)`; of transitions, in the shape of the transitions; of first and of last tags
        `(tags,)`; and the log-partition `(batch,)`.
    """
    return _posteriors(*prepared(emissions, lengths, transitions, start, end), jit_compile, weights)


def _posteriors(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    jit_compile: bool | None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    emissions, transitions, start, end = map(ops.stop_gradient, (emissions, transitions, start, end))
    infer, expected = _recursions(emissions, transitions, jit_compile)
    total, *messages = infer(emissions, lengths, transitions, start, end)
    counts = expected(*messages, lengths, transitions, ops.ones_like(total) if weights is None else weights)
    tags, pairs, first, last = _shaped_like((emissions, transitions, start, end), counts)
    return tags, pairs, first, last, total


def _shaped_like(potentials: tuple[Tensor, ...], counts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Restore the static shapes of the potentials, which a graph that serves all shapes loses."""
    return tuple(ops.reshape(count, sizes(potential)) for potential, count in zip(potentials, counts, strict=True))


def _recursions(
    emissions: Emissions, transitions: Transitions, jit_compile: bool | None
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return `infer` and `expected_counts` of `forward_backward` in the fastest variant, which they have to share."""
    xla = use_xla(jit_compile)
    time, tags = emissions.shape[1:]
    # The depth of an associative scan has to be known when the graph is traced.
    if time is not None and time >= PARALLEL_STEPS and tags <= PARALLEL_TAGS and has_gpu():
        infer = compiled(forward_backward.infer_in_parallel, xla, fixed_time=True)
        return infer, compiled(forward_backward.expected_counts, xla)
    if xla and tags <= FEW_TAGS and not varies(transitions):
        infer = compiled(forward_backward.infer_batch_last, xla)
        return infer, compiled(forward_backward.expected_counts_batch_last, xla, tags_axis=1)
    return compiled(forward_backward.infer, xla), compiled(forward_backward.expected_counts, xla)


def log_forward(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    jit_compile: bool | None = None,
) -> Tensor:
    """Return forward messages: the log of the summed exp-scores of all paths up to and including each tag.

    Returns:
        `(batch, time, tags)`, shifted so that the exponentials sum to one at each time step; 0 at padding. `end` counts
        at the last real time step.
    """
    emissions, lengths, transitions, start, end = map(
        ops.stop_gradient, prepared(emissions, lengths, transitions, start, end)
    )
    messages = compiled(_log_forward, use_xla(jit_compile))(emissions, lengths, transitions, start, end)
    return ops.reshape(ops.transpose(messages, (1, 0, 2)), sizes(emissions))


def entropy(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    jit_compile: bool | None = None,
) -> Tensor:
    """Return the entropy of the distribution over paths, in nats.

    Returns:
        `(batch,)`, 0 for sequences of length 0. Not differentiable.
    """
    potentials = map(ops.stop_gradient, prepared(emissions, lengths, transitions, start, end))
    return compiled(_entropy, use_xla(jit_compile))(*potentials)


def _log_forward(
    emissions: Emissions, lengths: Lengths, transitions: Transitions, start: TagScores, end: TagScores
) -> Tensor:
    """Return forward messages in logs, `(time, batch, tags)`."""
    _, _, left, _ = forward_backward.infer(emissions, lengths, transitions, start, end)
    matrices = pairwise(transitions, lengths)
    valid = ops.transpose(valid_steps(emissions, lengths))[..., None]
    return ops.where(valid, in_exact_space(matrices, lambda space: space.to_log(left)), 0.0)


def _entropy(
    emissions: Emissions, lengths: Lengths, transitions: Transitions, start: TagScores, end: TagScores
) -> Tensor:
    """Walk forwards with the entropy of the paths that end in each tag (Hernando et al. 2005)."""
    forward = _log_forward(emissions, lengths, transitions, start, end)
    matrices, varying = pairwise(transitions, lengths), varies(transitions)

    def step(entropies: Tensor, inputs: TensorTree) -> tuple[Tensor, Tensor]:
        left, matrix = inputs if varying else (inputs, matrices)
        logs = ops.log_softmax(left[..., None] + matrix, axis=-2)
        entropies = ops.sum(ops.exp(logs) * (entropies[..., None] - logs), axis=-2)
        return entropies, entropies

    zeros = ops.zeros_like(forward[0])
    steps = scan(step, zeros, (forward[:-1], matrices) if varying else forward[:-1], like=zeros)
    steps = ops.concatenate([zeros[None], steps], axis=0)
    logs = ops.log_softmax(forward, axis=-1)
    return ops.where(lengths > 0, at_last_step(ops.sum(ops.exp(logs) * (steps - logs), axis=-1), lengths), 0.0)
