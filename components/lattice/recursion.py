"""The loop over time on which every recursion runs, for each Keras backend; all that TensorFlow needs of its own.

A TensorFlow loop costs more for its bookkeeping than for the few small products of one step, so several steps are
written out in each turn of the loop, and what it reads and writes travels in blocks of as many.
"""

import functools
import os

import keras
from keras import ops, tree

STEPS_A_TURN = 4


def use_xla(jit_compile=None):
    """Whether recursions are compiled with XLA: the argument, else whether TRELLIS_XLA is 1.

    Compiled they run several times faster, and each new shape takes about a second to compile.
    """
    if jit_compile is None:
        return os.environ.get("TRELLIS_XLA") == "1"
    return bool(jit_compile)


def scan(step, initial, inputs, like):
    """Walks over time.

    Args:
        step: `step(carry, inputs of one time step) -> carry, outputs`; each may be a tuple.
        initial: the carry before the first step.
        inputs: tensors `(time, ...)`.
        like: what the outputs of one step look like: tensors of their types and shapes.

    Returns:
        The outputs of all steps, `(time, ...)`.
    """
    if keras.backend.backend() == "jax":
        import jax

        return jax.lax.scan(step, initial, inputs)[1]
    if keras.backend.backend() == "tensorflow":
        return _scan_in_tensorflow(step, initial, inputs, like)
    outputs, carry = [], initial
    for t in range(tree.flatten(inputs)[0].shape[0]):
        carry, output = step(carry, tree.map_structure(lambda values, t=t: values[t], inputs))
        outputs.append(output)
    return tree.map_structure(lambda *each: ops.stack(each), *outputs)


def _scan_in_tensorflow(step, initial, inputs, like):
    import tensorflow as tf

    time = tf.shape(tree.flatten(inputs)[0])[0]
    # At least one: nothing at all cannot be stacked.
    turns = tf.maximum((time + STEPS_A_TURN - 1) // STEPS_A_TURN, 1)

    def in_blocks(values):
        values = tf.pad(values, [[0, turns * STEPS_A_TURN - time]] + [[0, 0]] * (values.shape.rank - 1))
        shape = values.shape[1:]
        values = tf.reshape(values, tf.concat([[turns, STEPS_A_TURN], tf.shape(values)[1:]], axis=0))
        return tf.TensorArray(values.dtype, size=turns, element_shape=[STEPS_A_TURN, *shape]).unstack(values)

    def blocks_like(values):
        return tf.TensorArray(values.dtype, size=turns, element_shape=[STEPS_A_TURN, *values.shape])

    arrays = [in_blocks(values) for values in tree.flatten(inputs)]

    def body(turn, carry, written):
        outputs = []
        for each in zip(*(tf.unstack(array.read(turn), STEPS_A_TURN) for array in arrays), strict=True):
            before = carry
            carry, output = step(carry, tree.pack_sequence_as(inputs, each))
            for old, new in zip(tree.flatten(before), tree.flatten(carry), strict=True):
                new.set_shape(old.shape)
            outputs.append(tree.flatten(output))
        blocks = [tf.stack(each) for each in zip(*outputs, strict=True)]
        return turn + 1, carry, [array.write(turn, block) for array, block in zip(written, blocks, strict=True)]

    written = [blocks_like(values) for values in tree.flatten(like)]
    _, _, written = tf.while_loop(lambda turn, *_: turn < turns, body, (tf.constant(0), initial, written))

    def whole(array, values):
        blocks = array.stack()
        steps = tf.reshape(blocks, tf.concat([[turns * STEPS_A_TURN], tf.shape(blocks)[2:]], axis=0))[:time]
        steps.set_shape([None, *values.shape])
        return steps

    return tree.pack_sequence_as(like, [whole(*each) for each in zip(written, tree.flatten(like), strict=True)])


def associative_scan(combine, values):
    """Return the prefixes `values[0]`, `combine(values[0], values[1])`, …, twice the logarithm of the time deep.

    `keras.ops.associative_scan` computes the same, but forgets the shapes that are known in a graph of TensorFlow.

    Args:
        combine: an associative function of two tensors `(time, ...)`, applied along the first axis.
        values: `(time, ...)`; the number of time steps has to be known.
    """
    time = values.shape[0]
    if time < 2:
        return values
    odd = associative_scan(combine, combine(values[:-1:2], values[1::2]))
    even = combine(odd[: (time - 1) // 2], values[2::2])
    even = ops.concatenate([values[:1], even], axis=0)
    pairs = ops.stack([even[: time // 2], odd], axis=1)
    return ops.concatenate([ops.reshape(pairs, (-1, *ops.shape(values)[1:])), even[time // 2 :]], axis=0)


def reverse(values, lengths):
    """`(time, batch, ...)` with the first `lengths (batch,)` time steps in reverse order."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.reverse_sequence(values, lengths, seq_axis=0, batch_axis=1)
    times = ops.arange(values.shape[0], dtype="int32")[:, None]
    source = ops.where(times < lengths, lengths - 1 - times, times)
    source = ops.reshape(source, source.shape + (1,) * (len(values.shape) - 2))
    return ops.take_along_axis(values, source, axis=0)


def argmax(values):
    """Index of the largest value along the last axis, the first of equals, int32."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Keras's own puts five more operations around this one, for the sake of -0.0.
        return tf.argmax(values, axis=-1, output_type=tf.int32)
    return ops.cast(ops.argmax(values, axis=-1), "int32")


@functools.cache
def has_gpu():
    """Whether this process computes on a GPU."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_logical_devices("GPU"))
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "gpu"
    import torch

    return torch.cuda.is_available()


def compiled(function, xla, tags_axis=-1, fixed_time=False):
    """The function as a graph; XLA compiles it once a shape.

    Args:
        tags_axis: of the first argument, the axis of the tags.
        fixed_time: whether the graph itself depends on the number of time steps.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return _in_jax(function)
    if backend != "tensorflow":
        return function
    if xla:
        # One graph a number of tags and set of ranks, whatever the batch and, unless it is fixed, the time.
        def key(arguments):
            time = arguments[0].shape[1] if fixed_time else None
            return arguments[0].shape[tags_axis], time, *(each.shape.rank for each in arguments)

        return lambda *arguments: _in_xla(function, key(arguments))(*arguments)
    if fixed_time:
        return function
    key = lambda each: tuple((x.shape.rank, x.dtype) for x in each)  # noqa: E731
    return lambda *arguments: _in_tensorflow(function, key(arguments))(*arguments)


@functools.cache
def _in_jax(function):
    import jax

    return jax.jit(function)


@functools.cache
def _in_xla(function, key):
    import tensorflow as tf

    del key
    return tf.function(function, jit_compile=True, reduce_retracing=True, autograph=False)


@functools.cache
def _in_tensorflow(function, ranks):
    """One graph, whatever the shapes: each costs half a second and some megabytes to make."""
    import tensorflow as tf

    signature = [tf.TensorSpec([None] * rank, dtype) for rank, dtype in ranks]
    return tf.function(function, input_signature=signature, autograph=False)
