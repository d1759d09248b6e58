"""The linear chain: a lattice of tags over time, walked by the forward, backward and Viterbi recursions.

Every function is a pure function of potentials (log scores):

    emissions    (batch, time, tags)  score of each tag at each time step
    lengths      (batch,)             number of real time steps; later ones are padding and never matter
    transitions  (tags, tags)         score of going from tag [row] to tag [column]
    start, end   (tags,)              score of the first and of the last tag

The score of a path is the sum of the potentials along it; a sequence of length 0 has one (empty) path, of score 0.
Half-precision inputs are computed in float32. Potentials of -inf mean "forbidden" and are treated as -1e30.

Sources: Rabiner 1989 (forward-backward, Viterbi); Lafferty, McCallum and Pereira 2001 (linear-chain CRF).
"""

import functools
import os

import tensorflow as tf

FORBIDDEN = -1e30

# exp() of a float32 underflows below about -87. With transitions that span at most this range, what underflows
# in the matrix-product recursion weighs less than exp(-87 + 60) ~ 2e-12 of the total, whatever the emissions are.
MATRIX_PRODUCT_RANGE = 60.0


def use_xla(jit_compile=None):
    """Whether the recursions are compiled with XLA: the argument, else the variable TRELLIS_XLA, else yes."""
    if jit_compile is None:
        return os.environ.get("TRELLIS_XLA", "1") != "0"
    return bool(jit_compile)


def path_score(emissions, tags, lengths, transitions, start, end):
    """Score of one path through each lattice.

    Args:
        tags: `(batch, time)` integers; values at padded positions are ignored.

    Returns:
        `(batch,)` scores.
    """
    emissions, transitions, start, end = _potentials(emissions, transitions, start, end)
    time = tf.shape(emissions)[1]
    valid = tf.sequence_mask(lengths, time)
    tags = tf.where(valid, tf.cast(tags, tf.int32), 0)
    steps = tf.gather(emissions, tags, batch_dims=2)
    unary = tf.reduce_sum(tf.where(valid, steps, 0.0), axis=1)
    pairs = tf.gather_nd(transitions, tf.stack([tags[:, :-1], tags[:, 1:]], axis=-1))
    pairwise = tf.reduce_sum(tf.where(valid[:, 1:], pairs, 0.0), axis=1)
    last = tf.gather(tags, tf.maximum(lengths - 1, 0), batch_dims=1)
    ends = tf.gather(start, tags[:, 0]) + tf.gather(end, last)
    return unary + pairwise + tf.where(lengths > 0, ends, 0.0)


def log_partition(emissions, lengths, transitions, start, end, jit_compile=None):
    """Log of the summed exp-scores of all paths, in nats; differentiable in every potential.

    The gradient is computed by one backward recursion, not by differentiating the forward loop.

    Returns:
        `(batch,)`, 0 for sequences of length 0.
    """
    dtype = emissions.dtype
    emissions, transitions, start, end = _potentials(emissions, transitions, start, end)
    tags, xla = emissions.shape[-1], use_xla(jit_compile)
    forward, gradient = _compiled(_forward, tags, xla), _compiled(_gradient, tags, xla)

    @tf.custom_gradient
    def partition(emissions, transitions, start, end):
        # Stopped, or the loops inside would be differentiated as well and keep what that needs.
        emissions, transitions, start, end = map(
            tf.stop_gradient, (emissions, transitions, start, end)
        )
        total, alphas = forward(emissions, lengths, transitions, start, end)

        def backward(upstream):
            return gradient(upstream, alphas, emissions, lengths, transitions, end)

        return total, backward

    total = partition(emissions, transitions, start, end)
    return tf.cast(total, dtype) if dtype == tf.float64 else total


def marginals(emissions, lengths, transitions, start, end, jit_compile=None):
    """Posterior probability of each tag at each time step: `(batch, time, tags)`, zero at padded positions."""
    emissions, transitions, start, end = _potentials(emissions, transitions, start, end)
    tags, xla = emissions.shape[-1], use_xla(jit_compile)
    _, alphas = _compiled(_forward, tags, xla)(emissions, lengths, transitions, start, end)
    betas = _compiled(_backward, tags, xla)(emissions, lengths, transitions, end)
    return _unary(alphas, betas, lengths)


