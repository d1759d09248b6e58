"""What every layer has to do, whatever it computes: one function for each check, after keras's `run_layer_test`."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree


@dataclasses.dataclass(frozen=True, eq=False)
class LayerCase:
    """A layer with inputs.

    Attributes:
        make: returns a new layer with the same arguments each time, and those of every Keras layer, such as `dtype`.
        inputs: positional call arguments: arrays, or lists of arrays; none for a layer that is not called.
        mask: `(batch, time)`, given to layers that take one. Layers without see padding as 0 in their inputs.
        time: whether axis 1 of the inputs is time.
        output_time: whether axis 1 of the outputs is time.
        prepare: replaces weights by random ones; by default all float weights are drawn.
        loss: of the flat list of outputs; by default the sum of their squares.
        float_output: dtype of float outputs in half precision.
        tolerance: absolute, of the outputs in half precision.
        not_by_design: `{check: reason}` for what the layer does not do, by design.
    """

    make: Callable[..., Any]
    inputs: tuple[Any, ...]
    mask: np.ndarray | None = None
    time: bool = True
    output_time: bool = True
    prepare: Callable[[Any], None] | None = None
    loss: Callable[[list[Any]], Any] | None = None
    float_output: str = "bfloat16"
    tolerance: float = 0.05
    not_by_design: Mapping[str, str] = dataclasses.field(default_factory=dict)


def call(case, layer, inputs=None, mask=None, **options):
    """Return the outputs of a layer as a flat list."""
    inputs = case.inputs if inputs is None else inputs
    mask = case.mask if mask is None else mask
    inputs = tree.map_structure(tf.convert_to_tensor, inputs)
    if mask is not None:
        options["mask"] = tf.convert_to_tensor(mask)
    return tree.flatten(layer(*inputs, **options))


@functools.cache
def made(case, dtype="float32"):
    """Return a built layer with random weights, the same each time. Checks share it: they leave it as it is."""
    keras.utils.set_random_seed(0)
    layer = case.make(dtype=dtype)
    if case.prepare is not None:
        case.prepare(layer)
        return layer
    if case.inputs:
        call(case, layer)  # builds it
    rng = np.random.default_rng(0)
    layer.set_weights(
        [
            rng.normal(size=weight.shape) * 0.5 if np.issubdtype(weight.dtype, np.floating) else weight
            for weight in layer.get_weights()
        ]
    )
    return layer


@functools.cache
def in_functional_model(case):
    """Return a functional model of the layer, and its inputs."""

    def symbolic(values):
        values = np.asarray(values)
        shape = (None, *values.shape[2:]) if case.time else values.shape[1:]
        return keras.Input(shape, dtype=values.dtype.name)

    inputs = tree.map_structure(symbolic, case.inputs)
    mask = None if case.mask is None else keras.Input((None,), dtype="bool")
    outputs = made(case)(*inputs, **({} if mask is None else {"mask": mask}))
    flat = tree.flatten(inputs), tree.flatten(case.inputs)
    if mask is not None:
        flat[0].append(mask)
        flat[1].append(case.mask)
    return keras.Model(flat[0], outputs), [tf.convert_to_tensor(values) for values in flat[1]]


def assert_equal(found, expected, **tolerance):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(
            np.asarray(tf.cast(one, tf.float64)), np.asarray(tf.cast(other, tf.float64)), **tolerance
        )


def check_config(case, tmp_path):
    """The configuration makes the same layer again."""
    layer = made(case)
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert again.get_config() == config
    if case.inputs:
        call(case, again)
    again.set_weights(layer.get_weights())
    if case.inputs:
        assert_equal(call(case, again), call(case, layer))


def check_saving(case, tmp_path):
    """A model with the layer is saved and loaded."""
    model, inputs = in_functional_model(case)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(tree.flatten(loaded(inputs)), tree.flatten(model(inputs)))


def check_cloning(case, tmp_path):
    """`keras.models.clone_model` takes the layer along."""
    model, inputs = in_functional_model(case)
    cloned = keras.models.clone_model(model)
    cloned.set_weights(model.get_weights())
    assert not {id(weight) for weight in cloned.weights} & {id(weight) for weight in model.weights}
    assert_equal(tree.flatten(cloned(inputs)), tree.flatten(model(inputs)))


def check_masks(case, tmp_path):
    """More padding, and other values at padding where there is a mask, change nothing at real steps."""
    layer, extra = made(case), 3

    def padded(values):
        values = np.asarray(values)
        widths = [(0, 0), (0, extra), *[(0, 0)] * (values.ndim - 2)]
        if case.mask is None:
            return np.pad(values, widths)
        other = np.pad(values, widths, mode="edge")
        real = np.pad(case.mask, widths[:2]).reshape(*other.shape[:2], *[1] * (values.ndim - 2))
        return np.where(real, other, -other - 1).astype(values.dtype)

    mask = None if case.mask is None else np.pad(case.mask, [(0, 0), (0, extra)])
    plain, longer = call(case, layer), call(case, layer, tree.map_structure(padded, case.inputs), mask)
    if case.output_time:
        real = np.ones(np.shape(plain[0])[:2], bool) if case.mask is None else case.mask
        plain = [np.asarray(values)[real] for values in plain]
        longer = [np.asarray(values)[:, : real.shape[1]][real] for values in longer]
    assert_equal(longer, plain, rtol=1e-5, atol=1e-5)


def check_dtypes(case, tmp_path):
    """In mixed precision weights stay float32, and outputs are near those of float32."""
    layer, half = made(case), made(case, "mixed_bfloat16")
    assert all(weight.dtype == "float32" for weight in half.weights if "float" in weight.dtype)
    half.set_weights(layer.get_weights())
    outputs, expected = call(case, half), call(case, layer)
    for one, other in zip(outputs, expected, strict=True):
        assert one.dtype.name == (case.float_output if other.dtype.is_floating else other.dtype.name)
    assert_equal(outputs, expected, atol=case.tolerance)


def check_training(case, tmp_path):
    """In training every weight gets a finite gradient, in full and in mixed precision."""
    for policy in ("float32", "mixed_bfloat16"):
        layer = made(case, policy)
        training = {"training": True} if "training" in inspect.signature(layer.call).parameters else {}
        with tf.GradientTape() as tape:
            outputs = call(case, layer, **training)
            if case.loss is None:
                squares = [tf.square(values) for values in outputs if values.dtype.is_floating]
                loss = tf.add_n([tf.reduce_sum(tf.cast(values, tf.float32)) for values in squares] or [tf.zeros([])])
            else:
                loss = case.loss(outputs)
            loss = tf.add_n([loss, *layer.losses])
        gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
        for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
            assert gradient is not None, weight.path
            assert np.isfinite(tf.convert_to_tensor(gradient)).all() and np.any(tf.convert_to_tensor(gradient)), (
                weight.path
            )


def check_jit(case, tmp_path):
    """XLA compiles the layer."""
    layer = made(case)
    compiled = tf.function(lambda inputs: call(case, layer, inputs), jit_compile=True, autograph=False)
    inputs = tree.map_structure(tf.convert_to_tensor, case.inputs)
    assert_equal(compiled(inputs), call(case, layer), rtol=1e-4, atol=1e-5)


def check_export(case, tmp_path):
    """A SavedModel of the layer, for any batch and number of time steps, answers as the layer does."""
    layer = made(case)
    flat = tree.flatten(case.inputs) + ([] if case.mask is None else [case.mask])

    def spec(values):
        free = 2 if case.time else 1
        return tf.TensorSpec([None] * free + list(np.shape(values)[free:]), np.asarray(values).dtype)

    def answer(*tensors):
        inputs, mask = (tensors, None) if case.mask is None else (tensors[:-1], tensors[-1])
        return call(case, layer, tree.pack_sequence_as(case.inputs, inputs), mask)

    module = tf.Module()
    module.variables_of_layer = [variable.value for variable in layer.variables]
    module.answer = tf.function(answer, input_signature=[spec(values) for values in flat], autograph=False)
    tf.saved_model.save(module, str(tmp_path / "export"))
    loaded = tf.saved_model.load(str(tmp_path / "export"))
    assert_equal(loaded.answer(*map(tf.convert_to_tensor, flat)), call(case, layer), rtol=1e-5, atol=1e-5)


CHECKS = {
    "config": check_config,
    "saving": check_saving,
    "cloning": check_cloning,
    "masks": check_masks,
    "dtypes": check_dtypes,
    "training": check_training,
    "jit": check_jit,
    "export": check_export,
}


def run_layer_test(case, check, tmp_path):
    """Run one of `CHECKS`.

    Args:
        case: a `LayerCase`.
        check: its name.
        tmp_path: an empty folder.
    """
    CHECKS[check](case, tmp_path)
