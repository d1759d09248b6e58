"""Sums over all paths of a linear chain, by the forward and the backward recursion; the score of one path.

Potentials, and what their shapes mean, as in `trellis.components.lattice.potentials`. Scores are in nats.

Sources: Rabiner 1989 (forward-backward); Lafferty, McCallum and Pereira 2001 (linear-chain CRF); Hernando, Crespi and
Cybenko 2005 (entropy).
"""

import functools

from keras import ops

from trellis.components.lattice.potentials import (
    FORBIDDEN,
    at_last_step,
    pairwise,
    prepared,
    unary,
    valid_steps,
    varies,
)
from trellis.components.lattice.recursion import associative_scan, compiled, has_gpu, reverse, scan, use_xla

# A float32 below exp(-87) becomes 0. Where transitions span at most this range, a tag whose weight becomes 0 in the
# recursion on probabilities is behind another one by exp(-87), and can win back at most this range twice (going in
# and going out): what is lost weighs less than exp(-87 + 2 * 30) ~ 2e-12 of the total, whatever the emissions are.
PROBABILITY_RANGE = 30.0

# Up to so many tags XLA is faster with the batch in the innermost axis, see `_walk_batch_last`.
FEW_TAGS = 32

# From so many time steps on, and up to so many tags, a GPU multiplies matrices instead of walking: `_walk_in_parallel`.
PARALLEL_STEPS, PARALLEL_TAGS = 4096, 16


def path_score(emissions, tags, lengths, transitions, start, end):
    """Score of one path through each lattice.

    Args:
        tags: `(batch, time)` integers; values at padded positions are ignored.

    Returns:
        `(batch,)` scores.
    """
    emissions, lengths, transitions, start, end = prepared(emissions, lengths, transitions, start, end)
    valid, size = valid_steps(emissions, lengths), emissions.shape[-1]
    tags = ops.where(valid, ops.cast(tags, "int32"), 0)
    steps = ops.take_along_axis(emissions, tags[:, :, None], axis=2)[:, :, 0]
    pairs = tags[:, :-1] * size + tags[:, 1:]
    if varies(transitions):
        matrices = ops.reshape(transitions, (*ops.shape(pairs), size * size))
        pairs = ops.take_along_axis(matrices, pairs[:, :, None], axis=2)[:, :, 0]
    else:
        pairs = ops.take(ops.reshape(transitions, (-1,)), pairs)
    last = ops.take_along_axis(tags, ops.maximum(lengths - 1, 0)[:, None], axis=1)[:, 0]
    return (
        ops.sum(ops.where(valid, steps, 0.0), axis=1)
        + ops.sum(ops.where(valid[:, 1:], pairs, 0.0), axis=1)
        + ops.where(lengths > 0, ops.take(start, tags[:, 0]) + ops.take(end, last), 0.0)
    )


def log_partition(emissions, lengths, transitions, start, end, jit_compile=None):
    """Log of the summed exp-scores of all paths; differentiable (once) in every potential.

    The gradient is analytic: it comes from the messages of one walk in both directions, not from a differentiated loop.

    Returns:
        `(batch,)`, 0 for sequences of length 0.
    """
    emissions, lengths, transitions, start, end = prepared(emissions, lengths, transitions, start, end)
    infer, counts = _recursions(emissions, transitions, jit_compile)

    @ops.custom_gradient
    def partition(*potentials):
        # Stopped, or the loop inside would be differentiated as well and keep what that needs.
        emissions, *chain = map(ops.stop_gradient, potentials)
        total, *messages = infer(emissions, lengths, *chain)

        def gradient(*arguments, upstream=None):
            (upstream,) = arguments if upstream is None else (upstream,)
            return _like(potentials, counts(*messages, lengths, chain[0], upstream))

        return total, gradient

    return partition(emissions, transitions, start, end)


def marginals(emissions, lengths, transitions, start, end, jit_compile=None):
    """Posterior probability of each tag at each time step: `(batch, time, tags)`, zero at padded positions."""
    return _posteriors(*prepared(emissions, lengths, transitions, start, end), jit_compile)[0]


def pair_marginals(emissions, lengths, transitions, start, end, jit_compile=None):
    """Posterior probability of each pair of neighbouring tags: `(batch, time - 1, tags, tags)`, zero where padded."""
    emissions, lengths, transitions, start, end = prepared(emissions, lengths, transitions, start, end)
    if not varies(transitions):
        # With a matrix of its own for each pair of steps, the expected counts of transitions are these.
        batch, time, size = ops.shape(emissions)
        transitions = ops.broadcast_to(transitions, (batch, time - 1, size, size))
    return _posteriors(emissions, lengths, transitions, start, end, jit_compile)[1]


