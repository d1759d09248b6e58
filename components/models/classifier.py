"""Sentence classifiers: word vectors, optional recurrent layers, pooling into one vector, and class scores."""

from collections.abc import Mapping
from typing import Any

import keras

from trellis.components import workers
from trellis.components.layers.auxiliary import AuxiliaryLanguageModel
from trellis.components.layers.pooling import Pooling
from trellis.components.layers.stored_weights import Embedding
from trellis.components.layers.word_dropout import WordDropout
from trellis.components.models.recurrent_stack import recurrent_stack
from trellis.components.types import JSON, Shape, Tensor


def classifier(
    features: Mapping[str, int],
    classes: int,
    *,
    cell: str,
    bidirectional: bool,
    layers: int,
    units: int,
    pooling: str,
    dim: int,
    dropout: Mapping[str, float],
    auxiliary: float = 0.0,
    name: str = "classifier",
) -> keras.Model:
    """Build a classifier as an ordinary functional `keras.Model`.

    Input: `words (batch, time)`, ids with 0 for padding on the right. Output: `scores (batch, classes)`, whose softmax
    gives the probabilities. The layer `sentence` gives the vector of the sentence.

    Args:
        features: sizes of the id spaces: `{"words": …}`.
        classes: number of classes.
        cell: `rnn`, `lstm`, `gru`, or `none` for a bag of words.
        bidirectional: read in both directions.
        layers: number of recurrent layers.
        units: width of each in each direction.
        pooling: `last` (the final state of each direction), `mean`, `max`, `sum` or `attention`, or several of them:
            `last+mean+max`.
        dim: width of the word vectors; 0: each word has a score for each class instead, and pooling combines these.
        dropout: rates `{"word", "input", "recurrent", "output"}`.
        auxiliary: weight of the loss of a language model that shares the states; 0 for none.
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
    """Cross-entropy with label smoothing (Szegedy et al. 2016).

    Args:
        share: the part of each label that is spread evenly over all classes, at least 0 and below 1; 0 is the ordinary
            cross-entropy.

    Labels are class ids `(batch,)`, scores are logits `(batch, classes)`. The mean over a batch is over the rows of all
    workers that train together.
    """

    def __init__(self, share: float, name: str = "smoothed_crossentropy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not 0.0 <= share < 1.0:
            raise ValueError(f"share={share}: must be at least 0 and below 1")
        self.share = share

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        mean = super().__call__(y_true, y_pred, sample_weight)
        if workers.count() == 1:
            return mean
        rows = keras.ops.cast(keras.ops.shape(y_pred)[0], mean.dtype)
        return mean * rows / workers.total(rows)

    def call(self, labels: Tensor, scores: Tensor) -> Tensor:
        labels = keras.ops.one_hot(keras.ops.cast(labels, "int32"), scores.shape[-1], dtype=scores.dtype)
        return keras.losses.categorical_crossentropy(labels, scores, from_logits=True, label_smoothing=self.share)

    def get_config(self) -> JSON:
        return {**super().get_config(), "share": self.share}


@keras.saving.register_keras_serializable("trellis")
class _Bias(keras.layers.Layer):
    """Add a bias to the score of each class."""

    def build(self, shape: Shape) -> None:
        self.bias = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bias")

    def call(self, scores: Tensor) -> Tensor:
        return scores + self.bias
