"""Single paths through a linear chain: the best, the k best, drawn at random, and the tags that are best one by one.

Potentials, and what their shapes mean, as in `trellis.components.lattice.potentials`.

Sources: Viterbi 1967 and Rabiner 1989 (best path); Seshadri and Sundberg 1994 (k best paths, the parallel list
algorithm); Scott 2002 (forward filtering, backward sampling); Bahl et al. 1974 (tags best one by one).
"""

import functools

import keras
from keras import ops

from trellis.components.lattice.linear_chain import log_forward, marginals, path_score
from trellis.components.lattice.potentials import FORBIDDEN, pairwise, prepared, unary, valid_steps, varies
from trellis.components.lattice.recursion import argmax, compiled, reverse, scan, use_xla

MANY_TAGS = 64


def viterbi(emissions, lengths, transitions, start, end, jit_compile=None):
    """The best path through each lattice; of equal paths, the one with the lower tags at the latest difference.

    Returns:
        tags `(batch, time)` int32, 0 at padded positions, and scores `(batch,)`.
    """
    potentials = prepared(emissions, lengths, transitions, start, end)
    emissions, lengths, *chain = potentials
    xla = use_xla(jit_compile)
    search = _viterbi_for_xla if xla else _viterbi_tags_first if emissions.shape[-1] <= MANY_TAGS else _viterbi
    path = ops.reshape(compiled(search, xla)(*potentials), ops.shape(emissions)[:2])
    return path, path_score(emissions, path, lengths, *chain)


def k_best(emissions, lengths, transitions, start, end, k):
    """The `k` best paths through each lattice, best first.

    Returns:
        tags `(batch, k, time)` int32 and scores `(batch, k)`; where there are fewer than `k` paths, the rest have the
        score -inf and tags 0. Paths that only forbidden potentials allow count as none.
    """
    potentials = prepared(emissions, lengths, transitions, start, end)
    emissions, lengths, *chain = potentials
    paths, exists = _k_best(*potentials, k)
    scores = [path_score(emissions, paths[:, rank], lengths, *chain) for rank in range(k)]
    scores = ops.stack(scores, axis=1)
    return paths, ops.where(exists & (scores > FORBIDDEN / 2), scores, -float("inf"))


def sample(emissions, lengths, transitions, start, end, samples=1, seed=None):
    """Paths drawn from the distribution over all paths.

    Args:
        seed: an integer or a `keras.random.SeedGenerator`.

    Returns:
        tags `(batch, samples, time)` int32, 0 at padded positions.
    """
    emissions, lengths, transitions, start, end = prepared(emissions, lengths, transitions, start, end)
    forward = log_forward(emissions, lengths, transitions, start, end)
    batch, time, tags = ops.shape(forward)
    # The largest of logs + noise is a draw from their softmax (Gumbel 1954).
    uniform = keras.random.uniform((time, batch, samples, tags), 1e-38, 1.0, dtype=forward.dtype, seed=seed)
    noise = -ops.log(-ops.log(uniform))
    backwards = reverse(ops.transpose(forward, (1, 0, 2)), lengths)[:, :, None] + noise
    path = _walk_back(backwards, lengths, transitions)
    valid = valid_steps(emissions, lengths)[:, None]
    return ops.where(valid, ops.transpose(reverse(path, lengths), (1, 2, 0)), 0)


def posterior_decoding(emissions, lengths, transitions, start, end, jit_compile=None):
    """The tag of the largest marginal at each time step, which makes the fewest wrong tags on average.

    Returns:
        tags `(batch, time)` int32, 0 at padded positions, and their marginals `(batch, time)`.
    """
    posteriors = marginals(emissions, lengths, transitions, start, end, jit_compile)
    return argmax(posteriors), ops.max(posteriors, axis=-1)


def _into(transitions, lengths):
    """Transitions seen from the next tag: `(next, previous)`, or `(time - 1, batch, next, previous)`."""
    return ops.swapaxes(pairwise(transitions, lengths), -1, -2)