def expected_counts(emissions, lengths, transitions, start, end, jit_compile=None):
    """How often each potential is on a path on average, summed over the batch: what EM and learning need.

    Returns:
        counts of tags `(batch, time, tags)`, of transitions, in the shape of the transitions, of first tags `(tags,)`
        and of last tags `(tags,)`; and the log-partition `(batch,)`.
    """
    return _posteriors(*prepared(emissions, lengths, transitions, start, end), jit_compile)


def _posteriors(emissions, lengths, transitions, start, end, jit_compile):
    emissions, transitions, start, end = map(ops.stop_gradient, (emissions, transitions, start, end))
    infer, counts = _recursions(emissions, transitions, jit_compile)
    total, *messages = infer(emissions, lengths, transitions, start, end)
    found = counts(*messages, lengths, transitions, ops.ones_like(total))
    return *_like((emissions, transitions, start, end), found), total


def _like(potentials, counts):
    """The counts in the shapes of the potentials, which the graph that is the same for all shapes forgets."""
    return tuple(ops.reshape(each, ops.shape(potential)) for potential, each in zip(potentials, counts, strict=True))


def _recursions(emissions, transitions, jit_compile):
    """`_infer` and `_expected_counts`, which share their layout, as they are fastest."""
    xla = use_xla(jit_compile)
    time, tags = emissions.shape[1:]
    # How deep a scan is has to be known when the graph is made.
    if time is not None and time >= PARALLEL_STEPS and tags <= PARALLEL_TAGS and has_gpu():
        return compiled(_infer_in_parallel, xla, fixed_time=True), compiled(_expected_counts, xla)
    if xla and emissions.shape[-1] <= FEW_TAGS and not varies(transitions):
        return compiled(_infer_few, xla), compiled(_count_few, xla, tags_axis=1)
    return compiled(_infer, xla), compiled(_expected_counts, xla)


def log_forward(emissions, lengths, transitions, start, end, jit_compile=None):
    """Forward messages: the log of the summed exp-scores of all paths up to and including each tag.

    Shifted so that their exponentials sum to one at each time step: `(batch, time, tags)`, 0 at padded positions. `end`
    counts at the last real time step.
    """
    emissions, lengths, transitions, start, end = map(
        ops.stop_gradient, prepared(emissions, lengths, transitions, start, end)
    )
    messages = compiled(_log_forward, use_xla(jit_compile))(emissions, lengths, transitions, start, end)
    return ops.reshape(ops.transpose(messages, (1, 0, 2)), ops.shape(emissions))


def entropy(emissions, lengths, transitions, start, end, jit_compile=None):
    """Entropy of the distribution over paths, in nats, `(batch,)`; 0 for sequences of length 0. Not differentiable."""
    potentials = map(ops.stop_gradient, prepared(emissions, lengths, transitions, start, end))
    return compiled(_entropy, use_xla(jit_compile))(*potentials)


class _Probabilities:
    """Messages as weights that sum to one: fast, and exact while transitions span a moderate range."""

    one, zero = 1.0, 0.0
    enter = staticmethod(ops.exp)
    leave = staticmethod(ops.log)
    probability = staticmethod(lambda weights: weights)
    times = staticmethod(ops.multiply)
    over = staticmethod(ops.divide)
    total = staticmethod(ops.sum)

    @staticmethod
    def along(message, matrix):
        """A message `(..., batch, tags)` through `(..., tags, tags)`, or through `(..., batch, tags, tags)`."""
        if len(matrix.shape) == len(message.shape):
            return ops.matmul(message, matrix)
        return ops.matmul(message[..., None, :], matrix)[..., 0, :]

    @staticmethod
    def along_batch_last(message, matrix):
        """A message `(tags, batch)` through `(tags, tags)`."""
        return functools.reduce(ops.add, (message[tag] * matrix[tag, :, None] for tag in range(message.shape[0])))

    matrix_product = staticmethod(ops.matmul)


