"""Against what tensorflow_addons itself answered (`make_golden.py` wrote it down)."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from trellis.components import tensorflow_addons as tfa
from trellis.components.layers.sequence_head import NegativeLogLikelihood

HERE = Path(__file__).parent
GOLDEN = np.load(HERE / "golden.npz")
CASES = ["several", "one_step", "one_tag", "long"]


def case(name):
    return {key.partition("/")[2]: GOLDEN[key] for key in GOLDEN.files if key.startswith(f"{name}/")}


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("graph", [False, True])
def test_scores(name, graph):
    g = case(name)
    inputs, transitions, gold, bitmap, lengths = (
        g[each] for each in ("inputs", "transitions", "gold", "bitmap", "lengths")
    )
    call = (lambda f, *a: tf.function(f)(*map(tf.constant, a))) if graph else (lambda f, *a: f(*a))
    close(call(tfa.text.crf_filtered_inputs, inputs, bitmap), g["filtered"])
    close(call(tfa.text.crf_sequence_score, inputs, gold, lengths, transitions), g["sequence_score"])
    close(call(tfa.text.crf_multitag_sequence_score, inputs, bitmap, lengths, transitions), g["multitag"])
    close(call(tfa.text.crf_log_norm, inputs, lengths, transitions), g["log_norm"])
    close(call(tfa.text.crf_log_likelihood, inputs, gold, lengths, transitions)[0], g["log_likelihood"])
    close(call(tfa.text.crf_unary_score, gold, lengths, inputs), g["unary"])
    close(call(tfa.text.crf_binary_score, gold, lengths, transitions), g["binary"])
    if "forward" in g:
        close(call(tfa.text.crf_forward, inputs[:, 1:], inputs[:, 0], transitions, lengths), g["forward"])


@pytest.mark.parametrize("name", CASES)
def test_decoding(name):
    g = case(name)
    inputs, transitions, lengths = g["inputs"], g["transitions"], g["lengths"]
    tags, score = tfa.text.crf_decode(inputs, transitions, lengths)
    np.testing.assert_array_equal(tags, g["tags"])
    close(score, g["score"])
    tags, score = tfa.text.crf_constrained_decode(inputs, g["bitmap"], transitions, lengths)
    np.testing.assert_array_equal(tags, g["constrained_tags"])
    close(score, g["constrained_score"])
    tags, score = tfa.text.viterbi_decode(inputs[0], transitions)
    assert tags == g["viterbi"].tolist() and isinstance(tags, list)
    close(score, g["viterbi_score"])
    if "pointers" in g:
        less = np.maximum(lengths - 1, 0)
        pointers, state = tfa.text.crf_decode_forward(inputs[:, 1:], inputs[:, 0], transitions, less)
        np.testing.assert_array_equal(pointers, g["pointers"])
        close(state, g["state"])
        last = tf.argmax(state, axis=1)[:, None]
        backward = tfa.text.crf_decode_backward(tf.reverse_sequence(pointers, less, seq_axis=1), last)
        np.testing.assert_array_equal(backward, g["backward"])


def test_half_precision_keeps_its_type():
    g = case("several")
    inputs, transitions = tf.cast(g["inputs"], tf.float16), tf.cast(g["transitions"], tf.float16)
    likelihood, given = tfa.text.crf_log_likelihood(inputs, g["gold"], g["lengths"], transitions)
    assert likelihood.dtype == given.dtype == tf.float16
    np.testing.assert_allclose(likelihood, g["log_likelihood"], atol=0.02)
    assert tfa.text.crf_decode(inputs, transitions, g["lengths"])[1].dtype == tf.float16


def test_transitions_are_made_if_none_are_given():
    g = case("several")
    _, transitions = tfa.text.crf_log_likelihood(g["inputs"], g["gold"], g["lengths"])
    assert transitions.shape == (4, 4)


def tagger():
    words = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(30, 6, mask_zero=True)(words)
    outputs = tfa.layers.CRF(5, name="crf")(keras.layers.Dense(4)(x))
    return keras.Model(words, outputs)


def test_weights_of_tensorflow_addons_load(tmp_path):
    g = case("layer")
    model = tagger()
    model.load_weights(HERE / "tagger.h5")
    for loaded in (model, _saved_and_loaded(model, tmp_path / "m.keras")):
        tags, potentials, lengths, kernel = loaded(g["words"])
        np.testing.assert_array_equal(tags, g["tags"])
        np.testing.assert_array_equal(lengths, g["lengths"])
        close(potentials, g["potentials"])
        close(kernel, g["kernel"])


def _saved_and_loaded(model, path):
    model.save(path)
    return keras.saving.load_model(path)


@pytest.mark.parametrize("use_boundary", [False, True])
@pytest.mark.parametrize("use_kernel", [False, True])
def test_layer_options(use_boundary, use_kernel):
    layer = tfa.layers.CRF(4, use_boundary=use_boundary, use_kernel=use_kernel, boundary_initializer="ones")
    inputs = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    tags, potentials, lengths, kernel = layer(inputs)
    assert len(layer.weights) == 1 + 2 * use_boundary + 2 * use_kernel
    np.testing.assert_allclose(kernel @ tf.transpose(kernel), np.eye(4), atol=1e-5)
    decoded, _ = tfa.text.crf_decode(potentials, kernel, lengths)
    np.testing.assert_array_equal(decoded, tags)
    if not use_kernel:
        np.testing.assert_allclose(potentials[:, 1] - inputs[:, 1], 0.0, atol=1e-6)
        np.testing.assert_allclose(potentials[:, 0] - inputs[:, 0], float(use_boundary), atol=1e-6)


def test_model_wrapper(tmp_path):
    rng = np.random.default_rng(0)
    words = rng.integers(1, 30, (8, 5)) * (np.arange(5) < rng.integers(1, 6, 8)[:, None])
    gold = words % 3
    inputs = keras.Input((None,), dtype="int32")
    base = keras.Model(inputs, keras.layers.Embedding(30, 16, mask_zero=True)(inputs))
    model = tfa.text.CRFModelWrapper(base, 3)
    model.compile(keras.optimizers.Adam(0.05))
    losses = model.fit(words, gold, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * losses[0]
    predicted = model.predict(words, verbose=0)
    assert (predicted == gold)[words > 0].all()
    np.testing.assert_array_equal(_saved_and_loaded(model, tmp_path / "m.keras").predict(words, verbose=0), predicted)
    (potentials, lengths, kernel), tags = model(words, return_crf_internal=True)
    likelihood, _ = tfa.text.crf_log_likelihood(potentials, gold, lengths, kernel)
    assert -float(np.mean(likelihood)) == pytest.approx(float(NegativeLogLikelihood()(gold, tags)), abs=1e-4)
