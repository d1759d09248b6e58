"""Checks of tensor values whose errors name the sequence and time step."""

import keras
import numpy as np

from trellis.components.types import Mask, Tensor


def require(holds: Mask | bool, message: str, checks: bool | None) -> None:
    """Raise an error that names the first position at which a condition does not hold.

    Args:
        holds: booleans `(batch, time)` or `(batch,)`.
        message: describes the violation; "at sequence …, time step …" follows it.
        checks: None: check only when running eagerly; True: in TensorFlow graphs too; False: never.

    Raises:
        ValueError: when running eagerly. In a graph, running it raises `tf.errors.InvalidArgumentError`.
    """
    if checks is False or isinstance(holds, bool):
        return
    if _is_eager(holds):
        violations = np.argwhere(~keras.ops.convert_to_numpy(holds))
        if len(violations):
            names = zip(("sequence", "time step"), violations[0], strict=False)
            raise ValueError(f"{message} at {', '.join(f'{name} {index}' for name, index in names)}")
    elif checks and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.debugging.Assert(tf.reduce_all(holds), [f"{message} at [sequence, time step]", tf.where(~holds)[:1]])


def _is_eager(values: Tensor) -> bool:
    """Return whether the values are known now, not symbols of a graph or a trace."""
    if isinstance(values, keras.KerasTensor):
        return False
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return not tf.is_symbolic_tensor(values)
    if keras.backend.backend() == "jax":
        import jax

        return not isinstance(values, jax.core.Tracer)
    return True