class _Logarithms:
    """Messages as the logs of such weights: slower, and exact for any potentials."""

    one, zero = 0.0, FORBIDDEN
    enter = leave = staticmethod(lambda logs: logs)
    probability = staticmethod(ops.exp)
    times = staticmethod(ops.add)
    over = staticmethod(ops.subtract)
    total = staticmethod(ops.logsumexp)

    @staticmethod
    def along(message, matrix):
        if len(matrix.shape) == len(message.shape):
            matrix = matrix[..., None, :, :]
        return ops.logsumexp(message[..., :, None] + matrix, axis=-2)

    @staticmethod
    def along_batch_last(message, matrix):
        return ops.logsumexp(message[:, None] + matrix[..., None], axis=0)

    @staticmethod
    def matrix_product(first, second):
        """`(..., tags, tags)`, one inner index at a time: all at once would need `tags` times the memory."""
        ways = [first[..., :, tag, None] + second[..., None, tag, :] for tag in range(first.shape[-1])]
        highest = functools.reduce(ops.maximum, ways)
        return highest + ops.log(functools.reduce(ops.add, (ops.exp(way - highest) for way in ways)))


def _either(transitions, branch):
    """`branch(space)` in the space that is fast, or where that would not be exact, in the one that always is."""
    spread = ops.max(transitions, initial=FORBIDDEN) - ops.min(transitions, initial=-FORBIDDEN)
    return ops.cond(spread <= PROBABILITY_RANGE, lambda: branch(_Probabilities), lambda: branch(_Logarithms))


def _infer(emissions, lengths, transitions, start, end, walk=None):
    """The forward recursion, and the backward one, which does not wait for it.

    Args:
        walk: `_walk` (the default); `_walk_in_parallel`; or `_walk_batch_last`, whose messages are
            `(time, tags, batch)` instead of `(time, batch, tags)`.

    Returns:
        the log-partition `(batch,)`; the posteriors of tags `(time, batch, tags)`; and two messages of that shape:
        up to and including a time step, which sum to one, and from and including a time step, scaled so that
        left * exp(transition) * right is the posterior of a pair. The messages are in the space that `_either` chooses.
    """
    matrices = pairwise(transitions, lengths)
    highest = ops.max(matrices, initial=FORBIDDEN)
    matrices -= highest

    def messages(space):
        return (walk or _walk)(space, unary(emissions, lengths, start, end), matrices, lengths)

    scales, posterior, left, right = _either(matrices, messages)
    scales = ops.where(ops.transpose(valid_steps(emissions, lengths)), scales, 0.0)
    steps = ops.cast(ops.maximum(lengths - 1, 0), scales.dtype)
    return ops.sum(scales, axis=0) + highest * steps, posterior, left, right


def _walk(space, scores, matrices, lengths):
    """In both directions, backwards over the reversed sequences: log scales `(time, batch)`, and see `_infer`."""
    top = ops.max(scores, axis=-1, keepdims=True)
    scores -= top
    varying = varies(matrices)
    turned = reverse(matrices, ops.maximum(lengths - 1, 0)) if varying else matrices
    emitted, weights, back = space.enter(scores), space.enter(matrices), space.enter(ops.swapaxes(turned, -1, -2))

    def forward(message, inputs):
        emitted, matrix = inputs if varying else (inputs, weights)
        outgoing = space.times(space.along(message, matrix), emitted)
        scale = space.total(outgoing, axis=-1, keepdims=True)
        message = space.over(outgoing, scale)
        return message, (message, scale)

    def backward(message, inputs):
        right, matrix = inputs if varying else (inputs, back)
        message = space.along(space.times(message, right), matrix)
        message = space.over(message, space.total(message, axis=-1, keepdims=True))
        return message, message

    scale = space.total(emitted[0], axis=-1, keepdims=True)
    first = space.over(emitted[0], scale)
    messages, scales = scan(forward, first, (emitted[1:], weights) if varying else emitted[1:], like=(first, scale))
    left = ops.concatenate([first[None], messages], axis=0)
    scales = ops.concatenate([scale[None], scales], axis=0)
    inputs = reverse(emitted, lengths)[:-1]
    nothing = ops.full_like(first, space.one)
    right = scan(backward, nothing, (inputs, back) if varying else inputs, like=first)
    right = reverse(ops.concatenate([nothing[None], right], axis=0), lengths)
    right = space.over(right, space.total(space.times(left, right), axis=-1, keepdims=True))
    # At padding the recursion went on, and nothing bounds what it met there.
    valid = ops.arange(ops.shape(scores)[0], dtype="int32")[:, None] < lengths
    right = ops.where(valid[..., None], right, space.zero)
    return (
        (space.leave(scales) + top)[..., 0],
        space.probability(space.times(left, right)),
        left,
        space.times(right, space.over(emitted, scales)),
    )


