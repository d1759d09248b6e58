"""Checks of tensors whose answer names the place."""

import keras
import numpy as np


def require(holds, message, checks):
    """Refuses what does not hold somewhere, naming the first place.

    Args:
        holds: booleans `(batch, time)`.
        message: what is wrong, in words that "at sequence …, time step …" completes.
        checks: None: only when running eagerly; True: in graphs of TensorFlow too; False: never.

    Raises:
        ValueError: eagerly; in a graph `tf.errors.InvalidArgumentError` as it runs.
    """
    if checks is False or isinstance(holds, bool):
        return
    if _is_eager(holds):
        wrong = np.argwhere(~keras.ops.convert_to_numpy(holds))
        if len(wrong):
            raise ValueError(f"{message} at sequence {wrong[0][0]}, time step {wrong[0][1]}")
    elif checks and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.debugging.Assert(tf.reduce_all(holds), [f"{message} at [sequence, time step]", tf.where(~holds)[:1]])


def _is_eager(values):
    backend = keras.backend.backend()
    if isinstance(values, keras.KerasTensor):
        return False
    if backend == "tensorflow":
        return hasattr(values, "numpy")
    if backend == "jax":
        import jax

        return not isinstance(values, jax.core.Tracer)
    return True
