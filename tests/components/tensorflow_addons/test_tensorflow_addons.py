"""Against what tensorflow_addons itself answered (`make_golden.py` wrote it down)."""

import itertools
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


@pytest.mark.slow
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


def optimizer_of(model, rate):
    """Return an optimizer that has its variables: a first step that has to create them would be traced twice."""
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(model.trainable_variables)
    return optimizer


@pytest.mark.slow
def test_model_wrapper(tmp_path):
    rng = np.random.default_rng(0)
    words = rng.integers(1, 30, (8, 5)) * (np.arange(5) < rng.integers(1, 6, 8)[:, None])
    gold = words % 3
    inputs = keras.Input((None,), dtype="int32")
    base = keras.Model(inputs, keras.layers.Embedding(30, 16, mask_zero=True)(inputs))
    model = tfa.text.CRFModelWrapper(base, 3)
    model(words)
    model.compile(optimizer_of(model, 0.2))
    losses = model.fit(words, gold, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * losses[0]
    predicted = model.predict(words, verbose=0)
    assert (predicted == gold)[words > 0].all()
    np.testing.assert_array_equal(_saved_and_loaded(model, tmp_path / "m.keras")(words), predicted)
    (potentials, lengths, kernel), tags = model(words, return_crf_internal=True)
    likelihood, _ = tfa.text.crf_log_likelihood(potentials, gold, lengths, kernel)
    assert -float(np.mean(likelihood)) == pytest.approx(float(NegativeLogLikelihood()(gold, tags)), abs=1e-4)


# What the tests of tensorflow-addons itself ask, in our own words, with the imports changed


def test_modules_have_their_old_names():
    from trellis.tensorflow_addons.layers import CRF
    from trellis.tensorflow_addons.layers.crf import CRF as OfModule
    from trellis.tensorflow_addons.text import crf_log_likelihood
    from trellis.tensorflow_addons.text.crf import CrfDecodeForwardRnnCell, crf_decode
    from trellis.tensorflow_addons.text.crf_wrapper import CRFModelWrapper

    assert CRF is OfModule is tfa.layers.CRF is tfa.layers.crf.CRF
    assert crf_decode is tfa.text.crf_decode is tfa.text.crf.crf_decode
    assert crf_log_likelihood is tfa.text.crf_log_likelihood
    assert CRFModelWrapper is tfa.text.CRFModelWrapper is tfa.text.crf_wrapper.CRFModelWrapper
    assert CrfDecodeForwardRnnCell is tfa.text.CrfDecodeForwardRnnCell


ROWS = np.array([[[1.0, 2, 0], [0, 1, 3], [2, 0, 1]], [[0, 0, 1], [1, 2, 0], [9, 9, 9]]], np.float32)
STEPS = np.array([3, 2])
MOVES = np.array([[0.5, -1, 2], [1, 0, 0], [-2, 1, 0.25]], np.float32)


def every_path(row, length):
    """`{tags: score}` of all paths through one sequence."""
    return {
        tags: sum(row[t, tag] for t, tag in enumerate(tags)) + sum(MOVES[a, b] for a, b in itertools.pairwise(tags))
        for tags in itertools.product(range(3), repeat=length)
    }


PATHS = [every_path(row, length) for row, length in zip(ROWS, STEPS, strict=True)]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_functions_equal_enumeration(dtype):
    steps = STEPS.astype(dtype)
    gold = np.array([[1, 2, 0], [2, 1, 0]])
    score = tfa.text.crf_sequence_score(ROWS, gold, steps, MOVES)
    close(score, [paths[tuple(tags[:n])] for paths, tags, n in zip(PATHS, gold, STEPS, strict=True)])
    norm = [np.logaddexp.reduce(list(paths.values())) for paths in PATHS]
    close(tfa.text.crf_log_norm(ROWS, steps, MOVES), norm)
    close(tfa.text.crf_log_likelihood(ROWS, gold, steps, MOVES)[0], score - norm)
    unary, binary = (
        tfa.text.crf_unary_score(gold, steps, ROWS),
        tfa.text.crf_binary_score(gold, steps, MOVES),
    )
    close(unary + binary, score)
    tags, best = tfa.text.crf_decode(ROWS, MOVES, steps)
    assert [tuple(row[:n]) for row, n in zip(tags.numpy(), STEPS, strict=True)] == [max(p, key=p.get) for p in PATHS]
    close(best, [max(paths.values()) for paths in PATHS])


def test_lengths_of_zero():
    gold, zero = np.zeros((2, 3), int), np.array([0, 2])
    assert tfa.text.crf_sequence_score(ROWS, gold, zero, MOVES).numpy()[0] == 0.0
    assert tfa.text.crf_log_norm(ROWS, zero, MOVES).numpy()[0] == 0.0
    assert tfa.text.crf_log_likelihood(ROWS, gold, zero, MOVES)[0].numpy()[0] == 0.0
    tags, _ = tfa.text.crf_decode(ROWS, MOVES, zero)
    assert tags.shape == (2, 3)
    assert tfa.text.crf_decode(ROWS[:, :1], MOVES, np.array([0, 1]))[0].shape == (2, 1)


@pytest.mark.parametrize("shape", [(2, 1), (2, 2), (1, 3), (2, 4), (2,), (2, 3, 3)])
def test_tags_of_another_shape_than_the_inputs_are_refused(shape):
    gold = np.zeros(shape, int)
    for call in (
        lambda: tfa.text.crf_sequence_score(ROWS, gold, STEPS, MOVES),
        lambda: tfa.text.crf_log_likelihood(ROWS, gold, STEPS, MOVES),
        lambda: tfa.text.crf_unary_score(gold, STEPS, ROWS),
    ):
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
            call()


def test_the_cell_is_a_step_of_decoding():
    cell = tfa.text.CrfDecodeForwardRnnCell(MOVES, dtype="float32")
    assert cell.state_size == cell.output_size == 3
    pointers, state = tfa.text.crf_decode_forward(ROWS[:, 1:], ROWS[:, 0], MOVES, np.array([2, 2]))
    scores, found = tf.constant(ROWS[:, 0]), []
    for step in (1, 2):
        back, [scores] = cell(tf.constant(ROWS[:, step]), [scores])
        found.append(back)
    np.testing.assert_array_equal(pointers, np.stack(found, axis=1))
    close(state, scores)
    again = tfa.text.CrfDecodeForwardRnnCell.from_config(cell.get_config())
    close(
        again(tf.constant(ROWS[:, 1]), [tf.constant(ROWS[:, 0])])[1][0],
        ROWS[:, 1] + (ROWS[:, 0, :, None] + MOVES).max(1),
    )
    layer = keras.layers.RNN(cell, return_sequences=True, return_state=True)
    outputs, last = layer(tf.constant(ROWS[:, 1:]), initial_state=tf.constant(ROWS[:, 0]))
    np.testing.assert_array_equal(outputs, pointers)
    close(last, state)


@pytest.mark.parametrize("graph", [False, True])
def test_padding_on_the_left_is_refused(graph):
    layer = tfa.layers.CRF(3)
    inputs = tf.constant(ROWS)
    call = tf.function(lambda mask: layer(inputs, mask=mask)[0]) if graph else lambda mask: layer(inputs, mask=mask)[0]
    assert call(tf.constant([[True, True, True], [True, True, False]])).shape == (2, 3)
    assert call(tf.constant([[True, True, True], [False, False, False]])).shape == (2, 3)
    with pytest.raises((NotImplementedError, tf.errors.InvalidArgumentError), match="not support left padding"):
        call(tf.constant([[True, True, True], [False, True, True]]))
    with pytest.raises(ValueError, match="must have dim 2"):
        layer(inputs, mask=tf.constant([True, False]))


def test_a_masked_layer_equals_a_shorter_one():
    layer = tfa.layers.CRF(3)
    whole = layer(tf.constant(ROWS), mask=tf.sequence_mask(STEPS, 3))
    short = layer(tf.constant(ROWS[1:, :2]))
    np.testing.assert_array_equal(whole[0][1, :2], short[0][0])
    close(whole[1][1, :2], short[1][0])
    assert whole[2].numpy().tolist() == [3, 2] and whole[2].dtype == tf.int64


class OwnTraining(keras.Model):
    """A user's model of tensorflow-addons' days: the loss is computed in its own `train_step`."""

    def __init__(self):
        super().__init__()
        self.embed = keras.layers.Embedding(30, 8, mask_zero=True)
        self.crf = tfa.layers.CRF(3)

    def call(self, inputs):
        return self.crf(self.embed(inputs))

    def train_step(self, data):
        words, gold = data
        with tf.GradientTape() as tape:
            _, potentials, lengths, kernel = self(words)
            loss = -tf.reduce_mean(tfa.text.crf_log_likelihood(potentials, gold, lengths, kernel)[0])
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"nats": loss}