def _walk_batch_last(space, scores, matrix, lengths):
    """`_walk` over `(time, tags, batch)` as XLA runs it fastest.

    Its loops are vectors along the innermost axis, and nine or twenty tags fill no vector. The products are written
    out, and sequences are not reversed: padding is walked through from behind without changing the message.
    """
    scores = ops.transpose(scores, (0, 2, 1))
    valid = (ops.arange(ops.shape(scores)[0], dtype="int32")[:, None] < lengths)[:, None]
    top = ops.max(scores, axis=1, keepdims=True)
    emitted, weights = space.enter(scores - top), space.enter(matrix)

    def forward(message, emitted):
        outgoing = space.times(space.along_batch_last(message, weights), emitted)
        scale = space.total(outgoing, axis=0, keepdims=True)
        message = space.over(outgoing, scale)
        return message, (message, scale)

    def backward(message, inputs):
        emitted, real = inputs
        outgoing = space.along_batch_last(message, ops.transpose(weights))
        right = ops.where(real, space.over(outgoing, space.total(outgoing, axis=0, keepdims=True)), space.one)
        return space.times(right, emitted), right

    scale = space.total(emitted[0], axis=0, keepdims=True)
    first = space.over(emitted[0], scale)
    messages, scales = scan(forward, first, emitted[1:], like=(first, scale))
    left = ops.concatenate([first[None], messages], axis=0)
    scales = ops.concatenate([scale[None], scales], axis=0)
    right = scan(backward, emitted[-1], (ops.flip(emitted[:-1], 0), ops.flip(valid[1:], 0)), like=first)
    right = ops.flip(ops.concatenate([ops.full_like(first, space.one)[None], right], axis=0), 0)
    right = space.over(right, space.total(space.times(left, right), axis=1, keepdims=True))
    right = ops.where(valid, right, space.zero)
    return (
        (space.leave(scales) + top)[:, 0],
        space.probability(space.times(left, right)),
        left,
        space.times(right, space.over(emitted, scales)),
    )


def _walk_in_parallel(space, scores, matrices, lengths):
    """`_walk` with a depth that grows with the logarithm of the time: prefix and suffix products of matrices.

    The forward message at a time step is the first one through the product of all matrices (transition times emission)
    up to there, and products associate (Blelloch 1990; Sarkka and Garcia-Fernandez 2021). That is `tags` times the
    work of a walk, for machines on which the number of steps in a row is what costs.
    """
    top = ops.max(scores, axis=-1, keepdims=True)
    emitted, weights = space.enter(scores - top), space.enter(matrices)
    time, _, tags = ops.shape(scores)
    valid = ops.arange(time, dtype="int32")[:, None] < lengths
    # Nothing is lost where padding starts: through the identity a message stays what it is.
    identity = ops.where(ops.eye(tags, dtype="bool"), space.one, space.zero)
    steps = ops.where(valid[1:, :, None, None], space.times(weights, emitted[1:, :, None, :]), identity)

    def scaled(matrix):
        return space.over(matrix, space.total(matrix, axis=(-2, -1), keepdims=True))

    def product(first, second):
        return scaled(space.matrix_product(first, second))

    def normalized(message):
        return space.over(message, space.total(message, axis=-1, keepdims=True))

    steps = scaled(steps)
    prefixes = associative_scan(product, steps)
    suffixes = ops.flip(associative_scan(lambda later, earlier: product(earlier, later), ops.flip(steps, 0)), 0)

    scale = space.total(emitted[0], axis=-1, keepdims=True)
    first = space.over(emitted[0], scale)
    before = ops.concatenate([first[None], normalized(space.along(first[None], prefixes))[:-1]], axis=0)
    outgoing = space.times(space.along(before, weights), emitted[1:])
    scales = space.total(outgoing, axis=-1, keepdims=True)
    left = ops.concatenate([first[None], space.over(outgoing, scales)], axis=0)
    scales = ops.concatenate([scale[None], scales], axis=0)

    right = normalized(space.total(suffixes, axis=-1))
    right = ops.concatenate([right, ops.full_like(first, space.one)[None]], axis=0)
    right = space.over(right, space.total(space.times(left, right), axis=-1, keepdims=True))
    right = ops.where(valid[..., None], right, space.zero)
    return (
        (space.leave(scales) + top)[..., 0],
        space.probability(space.times(left, right)),
        left,
        space.times(right, space.over(emitted, scales)),
    )


