"""Single paths through a linear chain: the best, the k best, random samples, and the best tags one by one.

The potentials and their shapes are those of `trellis.components.lattice.potentials`.

Sources: Viterbi 1967 and Rabiner 1989 (best path); Seshadri and Sundberg 1994 (k best paths, the parallel list
algorithm); Scott 2002 (forward filtering, backward sampling); Bahl et al. 1974 (tags best one by one).
"""

import functools
from collections.abc import Callable

import keras
from keras import ops

from trellis.components.lattice.linear_chain import log_forward, marginals, path_score, path_scores
from trellis.components.lattice.operations import argmax, gather, reverse, sizes
from trellis.components.lattice.potentials import FORBIDDEN, pairwise, prepared, unary, valid_steps, varies
from trellis.components.lattice.recursion import compiled, scan, use_xla
from trellis.components.types import Emissions, Lengths, Seed, TagIds, TagScores, Tensor, TensorTree, Transitions

MANY_TAGS = 64


def viterbi(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    jit_compile: bool | None = None,
) -> tuple[TagIds, Tensor]:
    """Return the best path through each lattice; of equal paths, the one with the lower tag where they differ last.

    Args:
        jit_compile: compile with XLA; None means TRELLIS_XLA=1.

    Returns:
        Tags `(batch, time)` int32, 0 at padding, and scores `(batch,)`.
    """
    potentials = prepared(emissions, lengths, transitions, start, end)
    emissions, lengths, *chain = potentials
    xla = use_xla(jit_compile)
    search = _viterbi_for_xla if xla else _viterbi_tags_first if emissions.shape[-1] <= MANY_TAGS else _viterbi
    path = ops.reshape(compiled(search, xla)(*potentials), sizes(emissions)[:2])
    return path, path_score(emissions, path, lengths, *chain)


def k_best(
    emissions: Emissions, lengths: Lengths, transitions: Transitions, start: TagScores, end: TagScores, k: int
) -> tuple[Tensor, Tensor]:
    """Return the `k` best paths through each lattice, best first.

    Returns:
        Tags `(batch, k, time)` int32 and scores `(batch, k)`. Where there are fewer than `k` paths, the rest have score
        -inf and tags 0; paths through forbidden potentials do not count.
    """
    potentials = prepared(emissions, lengths, transitions, start, end)
    emissions, lengths, *chain = potentials
    paths, exists = compiled(_best_of(k), False)(*potentials)
    batch, time, _ = sizes(emissions)
    paths, exists = ops.reshape(paths, (batch, k, time)), ops.reshape(exists, (batch, k))
    scores = path_scores(emissions, ops.transpose(paths, (0, 2, 1)), lengths, *chain)
    return paths, ops.where(exists & (scores > FORBIDDEN / 2), scores, -float("inf"))


def sample(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    samples: int = 1,
    seed: Seed = None,
) -> Tensor:
    """Draw paths from the distribution over all paths.

    Args:
        samples: number of paths for each sequence.
        seed: an integer or a `keras.random.SeedGenerator`.

    Returns:
        Tags `(batch, samples, time)` int32, 0 at padding.
    """
    emissions, lengths, transitions, start, end = prepared(emissions, lengths, transitions, start, end)
    forward = log_forward(emissions, lengths, transitions, start, end)
    batch, time, tags = sizes(forward)
    # The largest of logs + noise is a draw from their softmax (Gumbel 1954).
    uniform = keras.random.uniform((time, batch, samples, tags), 1e-38, 1.0, dtype=forward.dtype, seed=seed)
    noise = -ops.log(-ops.log(uniform))
    backwards = reverse(ops.transpose(forward, (1, 0, 2)), lengths)[:, :, None] + noise
    path = _walk_back(backwards, lengths, transitions)
    valid = valid_steps(emissions, lengths)[:, None]
    return ops.where(valid, ops.transpose(reverse(path, lengths), (1, 2, 0)), 0)


def posterior_decoding(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    jit_compile: bool | None = None,
) -> tuple[TagIds, Tensor]:
    """Return the tag of the largest marginal at each time step, which minimises the expected number of wrong tags.

    Returns:
        Tags `(batch, time)` int32, 0 at padding, and their marginals `(batch, time)`.
    """
    posteriors = marginals(emissions, lengths, transitions, start, end, jit_compile)
    return argmax(posteriors), ops.max(posteriors, axis=-1)


def _by_next_tag(transitions: Transitions, lengths: Lengths) -> Tensor:
    """Transpose transitions to `(next, previous)`, or `(time - 1, batch, next, previous)`."""
    return ops.swapaxes(pairwise(transitions, lengths), -1, -2)


