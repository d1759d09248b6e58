"""Notes on tensors: what the loss of a sequence head relies on, and where it ends."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.components import crfs_in_threads
from trellis.components.layers.crf import CRF
from trellis.components.layers.sequence_head import NegativeLogLikelihood
from trellis.components.layers.tensor_notes import TensorNotes


class Bare:
    """An object that takes weak references but no attributes, as JAX arrays are."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("make", [lambda: tf.zeros([2]), Bare], ids=["attributes", "no attributes"])
def test_a_note_belongs_to_its_tensor(make):
    notes, first, second = TensorNotes("_note"), make(), make()
    notes.attach(first, "first")
    assert notes.get(first) == "first" and notes.get(second) is None
    notes.attach(second, "second")
    notes.attach(first, "again")
    assert notes.get(first) == "again" and notes.get(second) == "second"


def test_a_note_is_dropped_with_its_tensor():
    notes, tensor, value = TensorNotes("_note"), Bare(), Bare()
    notes.attach(tensor, value)
    del tensor, value
    gc.collect()
    assert not notes._by_identity


@pytest.mark.slow
def test_models_in_threads_and_with_two_outputs():
    """On other backends: see test_backends.py."""
    crfs_in_threads.require_losses_of_models_trained_alone(crfs_in_threads.answers())


WORDS = np.array([[1, 2, 3], [4, 2, 0]])


def model_with(change):
    """A tagger whose output is changed after the CRF."""
    inputs = keras.Input((None,), dtype="int32")
    emissions = keras.layers.Embedding(5, 3, mask_zero=True)(inputs)
    return keras.Model(inputs, change(CRF()(emissions)))


@pytest.mark.parametrize(
    "change",
    [
        lambda tags: keras.ops.cast(tags, "float32"),
        lambda tags: keras.ops.reshape(tags, (-1, 3)),
        lambda tags: tags + 0,
        lambda tags: tags[:, :3],
        lambda tags: keras.layers.Reshape((3,))(tags),
        lambda tags: keras.layers.Lambda(lambda values: values * 1)(tags),
    ],
    ids=["cast", "reshaped", "computed with", "sliced", "a layer", "a lambda"],
)
@pytest.mark.parametrize("eagerly", [False, True])
def test_a_tensor_made_from_the_tags_is_refused(change, eagerly):
    model = model_with(change)
    model.compile("sgd", loss=NegativeLogLikelihood(), run_eagerly=eagerly)
    with pytest.raises(ValueError, match="needs the untouched output of a CRF"):
        model.fit(WORDS, WORDS % 3, verbose=0)


@pytest.mark.slow
def test_the_output_of_a_nested_model_is_accepted():
    inner = model_with(lambda tags: tags)
    outer_inputs = keras.Input((None,), dtype="int32")
    outer = keras.Model(outer_inputs, keras.layers.Identity()(inner(outer_inputs)))
    outer.compile("sgd", loss=NegativeLogLikelihood())
    assert np.isfinite(outer.fit(WORDS, WORDS % 3, verbose=0).history["loss"]).all()