def viterbi(emissions, lengths, transitions, start, end):
    """The best path through each lattice; of equal paths, the one with the lower tags at the latest difference.

    Returns:
        tags `(batch, time)` int32, 0 at padded positions, and scores `(batch,)`.
    """
    emissions, transitions, start, end = _potentials(emissions, transitions, start, end)
    batch, time, tags = tf.unstack(tf.shape(emissions))
    size = emissions.shape[-1]
    steps = _over_time(emissions)
    identity = tf.range(tags)[tf.newaxis, :]

    def forward(t, best, pointers):
        scores = best[:, :, tf.newaxis] + transitions
        inside = (t < lengths)[:, tf.newaxis]
        ahead = _normalized(tf.reduce_max(scores, axis=1) + steps.read(t))
        pointer = tf.argmax(scores, axis=1, output_type=tf.int32)
        return (
            t + 1,
            tf.where(inside, ahead, best),
            pointers.write(t, tf.where(inside, pointer, identity)),
        )

    pointers = tf.TensorArray(tf.int32, size=time, element_shape=[None, size])
    pointers = pointers.write(0, tf.broadcast_to(identity, [batch, tags]))
    _, best, pointers = tf.while_loop(
        lambda t, *_: t < time,
        forward,
        (tf.constant(1), _normalized(start + emissions[:, 0]), pointers),
        maximum_iterations=time,
    )

    def trace(t, tag, path):
        path = path.write(t, tag)
        return t - 1, tf.gather(pointers.read(t), tag, batch_dims=1), path

    last = tf.argmax(best + end, axis=1, output_type=tf.int32)
    path = tf.TensorArray(tf.int32, size=time, element_shape=[None])
    _, _, path = tf.while_loop(
        lambda t, *_: t >= 0, trace, (time - 1, last, path), maximum_iterations=time
    )
    path = tf.transpose(path.stack())
    path = tf.where(tf.sequence_mask(lengths, time), path, 0)
    return path, path_score(emissions, path, lengths, transitions, start, end)


def _potentials(*tensors):
    dtype = tf.float64 if tf.convert_to_tensor(tensors[0]).dtype == tf.float64 else tf.float32
    return [tf.maximum(tf.cast(tensor, dtype), FORBIDDEN) for tensor in tensors]


def _normalized(log_weights):
    """Shifted so that the largest is 0: sums over thousands of steps would lose the differences to rounding."""
    return log_weights - tf.reduce_max(log_weights, axis=-1, keepdims=True)


def _over_time(values):
    """`(batch, time, ...)` as a TensorArray over time."""
    order = [1, 0, *range(2, values.shape.rank)]
    steps = tf.TensorArray(
        values.dtype, size=tf.shape(values)[1], element_shape=[None, *values.shape[2:]]
    )
    return steps.unstack(tf.transpose(values, order))


def _stepper(transitions, product):
    """`log_weights (batch, from) -> log_weights (batch, to)`: one step along the transitions, in the log semiring."""
    if product:
        top = tf.reduce_max(transitions)
        weights = tf.exp(transitions - top)
        return lambda logs: tf.math.log(tf.matmul(tf.exp(_normalized(logs)), weights)) + (
            top + tf.reduce_max(logs, axis=-1, keepdims=True)
        )
    return lambda logs: tf.reduce_logsumexp(logs[:, :, tf.newaxis] + transitions, axis=1)


def _either(transitions, branch):
    """`branch(product=True)` where the matrix product is exact, else `branch(product=False)`."""
    spread = tf.reduce_max(transitions) - tf.reduce_min(transitions)
    return tf.cond(
        spread <= MATRIX_PRODUCT_RANGE, lambda: branch(product=True), lambda: branch(product=False)
    )


def _forward(emissions, lengths, transitions, start, end):
    """Log-partition `(batch,)` and forward messages `(batch, time, tags)`, each step's largest shifted to 0."""
    time = tf.shape(emissions)[1]

    def run(product):
        along = _stepper(transitions, product)
        steps = _over_time(emissions)
        first = start + emissions[:, 0]
        scale = tf.reduce_max(first, axis=-1)

        def body(t, alpha, scale, alphas):
            ahead = along(alpha) + steps.read(t)
            top = tf.reduce_max(ahead, axis=-1)
            inside = t < lengths
            alpha = tf.where(inside[:, tf.newaxis], ahead - top[:, tf.newaxis], alpha)
            return t + 1, alpha, scale + tf.where(inside, top, 0.0), alphas.write(t, alpha)

        alphas = tf.TensorArray(
            emissions.dtype, size=time, element_shape=[None, emissions.shape[-1]]
        )
        alpha = first - scale[:, tf.newaxis]
        _, alpha, scale, alphas = tf.while_loop(
            lambda t, *_: t < time,
            body,
            (tf.constant(1), alpha, scale, alphas.write(0, alpha)),
            maximum_iterations=time,
        )
        total = scale + tf.reduce_logsumexp(alpha + end, axis=-1)
        return tf.where(lengths > 0, total, 0.0), tf.transpose(alphas.stack(), [1, 0, 2])

    return _either(transitions, run)


