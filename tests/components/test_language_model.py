"""Neural language models: carried states, masks, softmaxes, and what training on segments means."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trellis.components.layers.peephole import PeepholeLSTM
from trellis.components.layers.word_softmax import WordSoftmax
from trellis.components.models.language_model import (
    FeedForwardLanguageModel,
    MaximumEntropyLanguageModel,
    RecurrentLanguageModel,
)
from trellis.components.text.stream import BOUNDARY, Lines, Segments, Stream, vocabulary
from trellis.components.text.text_part import TextInMemory

VOCABULARY = 12
FULL = {"kind": "full", "samples": 4, "cutoffs": [5, 8]}
NO_DROPOUT = {"input": 0.0, "between": 0.0, "output": 0.0, "recurrent": 0.0}


def recurrent(cell="lstm", **options):
    settings = {"cell": cell, "layers": 2, "units": 6, "dim": 6, "dropout": NO_DROPOUT, "tied": False, "softmax": FULL}
    return RecurrentLanguageModel(VOCABULARY, **settings | options)


def reader(kind):
    keras.utils.set_random_seed(1)
    if kind == "feedforward":
        return FeedForwardLanguageModel(
            VOCABULARY, context=3, units=5, dim=4, dropout=NO_DROPOUT, tied=True, softmax=FULL
        )
    if kind == "maxent":
        model = MaximumEntropyLanguageModel(
            VOCABULARY, templates=["word[-1:0]", "word[-1]&word[0]"], words=20, buckets=64
        )
        for weight in model.trainable_variables:
            weight.assign(np.random.default_rng(0).normal(size=weight.shape))
        return model
    return recurrent(kind)


KINDS = ["rnn", "lstm", "gru", "peephole", "feedforward", "maxent"]
TOKENS = np.array([[2, 3, 4, 5, 6, 7], [2, 9, 9, 3, 0, 0]])
LENGTHS = np.array([6, 4])


@pytest.mark.parametrize("kind", KINDS)
def test_reading_in_parts_equals_reading_at_once(kind):
    model = reader(kind)
    whole, end = model.read(tf.constant(TOKENS), model.initial_states(2))
    states, parts = model.initial_states(2), []
    for cut in (TOKENS[:, :1], TOKENS[:, 1:4], TOKENS[:, 4:5], TOKENS[:, 5:]):
        features, states = model.read(tf.constant(cut), states)
        parts.append(features)
    np.testing.assert_allclose(tf.concat(parts, 1), whole, atol=1e-5)
    for state, expected in zip(states, end, strict=True):
        np.testing.assert_allclose(state, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_not_read(kind):
    model = reader(kind)
    features, states = model.read(tf.constant(TOKENS), model.initial_states(2), tf.constant(LENGTHS))
    alone, end = model.read(tf.constant(TOKENS[1:, :4]), model.initial_states(1))
    np.testing.assert_allclose(features[1, :4], alone[0], atol=1e-5)
    for state, expected in zip(states, end, strict=True):
        np.testing.assert_allclose(state[1], expected[0], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_sum_to_one_without_padding(kind):
    model = reader(kind)
    features, _ = model.read(tf.constant(TOKENS), model.initial_states(2))
    every = tf.exp(model.log_probabilities(features)).numpy()
    np.testing.assert_allclose(every.sum(-1), 1, atol=1e-5)
    assert every[..., 0].max() == 0
    for word in (1, 4, 11):
        log_probability = model.token_log_probabilities(features, tf.fill(TOKENS.shape, word))
        np.testing.assert_allclose(tf.exp(log_probability), every[..., word], rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_scores_as_the_saved_one(kind, tmp_path):
    model = reader(kind)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(model(tf.constant(TOKENS)), again(tf.constant(TOKENS)), atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"tied": True}, {"tied": True, "dim": 4}, {"softmax": FULL | {"kind": "adaptive"}}]
)
def test_other_softmaxes_load_and_sum_to_one(options, tmp_path):
    model = recurrent(**options)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(model(tf.constant(TOKENS)), again(tf.constant(TOKENS)), atol=1e-6)
    features, _ = again.read(tf.constant(TOKENS), again.initial_states(2))
    np.testing.assert_allclose(tf.exp(again.log_probabilities(features)).numpy().sum(-1), 1, atol=1e-5)


def test_tied_embeddings_are_one_matrix():
    names = [id(weight) for weight in recurrent(tied=True).trainable_variables]
    assert len(names) == len(recurrent().trainable_variables) - 1 and len(set(names)) == len(names)


def test_adaptive_softmax_of_one_word_is_its_share():
    softmax = WordSoftmax(VOCABULARY, "adaptive", cutoffs=[4, 7])
    features = tf.random.stateless_normal([5, 16], [1, 2])
    every = softmax(features)
    targets = tf.constant([1, 3, 4, 6, 11])
    np.testing.assert_allclose(
        softmax.token_log_probabilities(features, targets), tf.gather(every, targets, batch_dims=1), atol=1e-5
    )
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(every), -1), 1, atol=1e-5)


@pytest.mark.slow
def test_sampled_softmax_learns_what_the_full_one_learns():
    keras.utils.set_random_seed(3)
    expected = np.array([0, 0, 0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0, 0, 0])
    targets = np.random.default_rng(0).choice(VOCABULARY, size=4000, p=expected)
    softmax = WordSoftmax(VOCABULARY, "sampled", samples=6)
    features = tf.ones([100, 4])
    softmax(features)
    optimizer = keras.optimizers.Adam(0.05)
    for step in range(120):
        batch = tf.constant(targets[step % 40 * 100 :][:100])
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(softmax.token_log_probabilities(features, batch, training=True))
        optimizer.apply(
            tape.gradient(loss, [v.value for v in softmax.trainable_variables]), softmax.trainable_variables
        )
    np.testing.assert_allclose(tf.exp(softmax(features))[0], expected, atol=0.08)


def test_a_tied_adaptive_softmax_is_refused():
    with pytest.raises(ValueError, match="cannot share"):
        recurrent(tied=True, softmax=FULL | {"kind": "adaptive"})


def test_a_peephole_lstm_without_peepholes_is_an_lstm():
    inputs = tf.random.stateless_normal([2, 5, 3], [0, 1])
    ours, theirs = PeepholeLSTM(4, return_sequences=True), keras.layers.LSTM(4, return_sequences=True)
    ours(inputs), theirs(inputs)
    ours.set_weights([*theirs.get_weights(), np.zeros((3, 4))])
    np.testing.assert_allclose(ours(inputs), theirs(inputs), atol=1e-6)


def test_a_peephole_lstm_equals_its_definition():
    layer = PeepholeLSTM(1, return_sequences=True)
    inputs = tf.constant([[[1.0], [2.0]]])
    layer(inputs)
    layer.set_weights([np.full((1, 4), 0.5), np.full((1, 4), 0.25), np.zeros(4), np.array([[1.0], [2.0], [3.0]])])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    hidden = cell = 0.0
    for x, got in zip((1.0, 2.0), layer(inputs)[0, :, 0], strict=True):
        gate = 0.5 * x + 0.25 * hidden
        cell = sigmoid(gate + 2 * cell) * cell + sigmoid(gate + cell) * np.tanh(gate)
        hidden = sigmoid(gate + 3 * cell) * np.tanh(cell)
        assert float(got) == pytest.approx(hidden, rel=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "feedforward", "maxent"])
def test_mixed_precision_gives_float32_probabilities(kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = reader(kind)
    finally:
        keras.config.set_dtype_policy("float32")
    features, _ = model.read(tf.constant(TOKENS), model.initial_states(2))
    probabilities = tf.exp(model.log_probabilities(features))
    assert probabilities.dtype == tf.float32
    np.testing.assert_allclose(tf.reduce_sum(probabilities, -1), np.ones(TOKENS.shape), atol=1e-4)
    loss, _ = trained(model, segment(0, [True, True]))
    assert np.isfinite(loss)


# Segments


DOCUMENTS = [[list("abcab"), list("ca")], [list("b"), list("abba")]]


def stream(backwards=False):
    return Stream(DOCUMENTS, vocabulary(TextInMemory(DOCUMENTS).counts(), "words"), "words", backwards)


def test_the_stream_is_the_text():
    text = stream()
    words = ["", "<unk>", *vocabulary(TextInMemory(DOCUMENTS).counts(), "words").words]
    assert [words[index] for index in text.ids] == [*"abcab", "</s>", *"ca", "</s>", "b", "</s>", *"abba", "</s>"]
    assert text.documents.tolist() == [0, 9] and text.lines.tolist() == [0, 6, 9, 11]
    assert text.characters == len("a b c a b\nc a\nb\na b b a\n")
    backwards = stream(backwards=True)
    assert [words[index] for index in backwards.ids[:9]] == [*"ac", "</s>", *"bacba", "</s>"]


@pytest.mark.parametrize(("rows", "length"), [(1, 3), (2, 3), (3, 4), (5, 50)])
def test_every_token_is_a_target_once(rows, length):
    text = stream()
    segments = Segments(text, rows, length)
    positions = segments.positions[segments.positions >= 0]
    assert sorted(positions.tolist()) == list(range(len(text)))
    np.testing.assert_array_equal(
        text.ids[segments.positions[segments.positions >= 0]], segments.targets[segments.targets > 0]
    )
    for row in range(segments.positions.shape[1]):
        seen = -1
        for step, starts in zip(segments.positions[:, row], segments.starts[:, row], strict=True):
            there = step[step >= 0]
            if len(there):
                assert starts == (there[0] in text.documents or there[0] != seen + 1 or seen < 0)
                assert not np.intersect1d(there[1:], text.documents).size
                seen = there[-1]


def test_what_is_read_is_the_token_before():
    text = stream()
    segments = Segments(text, 2, 4)
    for before, position in zip(segments.inputs.flat, segments.positions.flat, strict=True):
        if position in text.documents:
            assert before == BOUNDARY
        elif position >= 0:
            assert before == text.ids[position - 1]


def test_lines_are_read_on_their_own():
    text = stream()
    lines = Lines(text)
    inputs, targets = lines.batch(tf.constant([1, 3, -1]), 6)
    assert targets.numpy().tolist() == [
        [*text.ids[6:9], 0, 0, 0],
        [*text.ids[11:16], 0],
        [0] * 6,
    ]
    assert inputs["tokens"].numpy()[0].tolist() == [BOUNDARY, *text.ids[6:8], 0, 0, 0]


def segment(seed, starts):
    tokens = np.random.default_rng(seed).integers(1, VOCABULARY, (2, 5))
    return {"tokens": tf.constant(tokens), "starts": tf.constant(starts)}, tf.constant(np.roll(tokens, -1, 1))


def trained(model, *segments):
    model.compile(keras.optimizers.SGD(0.0))
    model.carry(2)
    return [model.train_step(data)["loss"] for data in segments][-1], [v.numpy() for v in model.carried]


@pytest.mark.parametrize("kind", ["lstm", "gru", "feedforward"])
def test_states_are_carried_from_segment_to_segment(kind):
    first, second = segment(0, [True, True]), segment(1, [False, False])
    model = reader(kind)
    _, carried = trained(model, first, second)
    tokens = tf.concat([first[0]["tokens"], second[0]["tokens"]], 1)
    _, expected = model.read(tokens, model.initial_states(2))
    for state, reference in zip(carried, expected, strict=True):
        np.testing.assert_allclose(state, reference, atol=1e-5)


def test_nothing_leaks_into_a_new_document():
    model = reader("lstm")
    second = segment(1, [False, True])
    _, after_one = trained(model, segment(0, [True, True]), second)
    _, after_other = trained(model, segment(5, [True, True]), second)
    assert np.abs(after_one[0][0] - after_other[0][0]).max() > 1e-4
    for first, second in zip(after_one, after_other, strict=True):
        np.testing.assert_array_equal(first[1], second[1])


def test_the_loss_is_a_mean_over_real_tokens():
    model = reader("lstm")
    inputs, targets = segment(0, [True, True])
    targets = targets.numpy()
    targets[1, 2:] = 0
    loss, _ = trained(model, (inputs, tf.constant(targets)))
    features, _ = model.read(inputs["tokens"], model.initial_states(2))
    nats = -model.token_log_probabilities(features, targets).numpy()[targets > 0]
    assert float(loss) == pytest.approx(nats.mean(), rel=1e-5)
