"""Our recurrent layers against Keras's: outputs, states and every gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.layers import recurrent

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
    other = getattr(keras.layers, cell)(5, **options)
    ours.build((None, None, 3))
    other.build((None, None, 3))
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=each.shape) * 0.5 for each in ours.get_weights()]
    ours.set_weights(weights)
    other.set_weights(weights)
    return ours, other


def outputs_and_gradients(layer, inputs, mask, initial=None):
    variables = [each.value for each in layer.trainable_variables]

    @tf.function
    def compute():
        with tf.GradientTape() as tape:
            tape.watch([inputs, *(initial or [])])
            outputs = layer(inputs, mask=mask, initial_state=initial, training=True)
            loss = sum(tf.reduce_sum(tf.sin(each * (n + 1.0))) for n, each in enumerate(tf.nest.flatten(outputs)))
        return outputs, tape.gradient(loss, [inputs, *variables, *(initial or [])])

    return [each.numpy() for each in tf.nest.flatten(compute())]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_equals_keras(cell, backwards, mask):
    ours, other = pair(cell, return_sequences=True, return_state=True, go_backwards=backwards)
    inputs = tf.constant(np.random.default_rng(2).normal(size=(4, 6, 3)), tf.float32)
    mask = None if MASKS[mask] is None else tf.constant(MASKS[mask])
    for mine, theirs in zip(
        outputs_and_gradients(ours, inputs, mask), outputs_and_gradients(other, inputs, mask), strict=True
    ):
        if mask is not None and mine.shape == (4, 6, 5):
            # At masked steps Keras repeats the last output, or has zeros before the first; nobody reads them.
            steps = mask.numpy()[:, ::-1] if backwards else mask.numpy()
            mine, theirs = mine[steps], theirs[steps]
        np.testing.assert_allclose(mine, theirs, rtol=2e-6, atol=5e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_initial_state_and_no_bias(cell):
    ours, other = pair(cell, use_bias=False, return_state=True)
    rng = np.random.default_rng(3)
    inputs = tf.constant(rng.normal(size=(2, 4, 3)), tf.float32)
    initial = [tf.constant(rng.normal(size=(2, 5)), tf.float32) for _ in range(2 if cell == "LSTM" else 1)]
    for mine, theirs in zip(
        outputs_and_gradients(ours, inputs, None, initial),
        outputs_and_gradients(other, inputs, None, initial),
        strict=True,
    ):
        np.testing.assert_allclose(mine, theirs, rtol=2e-6, atol=5e-6)


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
def test_recurrent_dropout(cell):
    """One mask a sequence: the gradient under dropout is that of finite differences with the same mask."""
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
def test_saves_and_loads_without_custom_objects(cell, tmp_path):
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, getattr(recurrent, cell)(4, return_sequences=True)(inputs))
    model.save(tmp_path / "m.keras")
    value = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(model(value), loaded(value))


def test_unusual_activations_fall_back_to_keras():
    ours, other = pair("LSTM", activation="relu", return_sequences=True)
    assert not ours._runs_fast()
    inputs = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(inputs), other(inputs), atol=1e-6)
