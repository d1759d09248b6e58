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
    """Whether the recursions are compiled with XLA: the argument, else whether TRELLIS_XLA is 1.

    Compiled they run several times faster, and each new shape takes about a second to compile.
    """
    if jit_compile is None:
        return os.environ.get("TRELLIS_XLA") == "1"
    return bool(jit_compile)


def path_score(emissions, tags, lengths, transitions, start, end):
    """Score of one path through each lattice.

    Args:
        tags: `(batch, time)` integers; values at padded positions are ignored.

    Returns:
        `(batch,)` scores.
    """
    emissions, transitions, start, end = _potentials(emissions, transitions, start, end)
    lengths = tf.cast(lengths, tf.int32)
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

    The gradient comes from the backward messages, not from differentiating the forward loop.

    Returns:
        `(batch,)`, 0 for sequences of length 0.
    """
    emissions, transitions, start, end = _potentials(emissions, transitions, start, end)
    lengths = tf.cast(lengths, tf.int32)
    tags, xla = emissions.shape[-1], use_xla(jit_compile)
    messages, gradient = _compiled(_messages, tags, xla), _compiled(_gradient, tags, xla)

    @tf.custom_gradient
    def partition(emissions, transitions, start, end):
        # Stopped, or the loop inside would be differentiated as well and keep what that needs.
        emissions, transitions, start, end = map(tf.stop_gradient, (emissions, transitions, start, end))
        total, before, after = messages(emissions, lengths, transitions, start, end)
        return total, lambda upstream: gradient(upstream, emissions, before, after, lengths, transitions)

    return partition(emissions, transitions, start, end)


def marginals(emissions, lengths, transitions, start, end, jit_compile=None):
    """Posterior probability of each tag at each time step: `(batch, time, tags)`, zero at padded positions."""
    emissions, transitions, start, end = _potentials(emissions, transitions, start, end)
    lengths = tf.cast(lengths, tf.int32)
    messages = _compiled(_messages, emissions.shape[-1], use_xla(jit_compile))
    _, before, after = messages(emissions, lengths, transitions, start, end)
    return _unary(emissions, before, after, lengths)


def viterbi(emissions, lengths, transitions, start, end):
    """The best path through each lattice; of equal paths, the one with the lower tags at the latest difference.

    Returns:
        tags `(batch, time)` int32, 0 at padded positions, and scores `(batch,)`.
    """
    emissions, transitions, start, end = _potentials(emissions, transitions, start, end)
    lengths = tf.cast(lengths, tf.int32)
    batch, time, tags = tf.unstack(tf.shape(emissions))
    size = emissions.shape[-1]
    steps = _over_steps(tf.transpose(emissions, [1, 0, 2]))
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
    _, _, path = tf.while_loop(lambda t, *_: t >= 0, trace, (time - 1, last, path), maximum_iterations=time)
    path = tf.transpose(path.stack())
    path = tf.where(tf.sequence_mask(lengths, time), path, 0)
    return path, path_score(emissions, path, lengths, transitions, start, end)


def _potentials(*tensors):
    dtype = tf.float64 if tf.convert_to_tensor(tensors[0]).dtype == tf.float64 else tf.float32
    return [tf.maximum(tf.cast(tensor, dtype), FORBIDDEN) for tensor in tensors]


def _normalized(log_weights):
    """Shifted so that the largest is 0: sums over thousands of steps would lose the differences to rounding."""
    return log_weights - tf.reduce_max(log_weights, axis=-1, keepdims=True)


def _over_steps(values):
    """`(time, ...)` as a TensorArray over time."""
    return tf.TensorArray(values.dtype, size=tf.shape(values)[0], element_shape=values.shape[1:]).unstack(values)


def _either(transitions, branch):
    """`branch(product=True)` where the matrix product is exact, else `branch(product=False)`."""
    spread = tf.reduce_max(transitions) - tf.reduce_min(transitions)
    return tf.cond(spread <= MATRIX_PRODUCT_RANGE, lambda: branch(product=True), lambda: branch(product=False))


def _messages(emissions, lengths, transitions, start, end):
    """Both recursions in one loop: step `s` takes the forward one to time `s`, the backward one to `time - 1 - s`.

    With its own emission counted in, the backward message obeys the forward recursion on the transposed transitions,
    so the two are one batched product. Every message is shifted so that its largest entry is 0.

    Returns:
        the log-partition `(batch,)`, and the messages `(batch, time, tags)` of all paths up to and including a tag,
        and from and including it.
    """
    time, tags = tf.shape(emissions)[1], emissions.shape[-1]
    order = tf.transpose(emissions, [1, 0, 2])
    both = tf.stack([order, order[::-1]], axis=1)
    times = tf.range(time)[:, tf.newaxis]
    begins = tf.stack([tf.zeros_like(lengths) == times, lengths - 1 == times[::-1]], axis=1)[..., tf.newaxis]
    both += tf.where(begins, tf.stack([start, end])[:, tf.newaxis, :], 0.0)
    goes_on = tf.broadcast_to(tf.cast(~begins, emissions.dtype), tf.shape(both))
    matrices = tf.stack([transitions, tf.transpose(transitions)])

    def run(product):
        top = tf.reduce_max(transitions)
        weights = tf.exp(matrices - top)
        emitted, going_on = _over_steps(both), _over_steps(goes_on)

        def body(step, message, messages, scales):
            if product:
                along = tf.math.log(tf.matmul(tf.exp(message), weights)) + top
            else:
                along = tf.reduce_logsumexp(message[..., tf.newaxis] + matrices[:, tf.newaxis], axis=-2)
            message = emitted.read(step) + going_on.read(step) * along
            scale = tf.reduce_max(message, axis=-1, keepdims=True)
            message -= scale
            return step + 1, message, messages.write(step, message), scales.write(step, scale[0, :, 0])

        empty = functools.partial(tf.TensorArray, emissions.dtype, size=time)
        _, _, messages, scales = tf.while_loop(
            lambda step, *_: step < time,
            body,
            (
                tf.constant(0),
                tf.zeros_like(both[0]),
                empty(element_shape=[2, None, tags]),
                empty(element_shape=[None]),
            ),
            maximum_iterations=time,
        )
        return messages.stack(), scales.stack()

    messages, scales = _either(transitions, run)
    before = tf.transpose(messages[:, 0], [1, 0, 2])
    after = tf.transpose(messages[::-1, 1], [1, 0, 2])
    last = tf.gather(before, tf.maximum(lengths - 1, 0), batch_dims=1)
    total = tf.reduce_logsumexp(last + end, axis=-1)
    total += tf.reduce_sum(tf.where(tf.transpose(times < lengths), tf.transpose(scales), 0.0), axis=1)
    return tf.where(lengths > 0, total, 0.0), before, after


def _unary(emissions, before, after, lengths):
    valid = tf.sequence_mask(lengths, tf.shape(emissions)[1])
    # The emission of the step itself is counted in both messages.
    return tf.where(valid[:, :, tf.newaxis], tf.nn.softmax(before + after - emissions), 0.0)


def _gradient(upstream, emissions, before, after, lengths, transitions):
    """Gradient of the log-partition: the expected counts of each tag, pair, first and last tag."""
    time, tags = tf.shape(emissions)[1], emissions.shape[-1]
    weight = upstream[:, tf.newaxis]
    unary = _unary(emissions, before, after, lengths) * weight[:, :, tf.newaxis]
    last = tf.reduce_sum(tf.gather(unary, tf.maximum(lengths - 1, 0), batch_dims=1), axis=0)
    inside = tf.cast(tf.sequence_mask(lengths - 1, time - 1), unary.dtype) * weight
    lefts, rights = before[:, :-1], after[:, 1:]

    def expected_pairs(product):
        if product:
            pair = tf.exp(transitions - tf.reduce_max(transitions))
            left, right = tf.reshape(tf.exp(lefts), [-1, tags]), tf.reshape(tf.exp(rights), [-1, tags])
            total = tf.reduce_sum(tf.matmul(left, pair) * right, axis=1)
            left *= (tf.reshape(inside, [-1]) / total)[:, tf.newaxis]
            return pair * tf.matmul(left, right, transpose_a=True)
        left, right, insides = (_over_steps(tf.einsum("bt...->tb...", x)) for x in (lefts, rights, inside))

        def body(step, counts):
            logs = left.read(step)[:, :, tf.newaxis] + transitions + right.read(step)[:, tf.newaxis, :]
            posteriors = tf.exp(logs - tf.reduce_logsumexp(logs, axis=[1, 2], keepdims=True))
            weighted = posteriors * insides.read(step)[:, tf.newaxis, tf.newaxis]
            return step + 1, counts + tf.reduce_sum(weighted, axis=0)

        counts = tf.zeros([tags, tags], unary.dtype)
        return tf.while_loop(lambda step, _: step < time - 1, body, (tf.constant(0), counts), maximum_iterations=time)[
            1
        ]

    return unary, _either(transitions, expected_pairs), tf.reduce_sum(unary[:, 0], axis=0), last


@functools.cache
def _compiled(function, tags, xla):
    """One graph for each number of tags, whatever the batch and the time; XLA compiles it once a shape."""
    del tags
    return tf.function(function, jit_compile=xla, reduce_retracing=True, autograph=False)
