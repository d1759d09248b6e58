"""The scalar inputs of signatures: which values are valid. Graphs check them, and servers before a graph runs."""

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trellis.components.types import Tensor


class Range(NamedTuple):
    """The valid values of a scalar.

    Attributes:
        minimum: the smallest value.
        maximum: the largest value; infinity itself is never valid.
        exclusive: whether `minimum` itself is invalid.
    """

    minimum: float
    maximum: float = math.inf
    exclusive: bool = False

    def __str__(self) -> str:
        least = f"{'above' if self.exclusive else 'at least'} {self.minimum:g}"
        return least if self.maximum == math.inf else f"{least} and at most {self.maximum:g}"


RANGES = {
    "count": Range(1),
    "width": Range(1),
    "best": Range(1),
    "minimum": Range(0),
    "no_repeat": Range(0),
    "alpha": Range(0),
    "coverage": Range(0),
    "channel": Range(0),
    "temperature": Range(0),
    "top_k": Range(0),
    "top_p": Range(0, 1, exclusive=True),
    "repetition": Range(0),
}


def problem(name: str, value: Any) -> str | None:
    """Return what is wrong with the value of a scalar input; None if it is valid."""
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return f"input {name!r}: {value} is not a finite number"
    limits = RANGES.get(name)
    if limits is None:
        return None
    least = value > limits.minimum if limits.exclusive else value >= limits.minimum
    return None if least and value <= limits.maximum else f"input {name!r}: {value}, must be {limits}"


def check_in_graph(**scalars: Tensor) -> None:
    """Add assertions to a graph that these inputs are in their `RANGES`."""
    for name, value in scalars.items():
        value, limits = tf.convert_to_tensor(value), RANGES[name]
        least = value > tf.cast(limits.minimum, value.dtype) if limits.exclusive else value >= int(limits.minimum)
        most = tf.cast(min(limits.maximum, value.dtype.max), value.dtype)
        tf.debugging.Assert(least & (value <= most), [f"input '{name}' must be {limits}"])
