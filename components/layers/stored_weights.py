"""Weights that an export stores in fewer bits than training uses.

Only storage is compressed: graphs compute with float32 values that they restore from it. For embeddings, they
restore only the rows that are looked up.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from trellis.components.errors import InputError
from trellis.components.layers.word_softmax import WordSoftmax
from trellis.components.types import Tensor


class Parameterised(Protocol):
    """A module that lists its variables.

    Attributes:
        parameters: the variables to store.
    """

    parameters: Sequence[Any]


@keras.saving.register_keras_serializable("trellis")
class Embedding(keras.layers.Embedding):
    """`keras.layers.Embedding` that looks rows up before it restores their values."""

    def call(self, inputs: Tensor) -> Tensor:
        stored = (_current.get() or {}).get(id(self._embeddings))
        return super().call(inputs) if stored is None else stored.rows(inputs, self.compute_dtype)


def compressed(model: keras.Model, kind: str) -> "Compressed":
    """Compress the weights of a Keras model as an export stores them.

    Args:
        kind: `bfloat16` or `float16`: every matrix; `int8`: embeddings, dense layers and softmaxes over words, with one
            scale for each row of a vocabulary or column of a layer.

    Raises:
        InputError: the model has no weights of these kinds.
    """
    scale_axes: dict[int, int] = {}
    for layer in _all_layers(model):
        # A softmax over words has one row per word, as embeddings do; a dense layer has one column per unit.
        axis = 0 if isinstance(layer, keras.layers.Dense) else 1
        if isinstance(layer, keras.layers.Dense | keras.layers.Embedding | WordSoftmax):
            scale_axes |= {id(weight): axis for weight in layer.weights if len(weight.shape) == 2}
    if not scale_axes:
        raise InputError(f"export.weights={kind}: model={model.name} has no embeddings or dense layers")
    chosen = [
        variable
        for variable in model.variables
        if len(variable.shape) >= 2 and (kind != "int8" or id(variable) in scale_axes)
    ]
    return Compressed({id(variable): StoredWeight(variable, kind, scale_axes.get(id(variable))) for variable in chosen})


def _all_layers(model: keras.Model) -> list[Any]:
    """Return the layers of a model, nested ones included.

    Keras has no public function for this; `test_exports.py` fails if the private one moves.
    """
    return list(model._flatten_layers())


class Compressed:
    """Compressed weights of a model.

    Args:
        weights: by the `id` of the variable that each stands for.
    """

    def __init__(self, weights: dict[int, "StoredWeight"]) -> None:
        self.weights = weights

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of these weights in training, and as they are stored."""
        return (
            sum(4 * math.prod(weight.variable.shape) for weight in self.weights.values()),
            sum(weight.values.dtype.size * math.prod(weight.values.shape) for weight in self.weights.values()),
        )

    @contextlib.contextmanager
    def in_graphs(self, module: Parameterised) -> Iterator[None]:
        """Trace graphs that read the stored weights, and make these the parameters of the module."""
        by_value = {id(weight.variable.value): weight for weight in self.weights.values()}
        module.parameters = [by_value.get(id(parameter), parameter) for parameter in module.parameters]
        token = _current.set(self.weights)
        try:
            with _RestoringScope(self.weights):
                yield
        finally:
            _current.reset(token)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the model the values that an export restores, within the block."""
        before = [(weight.variable, weight.variable.numpy()) for weight in self.weights.values()]
        for weight in self.weights.values():
            weight.variable.assign(weight.dense())
        try:
            yield
        finally:
            for variable, value in before:
                variable.assign(value)


class _RestoringScope(keras.StatelessScope):
    """Give Keras variables the values of stored weights, restored once per weight and graph."""

    def __init__(self, weights: dict[int, "StoredWeight"]) -> None:
        super().__init__(initialize_variables=False)
        self.weights = weights
        self.restored: dict[tuple[int, int], tuple[Tensor, Any]] = {}

    def get_current_value(self, variable: Any) -> Tensor | None:
        weight = self.weights.get(id(variable))
        if weight is None:
            return None
        graph = tf.compat.v1.get_default_graph()
        # The outermost function, not a loop inside it, which would restore the weight in each iteration.
        while graph.building_function and graph.outer_graph.building_function and id(graph) not in _restoring.get():
            graph = graph.outer_graph
        key = id(variable), id(graph)
        if key not in self.restored:
            with graph.as_default():
                # Keep the graph alive: otherwise another one could get its id.
                self.restored[key] = weight.dense(), graph
        return self.restored[key][0]


def restoring(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` for a `tf.function` that several others call: traced, it restores the weights that it reads.

    Otherwise it would capture the values that its first caller restored, which its other callers cannot reach.
    """

    @functools.wraps(function)  # `tf.function` reads its signature
    def traced(*arguments: Any, **named: Any) -> Any:
        token = _restoring.set(_restoring.get() | {id(tf.compat.v1.get_default_graph())})
        try:
            return function(*arguments, **named)
        finally:
            _restoring.reset(token)

    return traced


class StoredWeight(tf.Module):
    """One compressed weight.

    Args:
        variable: the Keras variable that it stands for.
        kind: `bfloat16`, `float16` or `int8`.
        axis: for `int8`, the axis that shares a scale.
    """

    def __init__(self, variable: Any, kind: str, axis: int | None) -> None:
        super().__init__()
        # A SavedModel does not look inside functions, and should not store this variable.
        self._variable: Callable[[], Any] = lambda: variable
        self.scale: Any = None
        value = tf.convert_to_tensor(variable.value)
        if kind == "int8":
            scale = tf.maximum(tf.reduce_max(tf.abs(value), axis=axis, keepdims=True), 1e-12) / 127.0
            self.scale = tf.Variable(scale, trainable=False, name="scale")
            value = tf.cast(tf.round(value / scale), tf.int8)
        else:
            value = tf.cast(value, kind)
        self.values: Any = tf.Variable(value, trainable=False, name="values")

    @property
    def variable(self) -> Any:
        return self._variable()

    def dense(self) -> Tensor:
        """Restore the whole weight, float32."""
        return self._scaled(tf.convert_to_tensor(self.values), lambda scale: scale)

    def rows(self, ids: Tensor, dtype: Any) -> Tensor:
        """Restore the rows of ids `(…)`: `(…, dim)`."""
        rows = tf.gather(self.values, ids)
        return tf.cast(self._scaled(rows, lambda scale: tf.gather(scale, ids)), dtype)

    def _scaled(self, values: Tensor, scales: Callable[[Tensor], Tensor]) -> Tensor:
        values = tf.cast(values, tf.float32)
        return values if self.scale is None else values * scales(tf.convert_to_tensor(self.scale))


# Ids of the graphs of `restoring` functions that are being traced.
_restoring: contextvars.ContextVar[frozenset[int]] = contextvars.ContextVar("restoring", default=frozenset())
# By the id of the variable that each stands for.
_current: contextvars.ContextVar[dict[int, StoredWeight] | None] = contextvars.ContextVar("weights", default=None)
