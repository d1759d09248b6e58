"""Operations that a backend has in one piece, where those of Keras are composed of a dozen in a TensorFlow graph.

Tracing, storing and loading a graph takes time for each of its operations, and a lattice has hundreds.
"""

import keras
from keras import ops

from trellis.components.types import Lengths, Tensor


def sizes(values: Tensor) -> tuple[int | Tensor, ...]:
    """Return the size of each axis: an integer where it is known, otherwise a scalar tensor."""
    if keras.backend.backend() == "tensorflow" and None in values.shape:
        import tensorflow as tf

        found = tf.unstack(tf.shape(values))
        return tuple(dynamic if static is None else static for static, dynamic in zip(values.shape, found, strict=True))
    return tuple(ops.shape(values))


def gather(values: Tensor, indices: Tensor, batch_dims: int = 0) -> Tensor:
    """Select along the axis after the first `batch_dims`, which both arguments share.

    With one of them, the result is `values[b, indices[b, i], …]` at `[b, i, …]`.

    Args:
        values: of at least `batch_dims + 1` axes.
        indices: int32, at least 0; with `batch_dims`, of one axis more than these.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(values, indices, axis=batch_dims, batch_dims=batch_dims)
    if not batch_dims:
        return ops.take(values, indices, axis=0)
    more = (1,) * (len(values.shape) - len(indices.shape))
    return ops.take_along_axis(values, ops.reshape(indices, (*indices.shape, *more)), axis=batch_dims)


def reverse(values: Tensor, lengths: Lengths, batch_axis: int = 1) -> Tensor:
    """Reverse the first `lengths (batch,)` time steps of `values (time, ...)`; leave the others in place."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.reverse_sequence(values, lengths, seq_axis=0, batch_axis=batch_axis)
    times = ops.reshape(ops.arange(values.shape[0], dtype="int32"), (-1,) + (1,) * (len(values.shape) - 1))
    lengths = ops.reshape(lengths, [-1 if axis == batch_axis else 1 for axis in range(len(values.shape))])
    return ops.take_along_axis(values, ops.where(times < lengths, lengths - 1 - times, times), axis=0)


def argmax(values: Tensor) -> Tensor:
    """Index of the largest value along the last axis, int32; the first of equal values."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # That of Keras adds five operations to handle -0.0.
        return tf.argmax(values, axis=-1, output_type=tf.int32)
    return ops.cast(ops.argmax(values, axis=-1), "int32")


def logsumexp(logs: Tensor, axis: int | tuple[int, ...], keepdims: bool = False) -> Tensor:
    """Return the log of the summed exponentials of finite logs; Keras's own also takes infinite ones."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        highest = tf.reduce_max(logs, axis=axis, keepdims=True)  # that of Keras refuses tensors without elements
    else:
        highest = ops.max(logs, axis=axis, keepdims=True)
    total = highest + ops.log(ops.sum(ops.exp(logs - highest), axis=axis, keepdims=True))
    return total if keepdims else ops.squeeze(total, axis=axis)
