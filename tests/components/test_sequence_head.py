"""CRF and independent tags as Keras layers: everything that one does with a layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.layers.crf import CRF
from components.layers.sequence_head import IndependentTags, NegativeLogLikelihood

HEADS = {"crf": CRF, "independent": IndependentTags}
RNG = np.random.default_rng(0)
LENGTHS = np.array([5, 3, 1, 4, 2, 5])
WORDS = RNG.integers(1, 20, (6, 5)) * (np.arange(5) < LENGTHS[:, None])
TAGS = RNG.integers(0, 4, (6, 5))


def functional(head):
    words = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(20, 8, mask_zero=True)(words)
    x = keras.layers.Bidirectional(keras.layers.LSTM(8, return_sequences=True))(x)
    return keras.Model(words, HEADS[head]()(keras.layers.Dense(4)(x)))


def compiled(model):
    model.compile(
        keras.optimizers.Adam(0.02), loss=NegativeLogLikelihood(), weighted_metrics=[keras.metrics.Accuracy()]
    )
    return model


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(20, 8, mask_zero=True)
        self.emissions = keras.layers.Dense(4)
        self.crf = CRF()

    def call(self, words):
        embedded = self.embedding(words)
        return self.crf(self.emissions(embedded), mask=self.embedding.compute_mask(words))


@pytest.mark.parametrize("head", HEADS)
def test_fit_evaluate_predict_save_load_clone(head, tmp_path):
    keras.utils.set_random_seed(0)
    model = compiled(functional(head))
    losses = model.fit(WORDS, TAGS, epochs=60, batch_size=6, verbose=0).history["loss"]
    assert losses[-1] < 0.2 * losses[0]
    loss, accuracy = model.evaluate(WORDS, TAGS, verbose=0)
    predicted = model.predict(WORDS, verbose=0)
    valid = np.arange(5) < LENGTHS[:, None]
    assert accuracy == pytest.approx((predicted == TAGS)[valid].mean())
    assert not predicted[~valid].any()

    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.predict(WORDS, verbose=0), predicted)
    assert loaded.evaluate(WORDS, TAGS, verbose=0) == pytest.approx([loss, accuracy])
    loaded.fit(WORDS, TAGS, epochs=1, verbose=0)

    cloned = keras.models.clone_model(model)
    cloned.set_weights(model.get_weights())
    np.testing.assert_array_equal(cloned.predict(WORDS, verbose=0), predicted)


@pytest.mark.parametrize("head", HEADS)
def test_export(head, tmp_path):
    model = functional(head)
    model.export(tmp_path / "export", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "export")
    np.testing.assert_array_equal(loaded.serve(tf.constant(WORDS, tf.int32)), model.predict(WORDS, verbose=0))


def test_in_a_subclassed_model():
    model = compiled(Subclassed())
    losses = model.fit(WORDS, TAGS, epochs=40, batch_size=6, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("head", HEADS)
def test_mixed_precision(head):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = compiled(functional(head))
    finally:
        keras.config.set_dtype_policy("float32")
    losses = model.fit(WORDS, TAGS, epochs=40, batch_size=6, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]
    assert all(weight.dtype == "float32" for weight in model.layers[-1].weights)


def test_distributed_over_two_replicas():
    """The devices that conftest made: the first step's loss is that of one replica over the same batch."""
    keras.utils.set_random_seed(3)
    alone = compiled(functional("crf"))
    strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    with strategy.scope():
        model = compiled(functional("crf"))
        model.set_weights(alone.get_weights())
    losses = model.fit(WORDS, TAGS, epochs=20, batch_size=6, verbose=0).history["loss"]
    alone_losses = alone.fit(WORDS, TAGS, epochs=20, batch_size=6, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(alone_losses[0], rel=1e-3)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("head", HEADS)
def test_loss_is_that_of_the_definition(head):
    emissions = tf.constant(RNG.normal(size=(6, 5, 4)), tf.float32)
    layer = HEADS[head]()
    tags = layer(emissions, mask=tf.sequence_mask(LENGTHS, 5))
    each = NegativeLogLikelihood(reduction="none")(TAGS, tags)
    probabilities = layer.marginals(emissions, LENGTHS)
    if head == "independent":
        for row, length in enumerate(LENGTHS):
            chosen = probabilities.numpy()[row, range(length), TAGS[row, :length]]
            np.testing.assert_allclose(each[row], -np.log(chosen).sum(), rtol=1e-5)
    # The likelihoods of every tag of a sequence of length 1 sum to one.
    one = [NegativeLogLikelihood(reduction="none")(np.full_like(TAGS, tag), tags)[2] for tag in range(4)]
    np.testing.assert_allclose(np.exp(-np.array(one)).sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(NegativeLogLikelihood()(TAGS, tags), np.mean(each), rtol=1e-6)
    np.testing.assert_allclose(NegativeLogLikelihood(reduction="sum")(TAGS, tags), np.sum(each), rtol=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_dummy_rows_and_weights(head):
    emissions = tf.constant(RNG.normal(size=(6, 5, 4)), tf.float32)
    layer = HEADS[head]()
    loss = NegativeLogLikelihood()
    alone = loss(TAGS[:2], layer(emissions[:2], mask=tf.sequence_mask(LENGTHS[:2], 5)))
    filled = loss(TAGS, layer(emissions, mask=tf.sequence_mask([5, 3, 0, 0, 0, 0], 5)))
    weighted = loss(TAGS, layer(emissions, mask=tf.sequence_mask(LENGTHS, 5)), sample_weight=[1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose([filled, weighted], [alone, alone], rtol=1e-6)
    only_padding = loss(TAGS, layer(emissions, mask=tf.zeros((6, 5), tf.bool)))
    assert float(only_padding) == 0.0


def test_clear_refusals():
    with pytest.raises(ValueError, match="output of a CRF"):
        NegativeLogLikelihood()(TAGS, tf.zeros((6, 5)))
    with pytest.raises(ValueError, match="one a sequence"):
        NegativeLogLikelihood()(TAGS, CRF()(tf.zeros((6, 5, 4))), sample_weight=np.ones((6, 5)))
    with pytest.raises(ValueError, match="reduction"):
        NegativeLogLikelihood(reduction="median")
    with pytest.raises(ValueError, match="number of tags"):
        CRF().build((None, None, None))
