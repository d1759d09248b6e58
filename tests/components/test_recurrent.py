"""Our recurrent layers against Keras's: outputs, states and every gradient."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from trellis.components.layers import both_devices, recurrent
from trellis.components.saved_model.c_api import Session

CELLS = ("SimpleRNN", "LSTM", "GRU")
MASKS = {
    "none": None,
    "right": np.arange(6) < np.array([6, 3, 1, 0])[:, None],
    "left": np.arange(6) >= np.array([0, 3, 5, 2])[:, None],
    "holes": np.random.default_rng(1).random((4, 6)) > 0.4,
}


def pair(cell, **options):
    """Our layer and Keras's with the same weights."""
    ours = getattr(recurrent, cell)(5, **options)
    reference = getattr(keras.layers, cell)(5, **options)
    ours.build((None, None, 3))
    reference.build((None, None, 3))
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=weight.shape) * 0.5 for weight in ours.get_weights()]
    ours.set_weights(weights)
    reference.set_weights(weights)
    return ours, reference


@functools.cache
def pair_for_all_masks(cell, backwards):
    """A pair whose graphs the tests of each mask share."""
    return pair(cell, return_sequences=True, return_state=True, go_backwards=backwards)


@functools.cache
def computation(layer):
    """A function that returns the outputs of a layer and all gradients, in a graph."""
    variables = [variable.value for variable in layer.trainable_variables]

    @tf.function
    def compute(inputs, mask, initial):
        with tf.GradientTape() as tape:
            tape.watch([inputs, *(initial or [])])
            outputs = layer(inputs, mask=mask, initial_state=initial, training=True)
            loss = sum(tf.reduce_sum(tf.sin(values * (n + 1.0))) for n, values in enumerate(tf.nest.flatten(outputs)))
        return outputs, tape.gradient(loss, [inputs, *variables, *(initial or [])])

    return compute


def outputs_and_gradients(layer, inputs, mask, initial=None):
    return [values.numpy() for values in tf.nest.flatten(computation(layer)(inputs, mask, initial))]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_and_gradients_equal_those_of_keras(cell, backwards, mask):
    ours, reference = pair_for_all_masks(cell, backwards)
    inputs = tf.constant(np.random.default_rng(2).normal(size=(4, 6, 3)), tf.float32)
    mask = None if MASKS[mask] is None else tf.constant(MASKS[mask])
    for values, expected in zip(
        outputs_and_gradients(ours, inputs, mask), outputs_and_gradients(reference, inputs, mask), strict=True
    ):
        if mask is not None and values.shape == (4, 6, 5):
            # At masked steps Keras repeats the last output, or returns zeros before the first; they are not compared.
            steps = mask.numpy()[:, ::-1] if backwards else mask.numpy()
            values, expected = values[steps], expected[steps]
        np.testing.assert_allclose(values, expected, rtol=2e-6, atol=5e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_initial_states_without_bias_equal_keras(cell):
    ours, reference = pair(cell, use_bias=False, return_state=True)
    rng = np.random.default_rng(3)
    inputs = tf.constant(rng.normal(size=(2, 4, 3)), tf.float32)
    initial = [tf.constant(rng.normal(size=(2, 5)), tf.float32) for _ in range(2 if cell == "LSTM" else 1)]
    for values, expected in zip(
        outputs_and_gradients(ours, inputs, None, initial),
        outputs_and_gradients(reference, inputs, None, initial),
        strict=True,
    ):
        np.testing.assert_allclose(values, expected, rtol=2e-6, atol=5e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_bidirectional_ignores_padding(cell):
    layer = keras.layers.Bidirectional(getattr(recurrent, cell)(4, return_sequences=True))
    rng = np.random.default_rng(4)
    short = rng.normal(size=(1, 3, 2)).astype(np.float32)
    padded = np.concatenate([short, rng.normal(size=(1, 4, 2)).astype(np.float32)], axis=1)
    mask = np.arange(7)[None] < 3
    np.testing.assert_allclose(layer(padded, mask=mask)[:, :3], layer(short), atol=1e-6)
    assert not layer(padded, mask=mask)[:, 3:].numpy().any()


@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_under_dropout_equals_finite_differences(cell):
    """With the same dropout mask, which all time steps of a sequence share."""
    keras.utils.set_random_seed(5)
    layer = getattr(recurrent, cell)(4, recurrent_dropout=0.5, dropout=0.3, return_sequences=True)
    inputs = tf.random.stateless_normal((2, 5, 3), (1, 2))
    first = layer(inputs, training=True)
    assert np.abs(first - layer(inputs, training=True)).max() > 1e-3
    np.testing.assert_array_equal(layer(inputs, training=False), layer(inputs, training=False))

    def loss(value, kernel):
        layer.cell.seed_generator.state.assign([3, 4])
        layer.cell.recurrent_kernel.assign(kernel)
        return tf.reduce_sum(tf.sin(layer(value, training=True)))

    kernel = layer.cell.recurrent_kernel.numpy()
    layer.cell.seed_generator.state.assign([3, 4])
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.sin(layer(inputs, training=True)))
    gradient = tape.gradient(value, layer.cell.recurrent_kernel.value).numpy()
    direction = np.random.default_rng(0).normal(size=kernel.shape).astype(np.float32)
    step = 1e-2
    numeric = (loss(inputs, kernel + step * direction) - loss(inputs, kernel - step * direction)) / (2 * step)
    np.testing.assert_allclose((gradient * direction).sum(), numeric, rtol=2e-2)


@pytest.mark.parametrize("cell", CELLS)
def test_a_model_loads_without_custom_objects(cell, tmp_path):
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, getattr(recurrent, cell)(4, return_sequences=True)(inputs))
    model.save(tmp_path / "m.keras")
    value = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(model(value), loaded(value))