_infer_few = functools.partial(_infer, walk=_walk_batch_last)
_infer_in_parallel = functools.partial(_infer, walk=_walk_in_parallel)


def _expected_counts(posterior, left, right, lengths, transitions, upstream):
    """Gradient of the log-partition times `upstream (batch,)`: expected counts of tags, pairs, first and last tags."""
    size = ops.shape(posterior)[-1]
    valid = ops.arange(ops.shape(posterior)[0], dtype="int32")[:, None] < lengths
    weight = ops.where(valid, upstream, 0.0)[..., None]
    varying = varies(transitions)
    matrices = pairwise(transitions, lengths)
    matrices = matrices - ops.max(matrices, initial=FORBIDDEN)
    left, right = left[:-1], right[1:]

    def pairs(space):
        if varying:
            logs = space.times(space.times(left[..., None], space.enter(matrices)), right[:, :, None, :])
            return space.probability(logs) * weight[1:, ..., None]
        if space is _Probabilities:
            rows = ops.transpose(ops.reshape(left, (-1, size)))
            return space.enter(matrices) * ops.matmul(rows, ops.reshape(right * weight[1:], (-1, size)))

        def row(nothing, inputs):
            left, scores = inputs
            return nothing, ops.sum(ops.exp(left[..., None] + scores + right) * weight[1:], axis=(0, 1))

        return scan(row, matrices[0, 0], (ops.transpose(left, (2, 0, 1)), matrices), like=matrices[0])

    counts, pairs = posterior * weight, _either(matrices, pairs)
    if varying:
        pairs = ops.transpose(pairs, (1, 0, 2, 3))
    last = ops.sum(at_last_step(counts, lengths), axis=0)
    return ops.transpose(counts, (1, 0, 2)), pairs, ops.sum(counts[0], axis=0), last


def _count_few(posterior, left, right, lengths, transitions, upstream):
    """`_expected_counts` of `(time, tags, batch)`."""
    times = ops.arange(ops.shape(posterior)[0], dtype="int32")[:, None, None]
    weight = ops.where(times < lengths, upstream, 0.0)
    counts = posterior * weight
    matrix = transitions - ops.max(transitions, initial=FORBIDDEN)
    left, right, tags = left[:-1], right[1:], ops.shape(posterior)[1]

    def pairs(space):
        if space is _Probabilities:
            rows = (ops.reshape(ops.transpose(each, (1, 0, 2)), (tags, -1)) for each in (left, right * weight[1:]))
            return ops.exp(matrix) * ops.matmul(next(rows), ops.transpose(next(rows)))

        def row(nothing, inputs):
            left, scores = inputs
            return nothing, ops.sum(ops.exp(left[:, None] + scores[:, None] + right) * weight[1:], axis=(0, 2))

        return scan(row, matrix[0], (ops.transpose(left, (1, 0, 2)), matrix), like=matrix[0])

    at_end = ops.take_along_axis(counts, ops.maximum(lengths - 1, 0)[None, None], axis=0)[0]
    last = ops.sum(ops.where(lengths > 0, at_end, 0.0), axis=-1)
    return ops.transpose(counts, (2, 0, 1)), _either(matrix, pairs), ops.sum(counts[0], axis=-1), last


def _log_forward(emissions, lengths, transitions, start, end):
    """`(time, batch, tags)`."""
    _, _, left, _ = _infer(emissions, lengths, transitions, start, end)
    matrices = pairwise(transitions, lengths)
    valid = ops.transpose(valid_steps(emissions, lengths))[..., None]
    return ops.where(valid, _either(matrices, lambda space: space.leave(left)), 0.0)


def _entropy(emissions, lengths, transitions, start, end):
    forward = _log_forward(emissions, lengths, transitions, start, end)
    matrices, varying = pairwise(transitions, lengths), varies(transitions)

    def step(entropies, inputs):
        left, matrix = inputs if varying else (inputs, matrices)
        logs = ops.log_softmax(left[..., None] + matrix, axis=-2)
        entropies = ops.sum(ops.exp(logs) * (entropies[..., None] - logs), axis=-2)
        return entropies, entropies

    nothing = ops.zeros_like(forward[0])
    steps = scan(step, nothing, (forward[:-1], matrices) if varying else forward[:-1], like=nothing)
    steps = ops.concatenate([nothing[None], steps], axis=0)
    logs = ops.log_softmax(forward, axis=-1)
    return ops.where(lengths > 0, at_last_step(ops.sum(ops.exp(logs) * (steps - logs), axis=-1), lengths), 0.0)