def small_corpus():
    rng = np.random.default_rng(0)
    words = rng.integers(1, 30, (8, 5)) * (np.arange(5) < rng.integers(1, 6, 8)[:, None])
    return words, words % 3


@pytest.mark.slow
def test_a_model_with_a_training_step_of_its_own_learns():
    words, gold = small_corpus()
    model = OwnTraining()
    model(words)
    model.compile(optimizer_of(model, 0.3), jit_compile=False)
    losses = model.fit(words, gold, epochs=15, verbose=0).history["nats"]
    assert losses[-1] < 0.2 * losses[0]


def wrapped():
    inputs = keras.Input((None,), dtype="int32")
    regularizer = keras.regularizers.L2(0.01)
    features = keras.layers.Embedding(30, 8, mask_zero=True, embeddings_regularizer=regularizer)(inputs)
    return tfa.text.CRFModelWrapper(keras.Model(inputs, features), 3)


@pytest.mark.slow
def test_the_wrapper_reports_the_loss_of_the_crf():
    words, gold = small_corpus()
    model = wrapped()
    model(words)
    model.compile(optimizer_of(model, 0.01), metrics=[keras.metrics.Accuracy()], jit_compile=False)
    history = model.fit(words, gold, validation_data=(words, gold), epochs=2, verbose=0).history
    assert set(history) == {f"{part}{name}" for part in ("", "val_") for name in ("loss", "crf_loss", "accuracy")}
    (potentials, lengths, kernel), _ = model(words, return_crf_internal=True)
    expected = -np.mean(tfa.text.crf_log_likelihood(potentials, gold, lengths, kernel)[0])
    assert history["val_crf_loss"][-1] == pytest.approx(expected, rel=1e-4)
    assert history["val_loss"][-1] > history["val_crf_loss"][-1]
    weighted = model.evaluate(words, gold, sample_weight=np.array([1] + [0] * 7), verbose=0, return_dict=True)
    one = -tfa.text.crf_log_likelihood(potentials, gold, lengths, kernel)[0].numpy()[0]
    assert weighted["crf_loss"] == pytest.approx(one, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["adam", keras.optimizers.SGD(0.1)])
def test_a_saved_and_loaded_wrapper_goes_on(tmp_path, compiled):
    """Eagerly: each of these functions would be traced for one batch."""
    words, gold = small_corpus()
    model = wrapped()
    model.compile(compiled, metrics=[keras.metrics.Accuracy()], run_eagerly=True)
    model.fit(words, gold, verbose=0)
    loaded = _saved_and_loaded(model, tmp_path / "m.keras")
    loaded.run_eagerly = True
    np.testing.assert_array_equal(loaded.predict(words, verbose=0), model.predict(words, verbose=0))
    assert loaded.evaluate(words, gold, verbose=0) == pytest.approx(model.evaluate(words, gold, verbose=0))
    assert loaded.fit(words, gold, verbose=0).history["loss"] == pytest.approx(
        model.fit(words, gold, verbose=0).history["loss"], rel=1e-4
    )
    copy = tfa.text.CRFModelWrapper.from_config(model.get_config())
    copy.compile(jit_compile=False)
    copy.fit(words, gold, verbose=0)