def _viterbi(emissions, lengths, transitions, start, end, tags_first=False, fused=False):
    scores, varying = unary(emissions, lengths, start, end), varies(transitions)
    axis, layout = (0, (0, 2, 1)) if tags_first else (1, (0, 1, 2))
    emitted = ops.transpose(scores, layout)
    if varying:
        into = ops.transpose(pairwise(transitions, lengths), (0, 2, 3, 1) if tags_first else (0, 1, 2, 3))
    else:
        into = transitions[:, :, None] if tags_first else transitions

    def arrive(best, matrix):
        if fused:
            # Written out, XLA makes one loop of it that keeps nothing but the maximum.
            ways = (best[:, tag, None] + matrix[..., tag, :] for tag in range(best.shape[1]))
            return functools.reduce(ops.maximum, ways)
        return ops.max(ops.expand_dims(best, axis + 1) + matrix, axis=axis)

    def extend(best, inputs):
        emitted, matrix = inputs if varying else (inputs, into)
        best = arrive(best, matrix) + emitted
        # Shifted so that the largest is 0: sums over thousands of steps would lose the differences to rounding.
        best -= ops.max(best, axis=axis, keepdims=True)
        return best, best

    first = emitted[0]
    best = scan(extend, first, (emitted[1:], into) if varying else emitted[1:], like=first)
    best = ops.transpose(ops.concatenate([first[None], best], axis=0), layout)
    path = _walk_back(reverse(best, lengths)[:, :, None], lengths, transitions)[:, :, 0]
    return ops.where(valid_steps(emissions, lengths), ops.transpose(reverse(path, lengths)), 0)


# What TensorFlow adds and reduces fastest: the tags before the batch, unless there are many of them.
_viterbi_tags_first = functools.partial(_viterbi, tags_first=True)
_viterbi_for_xla = functools.partial(_viterbi, fused=True)


def _walk_back(backwards, lengths, transitions):
    """From the last step to the first, the best tag given the one after it.

    Args:
        backwards: `(time, batch, paths, tags)` scores of what leads to each tag, each sequence reversed.

    Returns:
        `(time, batch, paths)` int32 tags, each sequence reversed.
    """
    into, varying = _into(transitions, lengths), varies(transitions)

    def trace(tag, inputs):
        best, matrix = inputs if varying else (inputs, into)
        rows = ops.take_along_axis(matrix, tag[:, :, None], axis=1) if varying else ops.take(matrix, tag, axis=0)
        tag = argmax(best + rows)
        return tag, tag

    last = argmax(backwards[0])
    inputs = (backwards[1:], reverse(into, ops.maximum(lengths - 1, 0))) if varying else backwards[1:]
    return ops.concatenate([last[None], scan(trace, last, inputs, like=last)], axis=0)


def _k_best(emissions, lengths, transitions, start, end, k):
    """Paths `(batch, k, time)`, and whether there are as many, `(batch, k)`. A state is `tag * k + rank`."""
    scores = unary(emissions, lengths, start, end)
    into, varying = _into(transitions, lengths), varies(transitions)
    batch, tags = ops.shape(scores)[1], emissions.shape[-1]
    nowhere = ops.full((1, 1, k - 1), 10 * FORBIDDEN, dtype=scores.dtype)
    first = ops.concatenate([scores[0][:, :, None], ops.broadcast_to(nowhere, (batch, tags, k - 1))], axis=-1)

    def extend(best, inputs):
        emitted, matrix = inputs if varying else (inputs, into)
        # (batch, next, previous, rank)
        ways = best[:, None, :, :] + matrix[..., None]
        best, came_from = ops.top_k(ops.reshape(ways, (-1, tags, tags * k)), k)
        best += emitted[:, :, None]
        best -= ops.max(best, axis=(1, 2), keepdims=True)
        came_from = ops.cast(ops.reshape(came_from, (-1, tags * k)), "int32")
        return best, (best, came_from)

    like = (first, ops.cast(ops.reshape(first, (-1, tags * k)), "int32"))
    best, came_from = scan(extend, first, (scores[1:], into) if varying else scores[1:], like=like)
    best = ops.reshape(ops.concatenate([first[None], best], axis=0), (-1, batch, tags * k))
    best, state = ops.top_k(reverse(best, lengths)[0], k)
    state = ops.cast(state, "int32")

    def trace(state, came_from):
        state = ops.take_along_axis(came_from, state, axis=1)
        return state, state

    states = scan(trace, state, reverse(came_from, ops.maximum(lengths - 1, 0)), like=state)
    path = reverse(ops.concatenate([state[None], states], axis=0), lengths) // k
    exists = best > 2 * FORBIDDEN
    # A sequence without steps has one path, the empty one.
    exists = ops.where(lengths[:, None] > 0, exists, ops.arange(k)[None] == 0)
    valid = valid_steps(emissions, lengths)[:, None] & exists[..., None]
    return ops.where(valid, ops.transpose(path, (1, 2, 0)), 0), exists