def _backward(emissions, lengths, transitions, end):
    """Backward messages `(batch, time, tags)`, each step's largest shifted to 0."""
    batch, time = tf.shape(emissions)[0], tf.shape(emissions)[1]

    def run(product):
        along = _stepper(tf.transpose(transitions), product)
        steps = _over_time(emissions)
        last = tf.broadcast_to(_normalized(end), [batch, tf.shape(emissions)[2]])

        def body(t, beta, betas):
            behind = _normalized(along(beta + steps.read(t + 1)))
            beta = tf.where((t + 1 < lengths)[:, tf.newaxis], behind, last)
            return t - 1, beta, betas.write(t, beta)

        betas = tf.TensorArray(
            emissions.dtype, size=time, element_shape=[None, emissions.shape[-1]]
        )
        _, _, betas = tf.while_loop(
            lambda t, *_: t >= 0,
            body,
            (time - 2, last, betas.write(time - 1, last)),
            maximum_iterations=time,
        )
        return tf.transpose(betas.stack(), [1, 0, 2])

    return _either(transitions, run)


def _unary(alphas, betas, lengths):
    valid = tf.sequence_mask(lengths, tf.shape(alphas)[1])
    return tf.where(valid[:, :, tf.newaxis], tf.nn.softmax(alphas + betas), 0.0)


def _gradient(upstream, alphas, emissions, lengths, transitions, end):
    """Gradient of the log-partition: the expected counts of each tag, pair, first and last tag."""
    betas = _backward(emissions, lengths, transitions, end)
    weight = upstream[:, tf.newaxis]
    unary = _unary(alphas, betas, lengths) * weight[:, :, tf.newaxis]
    index = tf.maximum(lengths - 1, 0)
    final = tf.one_hot(index, tf.shape(alphas)[1], dtype=unary.dtype)
    last = tf.einsum("bt,btk->k", final, unary)

    time = tf.shape(emissions)[1]
    tags = emissions.shape[-1]
    inside = tf.cast(tf.sequence_mask(lengths - 1, time - 1), unary.dtype) * weight
    before, after = alphas[:, :-1], _normalized(emissions[:, 1:] + betas[:, 1:])

    def expected_pairs(product):
        if product:
            pair = tf.exp(transitions - tf.reduce_max(transitions))
            left, right = tf.exp(before), tf.exp(after)
            total = tf.einsum("btj,btj->bt", left, tf.einsum("jk,btk->btj", pair, right))
            left *= (inside / total)[:, :, tf.newaxis]
            return pair * tf.matmul(
                tf.reshape(left, [-1, tags]), tf.reshape(right, [-1, tags]), transpose_a=True
            )
        befores, afters, insides = map(_over_time, (before, after, inside))

        def body(t, counts):
            logs = befores.read(t)[:, :, tf.newaxis] + transitions
            logs += afters.read(t)[:, tf.newaxis, :]
            total = tf.reduce_logsumexp(logs, axis=[1, 2], keepdims=True)
            weights = insides.read(t)[:, tf.newaxis, tf.newaxis]
            return t + 1, counts + tf.reduce_sum(tf.exp(logs - total) * weights, axis=0)

        counts = tf.zeros([tags, tags], unary.dtype)
        return tf.while_loop(
            lambda t, _: t < time - 1, body, (0, counts), maximum_iterations=time
        )[1]

    return unary, _either(transitions, expected_pairs), tf.reduce_sum(unary[:, 0], axis=0), last


@functools.cache
def _compiled(function, tags, xla):
    """One graph for each number of tags, whatever the batch and the time; XLA compiles it once a shape."""
    del tags
    return tf.function(function, jit_compile=xla, reduce_retracing=True, autograph=False)
