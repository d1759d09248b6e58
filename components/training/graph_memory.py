"""Release the graphs of a run, which TensorFlow would keep for as long as the process lives."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework import ops

_sessions = itertools.count()


def clear_session() -> None:
    """Forget the default graph and the names of layers, and free the memory of earlier runs.

    To find what can be freed, all Python objects are visited, those of imported libraries included; before the first
    run there is nothing to find.
    """
    keras.backend.clear_session(free_memory=next(_sessions) > 0)


@contextlib.contextmanager
def released_graphs() -> Iterator[None]:
    """Release what is traced inside the block, and with it the models and the data that it refers to.

    TensorFlow keeps, for ever, the gradient of every traced function that has a gradient of its own, and, as long as
    anything refers to the default graph, the Python functions that feed `tf.data`. Both refer to all the rest.
    """
    gradients: dict[str, Any] = getattr(ops.gradient_registry, "_registry", {})
    known, default = set(gradients), ops.get_default_graph()
    count = len(_python_functions(default))
    try:
        yield
    finally:
        for name in gradients.keys() - known:
            if name.startswith("CustomGradient-"):
                gradients.pop(name, None)
        del _python_functions(default)[count:]


def _python_functions(graph: tf.Graph) -> list[Any]:
    functions: list[Any] = getattr(graph, "_py_funcs_used_in_graph", [])
    return functions
