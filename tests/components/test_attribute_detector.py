"""The detector of attributes in texts, and the noisy channel that it gives to the beam."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trellis.components.models import decoding
from trellis.components.models.attribute_detector import AttributeDetector
from trellis.components.models.vector_to_text import VectorToText
from trellis.components.text.subwords import BEGIN, END, SPECIAL, UNKNOWN

FIRST = len(SPECIAL)
SOURCE = tf.constant([[FIRST, FIRST + 2, END, 0], [FIRST + 1, UNKNOWN, FIRST + 3, END]])


def with_random_weights(detector):
    random = np.random.default_rng(1)
    for weight in detector.weights:
        weight.assign(random.normal(size=weight.shape))
    return detector


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    model = VectorToText(
        9,
        FIRST + 4,
        units=6,
        decoder={"cell": "gru", "layers": 1, "units": 8, "attend_after": "last", "input_feeding": False},
        attention={"kind": "general", "units": 4, "window": None},
        dim=6,
        dropout=dict.fromkeys(("word", "input", "between", "recurrent", "output"), 0.0),
        tied=True,
        label_smoothing=0.0,
    )
    for weight in model.trainable_variables:
        weight.assign(weight * 2)
    model.softmax.bias.assign(3 * tf.one_hot(END, 9))  # texts that end
    with_random_weights(model.detector)
    return model


def test_a_text_read_token_by_token_has_the_log_odds_of_the_whole_text():
    detector = AttributeDetector(3)
    detector.build((None, None))
    with_random_weights(detector)
    texts = np.array([[8, 6, 8, 7, END, 0], [5, END, 0, 0, 0, 0], [END, 0, 0, 0, 0, 0], [8, 8, 6, 7, 5, END]], np.int32)
    whole = detector(texts).numpy()
    for text, expected in zip(texts, whole, strict=True):
        states = detector.first(1)
        for token in [BEGIN, *text[(text != 0) & (text != END)]]:
            states = detector.after(tf.constant([token]), states)
        np.testing.assert_allclose(states[0][0], expected, atol=1e-5)
    np.testing.assert_allclose(detector(texts[:3, :5]), whole[:3], atol=1e-5)  # whatever the padding
    np.testing.assert_allclose(whole[2], detector.bias)
    forwards, backwards = (detector(np.array([ids])).numpy() for ids in ([8, 6, END], [6, 8, END]))
    assert np.abs(forwards - backwards).max() > 0.1


def test_a_detector_finds_attributes_in_texts_that_it_has_not_seen():
    random = np.random.default_rng(0)
    # Attribute `a` is put into words as two tokens in this order; alone, or in the other order, they mean nothing.
    phrases = [(10, 20), (11, 21), (20, 11), (12,)]
    present = random.random((900, 4)) < 0.5
    texts = []
    for row in present:
        parts = [phrases[index] for index in random.permutation(4) if row[index]]
        parts += [(int(token),) for token in random.choice([30, 31, 32], random.integers(1, 4))]
        random.shuffle(parts)
        texts.append([token for part in parts for token in part] + [END])
    width = max(map(len, texts))
    targets = tf.constant([text + [0] * (width - len(text)) for text in texts])
    sources = tf.constant(np.where(present, np.arange(FIRST, FIRST + 4), 0), tf.int32)
    detector = AttributeDetector(4)
    detector.build((None, None))
    detector.fit(lambda rows: tf.gather(sources, rows), lambda rows: tf.gather(targets, rows), 600)
    # Neighbouring phrases can spell another one, (10, 20) (11, 21) for example, so that it cannot be perfect.
    right = (detector(targets[600:]).numpy() > 0) == present[600:]
    assert right.mean() > 0.95 and right[:, 3].all()


def test_the_channel_adds_the_log_probability_of_all_attributes_given_the_text(model):
    settings = {"count": 14, "width": 4, "best": 4, "alpha": 0.5}
    encoded = model.encode(SOURCE)
    found = decoding.translate(model, encoded, channel=0.3, **settings)
    present = np.array([[1, 0, 1, 0], [0, 1, 0, 1]])  # the unknown attribute is not one of the four
    finished = 0
    for row, rank in np.ndindex(2, 4):
        ids = found.ids[row, rank].numpy()
        length = np.count_nonzero(ids)
        if END not in ids:
            continue
        finished += 1
        odds = model.detector(ids[np.newaxis]).numpy()[0]
        expected = -np.logaddexp(0, np.where(present[row], -odds, odds)).sum()
        score = float(found.log_probabilities[row, rank]) / length**0.5 + 0.3 * expected
        assert float(found.scores[row, rank]) == pytest.approx(score, abs=1e-4)
    assert finished > 3
    without = decoding.translate(model, encoded, **settings)
    assert not np.array_equal(without.ids, found.ids)
    off = decoding.translate(model, encoded, channel=tf.constant(0.0), **settings)
    np.testing.assert_array_equal(without.ids, off.ids)


def test_the_channel_of_a_source_does_not_depend_on_its_batch(model):
    settings = {"count": 7, "width": 3, "best": 3, "channel": 0.5}
    together = decoding.translate(model, model.encode(SOURCE), **settings)
    alone = decoding.translate(model, model.encode(SOURCE[:1, :3]), **settings)
    time = alone.ids.shape[2]
    np.testing.assert_array_equal(together.ids[0, :, :time], alone.ids[0])
    np.testing.assert_allclose(together.scores[0], alone.scores[0], atol=1e-5)


def test_training_the_generator_leaves_the_detector_alone(model):
    clone = VectorToText.from_config(model.get_config())
    clone.set_weights(model.get_weights())
    before = clone.detector.kernel.numpy()
    clone.compile(optimizer=keras.optimizers.SGD(0.1))
    clone.fit({"source": SOURCE, "target": tf.constant([[5, 6, END], [7, END, 0]])}, epochs=1, verbose=0)
    np.testing.assert_array_equal(before, clone.detector.kernel)
    assert any(np.abs(a - b).max() > 0 for a, b in zip(clone.get_weights(), model.get_weights(), strict=True))
