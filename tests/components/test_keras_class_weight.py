"""`fit(class_weight=…)` weighs classes, or is refused: it never means something else, and nothing is ignored."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.components.test_language_model import reader
from tests.components.test_translator import translator
from trellis.components.layers import keras_class_weight
from trellis.components.models.classifier import classifier
from trellis.layers import CRF, MEMM, IndependentTags, NegativeLogLikelihood

WORDS = np.array([[1, 2, 3], [4, 5, 0], [6, 7, 8], [9, 1, 2]])
TAGS = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 0, 1]])
WEIGHTS = {0: 1.0, 1: 5.0, 2: 1.0}


def small_tagger(head, wrapped=lambda loss: loss):
    words = keras.Input((None,), dtype="int32")
    emissions = keras.layers.Dense(3, name="emissions")(keras.layers.Embedding(10, 4, mask_zero=True)(words))
    model = keras.Model(words, head(name="head")(emissions))
    model.compile("sgd", loss=wrapped(NegativeLogLikelihood()), jit_compile=False)
    return model


@pytest.mark.parametrize("head", [CRF, MEMM, IndependentTags])
@pytest.mark.parametrize("tags", [TAGS, TAGS[..., np.newaxis], np.eye(3)[TAGS]], ids=["ids", "axis of one", "one-hot"])
def test_it_is_refused_for_sequences_of_tags(head, tags):
    model = small_tagger(head)
    before = model.get_weights()
    rows = tf.data.Dataset.from_tensor_slices((WORDS, tags)).batch(2)
    for train in (
        lambda: model.fit(WORDS, tags, class_weight=WEIGHTS, verbose=0),
        lambda: model.fit(rows, class_weight=WEIGHTS, verbose=0),
        lambda: model.train_on_batch(WORDS, tags, class_weight=WEIGHTS),
        lambda: model.train_on_batch(WORDS, tags, None, WEIGHTS),
    ):
        with pytest.raises(ValueError, match="class_weight has no meaning for whole sequences; use sample_weight"):
            train()
    for ours, theirs in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("wrapped", [lambda loss: [loss], lambda loss: {"head": loss}])
def test_it_is_refused_however_the_loss_is_named(wrapped):
    with pytest.raises(ValueError, match="class_weight has no meaning"):
        small_tagger(CRF, wrapped).fit(WORDS, TAGS, class_weight=WEIGHTS, verbose=0)


def test_it_is_refused_after_a_step_that_was_traced_with_weights():
    model = small_tagger(IndependentTags)
    model.fit(WORDS, TAGS, sample_weight=np.ones(4), verbose=0)
    with pytest.raises(ValueError, match="class_weight has no meaning"):
        model.fit(WORDS, TAGS, class_weight=WEIGHTS, verbose=0)


def test_sample_weight_weighs_sequences():
    model = small_tagger(IndependentTags)
    losses = [model.evaluate(WORDS[[row]], TAGS[[row]], verbose=0) for row in range(4)]
    weights = np.array([1.0, 2.0, 0.0, 3.0])
    loss = model.fit(WORDS, TAGS, sample_weight=weights, shuffle=False, verbose=0).history["loss"][0]
    assert loss == pytest.approx((losses * weights).sum() / weights.sum(), rel=1e-5)


def test_language_models_and_translators_refuse_what_they_would_ignore():
    model = reader("feedforward")
    model.compile("sgd")
    inputs = {"tokens": WORDS}
    with pytest.raises(ValueError, match="class_weight has no meaning"):
        model.fit(inputs, WORDS, class_weight=WEIGHTS, verbose=0)
    with pytest.raises(ValueError, match="rank 2, expected one weight per row"):
        model.fit(inputs, WORDS, sample_weight=np.ones((4, 3)), verbose=0)
    model = translator()
    model.compile("sgd")
    pairs = {"source": WORDS, "target": WORDS}
    with pytest.raises(ValueError, match="class_weight has no meaning"):
        model.fit(pairs, class_weight=WEIGHTS, verbose=0)
    for others in ({"y": TAGS}, {"sample_weight": np.ones(4)}):
        with pytest.raises(ValueError, match="without y and sample_weight"):
            model.fit(pairs, **others, verbose=0)
    with pytest.raises(ValueError, match="without y and sample_weight"):
        model.fit(tf.data.Dataset.from_tensors((pairs, TAGS, np.ones(4))), verbose=0)


def test_classes_of_sentences_are_weighed():
    options = {"cell": "none", "bidirectional": False, "layers": 0, "units": 0, "pooling": "mean", "dim": 4}
    rates = {"word": 0.0, "input": 0.0, "recurrent": 0.0, "output": 0.0}
    labels = np.array([0, 1, 2, 1])
    losses = []
    for weights in ({"class_weight": WEIGHTS}, {"sample_weight": np.array([1.0, 5.0, 1.0, 5.0])}):
        keras.utils.set_random_seed(1)
        model = classifier({"words": 10}, 3, **options, dropout=rates)
        model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        losses.append(model.fit({"words": WORDS}, labels, **weights, epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize("name", keras_class_weight.METHODS)
def test_the_methods_of_keras_that_are_wrapped_take_it(name):
    assert "class_weight" in inspect.signature(getattr(keras.Model, name)).parameters