def _viterbi(
    emissions: Emissions,
    lengths: Lengths,
    transitions: Transitions,
    start: TagScores,
    end: TagScores,
    tags_first: bool = False,
    fused: bool = False,
) -> TagIds:
    """Search for the best path.

    Args:
        tags_first: keep scores as `(tags, batch)` instead of `(batch, tags)`.
        fused: reduce over previous tags one at a time; not with `tags_first`.
    """
    scores, varying = unary(emissions, lengths, start, end), varies(transitions)
    axis, layout = (0, (0, 2, 1)) if tags_first else (1, (0, 1, 2))
    emitted = ops.transpose(scores, layout)
    if varying:
        matrices = ops.transpose(pairwise(transitions, lengths), (0, 2, 3, 1) if tags_first else (0, 1, 2, 3))
    else:
        matrices = transitions[:, :, None] if tags_first else transitions

    def best_arrivals(best: Tensor, matrix: Tensor) -> Tensor:
        if fused:
            # Unrolled, so that XLA fuses it into one loop that keeps only the maximum.
            arrivals = (best[:, tag, None] + matrix[..., tag, :] for tag in range(best.shape[1]))
            return functools.reduce(ops.maximum, arrivals)
        return ops.max(ops.expand_dims(best, axis + 1) + matrix, axis=axis)

    def extend(best: Tensor, inputs: TensorTree) -> tuple[Tensor, Tensor]:
        emitted, matrix = inputs if varying else (inputs, matrices)
        best = best_arrivals(best, matrix) + emitted
        # Shifted so that the largest is 0: sums over thousands of steps would lose the differences to rounding.
        best -= ops.max(best, axis=axis, keepdims=True)
        return best, best

    first = emitted[0]
    best = scan(extend, first, (emitted[1:], matrices) if varying else emitted[1:], like=first)
    best = ops.transpose(ops.concatenate([first[None], best], axis=0), layout)
    path = _walk_back(reverse(best, lengths)[:, :, None], lengths, transitions)[:, :, 0]
    return ops.where(valid_steps(emissions, lengths), ops.transpose(reverse(path, lengths)), 0)


# TensorFlow adds and reduces fastest with the tags before the batch, unless there are many of them.
_viterbi_tags_first = functools.partial(_viterbi, tags_first=True)
_viterbi_for_xla = functools.partial(_viterbi, fused=True)


def _walk_back(backwards: Tensor, lengths: Lengths, transitions: Transitions) -> Tensor:
    """Choose tags from the last step to the first, each the best given the one after it.

    Args:
        backwards: `(time, batch, paths, tags)` scores of the best way to each tag, each sequence reversed.

    Returns:
        `(time, batch, paths)` int32 tags, each sequence reversed.
    """
    matrices, varying = _by_next_tag(transitions, lengths), varies(transitions)

    def trace(tag: Tensor, inputs: TensorTree) -> tuple[Tensor, Tensor]:
        best, matrix = inputs if varying else (inputs, matrices)
        rows = gather(matrix, tag, batch_dims=1 if varying else 0)
        tag = argmax(best + rows)
        return tag, tag

    last = argmax(backwards[0])
    inputs = (backwards[1:], reverse(matrices, ops.maximum(lengths - 1, 0))) if varying else backwards[1:]
    return ops.concatenate([last[None], scan(trace, last, inputs, like=last)], axis=0)


@functools.cache
def _best_of(k: int) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the same function object for the same number of paths: `compiled` keeps one graph for each."""
    return functools.partial(_k_best, k=k)


def _k_best(
    emissions: Emissions, lengths: Lengths, transitions: Transitions, start: TagScores, end: TagScores, k: int
) -> tuple[Tensor, Tensor]:
    """Return the k best paths `(batch, k, time)`, and which exist, `(batch, k)`. A state is `tag * k + rank`."""
    scores = unary(emissions, lengths, start, end)
    matrices, varying = _by_next_tag(transitions, lengths), varies(transitions)
    batch, tags = sizes(scores)[1:]
    nowhere = ops.full((1, 1, k - 1), 10 * FORBIDDEN, dtype=scores.dtype)
    first = ops.concatenate([scores[0][:, :, None], ops.broadcast_to(nowhere, (batch, tags, k - 1))], axis=-1)

    def extend(best: Tensor, inputs: TensorTree) -> tuple[Tensor, TensorTree]:
        emitted, matrix = inputs if varying else (inputs, matrices)
        # (batch, next, previous, rank)
        arrivals = best[:, None, :, :] + matrix[..., None]
        best, came_from = ops.top_k(ops.reshape(arrivals, (-1, tags, tags * k)), k)
        best += emitted[:, :, None]
        best -= ops.max(best, axis=(1, 2), keepdims=True)
        came_from = ops.cast(ops.reshape(came_from, (-1, tags * k)), "int32")
        return best, (best, came_from)

    like = (first, ops.cast(ops.reshape(first, (-1, tags * k)), "int32"))
    best, came_from = scan(extend, first, (scores[1:], matrices) if varying else scores[1:], like=like)
    best = ops.reshape(ops.concatenate([first[None], best], axis=0), (-1, batch, tags * k))
    best, state = ops.top_k(reverse(best, lengths)[0], k)
    state = ops.cast(state, "int32")

    def trace(state: Tensor, came_from: Tensor) -> tuple[Tensor, Tensor]:
        state = gather(came_from, state, batch_dims=1)
        return state, state

    states = scan(trace, state, reverse(came_from, ops.maximum(lengths - 1, 0)), like=state)
    path = reverse(ops.concatenate([state[None], states], axis=0), lengths) // k
    exists = best > 2 * FORBIDDEN
    # A sequence without steps has one path, the empty one.
    exists = ops.where(lengths[:, None] > 0, exists, ops.arange(k)[None] == 0)
    valid = valid_steps(emissions, lengths)[:, None] & exists[..., None]
    return ops.where(valid, ops.transpose(path, (1, 2, 0)), 0), exists
