"""Classifiers of sentences: word vectors, recurrent layers or none, one vector for the sentence, scores of classes."""

import keras

from trellis.components.layers.auxiliary import AuxiliaryLanguageModel
from trellis.components.layers.pooling import Pooling
from trellis.components.layers.stored_weights import Embedding
from trellis.components.layers.word_dropout import WordDropout
from trellis.components.models.recurrent_stack import recurrent_stack


def classifier(
    features,
    classes,
    *,
    cell,
    bidirectional,
    layers,
    units,
    pooling,
    dim,
    dropout,
    auxiliary=0.0,
    name="classifier",
):
    """A classifier as an ordinary functional `keras.Model`.

    Input: `words (batch, time)`, ids with 0 for padding on the right. Output: `scores (batch, classes)`, of which the
    softmax are the probabilities. The layer `sentence` gives the sentence's vector.

    Args:
        features: sizes of the id spaces: `{"words": …}`.
        classes: how many.
        cell: `rnn`, `lstm`, `gru`, or `none` for bags of words; layers: how many; units: width in each direction.
        pooling: `last` (the state after the last word; of both directions), `mean`, `max`, `sum`,
            `attention`, or several: `last+mean+max`.
        dim: width of the word vectors; 0: a score for each class instead, which are added up.
        dropout: rates `{"word", "input", "recurrent", "output"}`.
        auxiliary: weight of the loss of a language model that shares the states; 0: none.
    """
    words = keras.Input((None,), dtype="int32", name="words")
    mask = keras.ops.not_equal(words, 0)
    embedding = Embedding(
        features["words"],
        dim or classes,
        embeddings_initializer="zeros" if not dim else keras.initializers.RandomUniform(-0.15, 0.15),
        name="word_embedding",
    )
    x = embedding(WordDropout(dropout["word"], name="word_dropout")(words))
    if cell != "none":
        x = recurrent_stack(x, mask, cell, bidirectional, layers, units, dropout)
    if auxiliary:
        x = AuxiliaryLanguageModel(features["words"], auxiliary, bidirectional, name="auxiliary")(x, words)
    x = Pooling(pooling, bidirectional, name="pooling")(x, mask=mask)
    sentence = keras.layers.Identity(name="sentence")(x)
    x = keras.layers.Dropout(dropout["output"], name="output_dropout")(sentence)
    scores = keras.layers.Dense(classes, name="scores", dtype="float32")(x) if dim else _Bias(name="scores")(x)
    return keras.Model({"words": words}, scores, name=name)


@keras.saving.register_keras_serializable("trellis")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of labels of which a share goes to all classes alike (Szegedy et al. 2016).

    Args:
        share: of each label, at least 0 and below 1; with 0 it is the ordinary cross-entropy.

    Labels `(batch,)` are numbers of classes, scores `(batch, classes)` logits.
    """

    def __init__(self, share, name="smoothed_crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0.0 <= share < 1.0:
            raise ValueError(f"share={share}: must be at least 0 and below 1")
        self.share = share

    def call(self, labels, scores):
        labels = keras.ops.one_hot(keras.ops.cast(labels, "int32"), scores.shape[-1], dtype=scores.dtype)
        return keras.losses.categorical_crossentropy(labels, scores, from_logits=True, label_smoothing=self.share)

    def get_config(self):
        return {**super().get_config(), "share": self.share}


@keras.saving.register_keras_serializable("trellis")
class _Bias(keras.layers.Layer):
    """Adds a weight for each class."""

    def build(self, shape):
        self.bias = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bias")

    def call(self, scores):
        return scores + self.bias
