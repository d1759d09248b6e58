"""Make tracing cheaper, for tests alone: they trace many graphs and run each a few times.

Each constant of a graph is made once: half of the operations that tracing makes are constants, bounds of slices. This
takes a sixth off the time of a small run; a program that differentiates with respect to two equal constants would get
the sum of both gradients. And operations do not keep the stack trace of where they were made, which takes off
another fifteenth.
"""

import numpy as np
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.framework import dtypes, ops
from tensorflow.python.util import tf_stack

LARGEST = 16  # elements of a constant that is shared

_make = ops._create_graph_constant


def make_cheaper():
    """Share constants and keep no stack traces from now on, in this process."""
    ops._create_graph_constant = _shared
    tf_stack.extract_stack = lambda stacklevel=1: None
    pywrap_tf_session.TF_SetOpStackTrace = lambda operation, trace: None


def _shared(value, dtype, shape, name, verify_shape, allow_broadcast):
    graph = ops.get_default_graph()
    content = _content(value) if shape is None and graph.building_function else None
    if content is None:
        return _make(value, dtype, shape, name, verify_shape, allow_broadcast)
    devices = tuple(map(str, graph._device_function_stack.peek_objs()))
    key = content, dtype and dtypes.as_dtype(dtype), devices
    if not hasattr(graph, "constants_of_tests"):
        graph.constants_of_tests = {}
    made = graph.constants_of_tests
    if key not in made:
        made[key] = _make(value, dtype, shape, name, verify_shape, allow_broadcast)
    return made[key]


def _content(value):
    """What makes a constant equal to another one, as a key; None for constants that are not shared."""
    kind = type(value)
    if kind in (int, bool, str, bytes):
        return kind, value
    if kind is float:
        return kind, value.hex()  # -0.0 is not 0.0
    if kind in (list, tuple):
        contents = tuple(map(_content, value[: LARGEST + 1]))
        return None if len(contents) > LARGEST or None in contents else (list, contents)
    if isinstance(value, np.ndarray | np.generic) and value.size <= LARGEST and value.dtype.kind in "biuf":
        return np.ndarray, value.dtype.str, value.shape, value.tobytes()
    return None
