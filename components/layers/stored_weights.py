"""Weights of an export in fewer bits than those of training.

Only what is stored is small: graphs compute with float32 made of it; of embeddings, of the rows that are looked up.
"""

import contextlib
import contextvars
import math

import keras
import tensorflow as tf

from trellis.components.errors import InputError
from trellis.components.layers.word_softmax import WordSoftmax

_current = contextvars.ContextVar("weights", default=None)  # by the id of the variable that they stand for


@keras.saving.register_keras_serializable("trellis")
class Embedding(keras.layers.Embedding):
    """`keras.layers.Embedding` that looks rows up before it makes numbers of them."""

    def call(self, inputs):
        stored = (_current.get() or {}).get(id(self._embeddings))
        return super().call(inputs) if stored is None else stored.rows(inputs, self.compute_dtype)


def compressed(model, kind):
    """The weights of a Keras model as an export stores them.

    Args:
        kind: `bfloat16` or `float16`: every matrix; `int8`: embeddings, dense layers and softmaxes over words, each
            row of a vocabulary or column of a layer with a scale of its own.

    Raises:
        InputError: the model has nothing of that kind.
    """
    by_row = {}
    for layer in model._flatten_layers():
        # A softmax over words has a row for each, as embeddings have; a dense layer has a column for each unit.
        axis = 0 if isinstance(layer, keras.layers.Dense) else 1
        if isinstance(layer, keras.layers.Dense | keras.layers.Embedding | WordSoftmax):
            by_row |= {id(each): axis for each in layer.weights if len(each.shape) == 2}
    if not by_row:
        raise InputError(f"export.weights={kind}: model={model.name} has no embeddings or dense layers")
    chosen = [each for each in model.variables if len(each.shape) >= 2 and (kind != "int8" or id(each) in by_row)]
    return Compressed({id(each): _Stored(each, kind, by_row.get(id(each))) for each in chosen})


class Compressed:
    """Stored weights by the `id` of the variable that they stand for."""

    def __init__(self, weights):
        self.weights = weights

    @property
    def sizes(self):
        """Bytes of these weights in training, and as they are stored."""
        return (
            sum(4 * math.prod(each.variable.shape) for each in self.weights.values()),
            sum(each.values.dtype.size * math.prod(each.values.shape) for each in self.weights.values()),
        )

    @contextlib.contextmanager
    def in_graphs(self, module):
        """Within it what is traced reads the stored weights, and they are the parameters of `module`."""
        by_value = {id(each.variable.value): each for each in self.weights.values()}
        module.parameters = [by_value.get(id(each), each) for each in module.parameters]
        token = _current.set(self.weights)
        try:
            with _Reading():
                yield
        finally:
            _current.reset(token)

    @contextlib.contextmanager
    def in_place(self):
        """Within it the model has the values that an export has."""
        before = [(each.variable, each.variable.numpy()) for each in self.weights.values()]
        for each in self.weights.values():
            each.variable.assign(each.dense())
        try:
            yield
        finally:
            for variable, value in before:
                variable.assign(value)


class _Reading(keras.StatelessScope):
    """Gives Keras's variables the values of stored weights, one tensor of each in each graph."""

    def __init__(self):
        super().__init__(initialize_variables=False)
        self.made = {}

    def get_current_value(self, variable):
        weight = _current.get().get(id(variable))
        if weight is None:
            return None
        graph = tf.compat.v1.get_default_graph()
        # Not inside a loop, where it would be made anew each time.
        while getattr(graph, "outer_graph", None) is not None and graph.outer_graph.building_function:
            graph = graph.outer_graph
        if (id(variable), id(graph)) not in self.made:
            with graph.as_default():
                # The graph is kept as well, so that no other one gets its id.
                self.made[id(variable), id(graph)] = weight.dense(), graph
        return self.made[id(variable), id(graph)][0]


class _Stored(tf.Module):
    """One weight."""

    def __init__(self, variable, kind, axis):
        super().__init__()
        # A SavedModel does not look into functions, and this variable is not to be saved.
        self._variable = lambda: variable
        value = tf.convert_to_tensor(variable.value)
        if kind == "int8":
            scale = tf.maximum(tf.reduce_max(tf.abs(value), axis=axis, keepdims=True), 1e-12) / 127.0
            self.scale = tf.Variable(scale, trainable=False, name="scale")
            value = tf.cast(tf.round(value / scale), tf.int8)
        else:
            value = tf.cast(value, kind)
        self.values = tf.Variable(value, trainable=False, name="values")

    @property
    def variable(self):
        return self._variable()

    def dense(self):
        """All of it, float32."""
        return self._scaled(tf.convert_to_tensor(self.values), lambda scale: scale)

    def rows(self, ids, dtype):
        """Rows by their numbers: `(…, dim)`."""
        found = tf.gather(self.values, ids)
        return tf.cast(self._scaled(found, lambda scale: tf.gather(scale, ids)), dtype)

    def _scaled(self, values, scales):
        values = tf.cast(values, tf.float32)
        return values * scales(tf.convert_to_tensor(self.scale)) if hasattr(self, "scale") else values