def test_unusual_activations_fall_back_to_keras():
    ours, reference = pair("LSTM", activation="relu", return_sequences=True)
    assert not ours._runs_fast()
    inputs = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(inputs), reference(inputs), atol=1e-6)


def by_definition(kind, parameters, sequences, hidden, lengths, backwards):
    """Return the outputs `(time, batch, units)` that follow from the parameters by cuDNN's documentation."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    time, batch, dim = sequences.shape
    units = hidden.shape[1]
    gates = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}[kind]
    sizes = [units * dim] * gates + [units * units] * gates + [units] * 2 * gates
    parts = np.split(parameters, np.cumsum(sizes)[:-1])
    inputs = [part.reshape(units, dim) for part in parts[:gates]]
    recurrent = [part.reshape(units, units) for part in parts[gates : 2 * gates]]
    first, second = parts[2 * gates : 3 * gates], parts[3 * gates :]
    outputs = np.zeros((time, batch, units))
    for row in range(batch):
        h, c = hidden[row], np.zeros(units)
        steps = range(lengths[row])
        for step in reversed(steps) if backwards else steps:
            w = [matrix @ sequences[step, row] + bias for matrix, bias in zip(inputs, first, strict=True)]
            r = [matrix @ h + bias for matrix, bias in zip(recurrent, second, strict=True)]
            if kind == "LSTM":  # i, f, c', o
                c = sigmoid(w[1] + r[1]) * c + sigmoid(w[0] + r[0]) * np.tanh(w[2] + r[2])
                h = sigmoid(w[3] + r[3]) * np.tanh(c)
            elif kind == "GRU":  # r, i, h'
                update = sigmoid(w[1] + r[1])
                h = update * h + (1 - update) * np.tanh(w[2] + sigmoid(w[0] + r[0]) * r[2])
            else:
                h = np.tanh(w[0] + r[0])
            outputs[step, row] = h
    return outputs


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_cudnn_parameters_follow_its_documentation(kind, backwards):
    layer = getattr(recurrent, kind)(4, return_sequences=True, go_backwards=backwards)
    sequences = np.random.default_rng(1).normal(size=(2, 5, 3)).astype("float32")
    lengths = np.array([5, 3])
    layer.build(sequences.shape)
    for weight in layer.weights:
        weight.assign(np.random.default_rng(len(weight.shape)).normal(size=weight.shape))
    mask = np.arange(5) < lengths[:, np.newaxis]
    outputs = np.array(layer(sequences, mask=tf.constant(mask)))
    outputs = outputs[:, ::-1] if backwards else outputs
    cell = layer.cell
    parameters = both_devices.cudnn_parameters(kind, cell.kernel, cell.recurrent_kernel, *layer._biases("float32"))
    zeros = np.zeros((2, 4))
    expected = by_definition(kind, parameters.numpy(), sequences.swapaxes(0, 1), zeros, lengths, backwards)
    np.testing.assert_allclose(outputs[mask], expected.swapaxes(0, 1)[mask], atol=1e-5)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_an_export_has_both_implementations(kind, tmp_path):
    layer = keras.layers.Bidirectional(getattr(recurrent, kind)(4, return_sequences=True))
    inputs = tf.random.stateless_normal([2, 5, 3], [0, 1])
    mask = tf.constant([[True] * 5, [True] * 3 + [False] * 2])
    expected = layer(inputs, mask=mask)
    module = tf.Module()
    module.parameters = [variable.value for variable in layer.variables]
    module.f = tf.function(
        lambda x, m: layer(x, mask=m),
        input_signature=[tf.TensorSpec([None, None, 3]), tf.TensorSpec([None, None], tf.bool)],
    )
    with both_devices.exporting():
        tf.saved_model.save(module, str(tmp_path))
    definition = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    functions = definition.meta_graphs[0].graph_def.library.function
    operations = [{node.op for node in function.node_def} for function in functions]
    # For each direction a choice by device, and cuDNN in a function that nothing inlines.
    assert sum("DeviceIndex" in names for names in operations) >= 1
    apart = [function for function, names in zip(functions, operations, strict=True) if "CudnnRNNV3" in names]
    assert len(apart) == 2 and all(function.attr["_noinline"].b for function in apart)
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(loaded.f(inputs, mask), expected, atol=1e-6)


@pytest.mark.parametrize("in_loop", [False, True])
def test_a_session_chooses_by_the_device_that_it_runs_on(in_loop, tmp_path, monkeypatch):
    """TensorFlow Serving opens a session, which optimizes graphs otherwise than an eager call does."""
    index = tf.raw_ops.DeviceIndex
    # A CPU stands in for the GPU: what is preferred there is what has to run here.
    monkeypatch.setattr(tf.raw_ops, "DeviceIndex", lambda device_names: index(device_names=["CPU"]))

    def compute(x):
        chosen = lambda y: both_devices.dispatch_by_device(lambda z: z + 1.0, lambda z: z + 2.0, [y])  # noqa: E731
        if not in_loop:
            return {"y": chosen(x)}
        return {"y": tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, chosen(y)), (0, x))[1]}

    module = tf.Module()
    module.f = tf.function(compute, input_signature=[tf.TensorSpec([2], name="x")])
    tf.saved_model.save(module, str(tmp_path), signatures=module.f)
    definition = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    signature = definition.meta_graphs[0].signature_def["serving_default"]
    session = Session(tmp_path)
    (result,) = session.run({signature.inputs["x"].name: np.zeros(2, np.float32)}, [signature.outputs["y"].name])
    np.testing.assert_array_equal(result, [6.0, 6.0] if in_loop else [2.0, 2.0])
    eager = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](x=tf.zeros([2]))["y"]
    np.testing.assert_array_equal(eager, result)


@pytest.mark.parametrize("kind", CELLS)
def test_a_row_without_steps_keeps_its_state_in_cudnn(kind, monkeypatch):
    states = [tf.ones([2, 3])] * (2 if kind == "LSTM" else 1)

    def operation(*, input, input_h, input_c, sequence_lengths, **_):
        assert sequence_lengths.numpy().min() == 1
        return tf.fill([*input.shape[:2], 3], 7.0), tf.fill(input_h.shape, 7.0), tf.fill(input_h.shape, 8.0), None, None

    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", operation)
    outputs, last = both_devices.cudnn(kind, tf.zeros([4, 2, 5]), None, states, tf.constant([4, 0]), False)
    assert outputs.shape == [4, 2, 3]
    assert not outputs[:, 1].numpy().any() and (outputs[:, 0].numpy() == 7.0).all()
    for index, state in enumerate(last):
        np.testing.assert_array_equal(state, [[7.0 + index] * 3, [1.0] * 3])


@pytest.mark.parametrize("lengths", [[4, 4], [4, 2], [0, 4]])
def test_every_masked_batch_is_padded_for_cudnn(lengths, monkeypatch):
    """A batch of full rows would leave a description of its shape that fails for the next batch, with padding."""

    def operation(*, input, input_h, sequence_lengths, **_):
        assert sequence_lengths.numpy().max() < len(input)
        return tf.zeros([*input.shape[:2], 3]), input_h, input_h, None, None

    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", operation)
    outputs, _ = both_devices.cudnn("GRU", tf.zeros([4, 2, 5]), None, [tf.ones([2, 3])], tf.constant(lengths), True)
    assert outputs.shape == [4, 2, 3]
