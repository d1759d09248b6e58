"""Pooling against NumPy, sentence by sentence without padding."""

import keras
import numpy as np
import pytest

from trellis.components.layers.auxiliary import AuxiliaryLanguageModel
from trellis.components.layers.pooling import Pooling

LENGTHS = np.array([5, 1, 3])
STATES = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
MASK = np.arange(5) < LENGTHS[:, np.newaxis]

BY_HAND = {
    "last": lambda states: states[-1],
    "mean": lambda states: states.mean(0),
    "max": lambda states: states.max(0),
    "sum": lambda states: states.sum(0),
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_pooling_equals_numpy(kind):
    pooled = Pooling(kind)(STATES, mask=MASK)
    expected = [BY_HAND[kind](STATES[row, :length]) for row, length in enumerate(LENGTHS)]
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)


def test_several_kinds_are_concatenated():
    pooled = np.array(Pooling("last+mean+max")(STATES, mask=MASK))
    for row, length in enumerate(LENGTHS):
        alone = [BY_HAND[kind](STATES[row, :length]) for kind in ("last", "mean", "max")]
        np.testing.assert_allclose(pooled[row], np.concatenate(alone), rtol=1e-5)
    assert Pooling("last+mean+max").compute_output_shape((3, 5, 4)) == pooled.shape


def test_last_takes_the_last_state_of_each_direction():
    pooled = np.array(Pooling("last", bidirectional=True)(STATES, mask=MASK))
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(pooled[row], [*STATES[row, length - 1, :2], *STATES[row, 0, 2:]], rtol=1e-6)


def test_attention_is_a_weighted_mean_of_real_steps():
    layer = Pooling("attention")
    pooled = np.array(layer(STATES, mask=MASK))
    hidden, score = (np.array(part.get_weights()[0]) for part in (layer.hidden, layer.score))
    for row, length in enumerate(LENGTHS):
        states = STATES[row, :length]
        weights = np.exp(np.tanh(states @ hidden + layer.hidden.get_weights()[1]) @ score)[:, 0]
        np.testing.assert_allclose(pooled[row], (weights / weights.sum()) @ states, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [*BY_HAND, "attention"])
def test_a_sentence_without_words_is_zero(kind):
    pooled = Pooling(kind)(STATES, mask=np.zeros((3, 5), bool))
    np.testing.assert_array_equal(pooled, np.zeros((3, 4)))


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="must be one of last, mean"):
        Pooling("mean+median")


def test_the_auxiliary_loss_is_that_of_the_next_word():
    layer = AuxiliaryLanguageModel(6, weight=0.5)
    words = np.array([[2, 3, 4, 5, 2], [2, 0, 0, 0, 0], [3, 3, 5, 0, 0]])
    keras.utils.set_random_seed(0)
    np.testing.assert_array_equal(layer(STATES, words, training=True), STATES)
    (loss,) = layer.losses
    every = np.array(layer.softmaxes[0](STATES))
    nats = [-every[row, step, words[row, step + 1]] for row in range(3) for step in range(4) if words[row, step + 1]]
    assert float(loss) == pytest.approx(0.5 * np.mean(nats), rel=1e-5)
    layer(STATES, words, training=False)
    assert not layer.losses
