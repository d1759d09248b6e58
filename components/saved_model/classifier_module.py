"""A classifier as a SavedModel: text in, label and probabilities out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trellis.components.layers.stored_weights import restoring
from trellis.components.saved_model.export_module import ExportModule, Requests
from trellis.components.saved_model.request_batching import batched
from trellis.components.text.tokenizer import tokenize
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.components.types import Strings, Tensor


class ClassifierModule(ExportModule):
    """The signatures of a classifier.

    `serving_default` maps `text (batch,)` strings to `label (batch,)`, its `probability (batch,)`, and `probabilities
    (batch, classes)` in the order of `labels (batch, classes)`.
    `embed` maps `text` to `vector (batch, dim)`, the representation of the sentence that the classifier decides on.

    Args:
        model: a model of `trellis.components.models.classifier`.
        vectorizer: the vectorizer it was trained with.
        labels: the classes in order.
        tokenizer: how to split texts, see `trellis.components.text.tokenizer`.
    """

    def __init__(self, model: keras.Model, vectorizer: TokenVectorizer, labels: Iterable[str], tokenizer: str) -> None:
        super().__init__(name="classifier")
        self.vectorizer = vectorizer
        with_vector = keras.Model(model.inputs, [model.output, model.get_layer("sentence").output])
        # Inside a function, so that Keras objects are not stored.
        self._model: Callable[[], keras.Model] = lambda: with_vector
        self.parameters = [variable.value for variable in model.variables]
        self._labels, self._tokenizer = tf.constant(list(labels)), tokenizer
        text = [tf.TensorSpec([None], tf.string, name="text")]
        # Both signatures call one function: the model is traced once.
        self._encode = tf.function(restoring(self._apply), input_signature=text, autograph=False)
        self.serving_default = tf.function(batched(self._classify), input_signature=text, autograph=False)
        self.embed = tf.function(batched(self._embed), input_signature=text, autograph=False)

    def _apply(self, text: Strings) -> tuple[Tensor, Tensor]:
        """Return the scores of the classes `(batch, classes)` and the sentence vectors `(batch, dim)`."""
        scores, vectors = self._model()(self.vectorizer(tokenize(text, self._tokenizer)), training=False)
        return scores, vectors

    def _classify(self, text: Strings) -> dict[str, Tensor]:
        scores, _ = self._encode(text)
        probabilities = tf.nn.softmax(scores)
        return {
            "label": tf.gather(self._labels, tf.argmax(probabilities, axis=-1)),
            "probability": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
            "labels": tf.tile(self._labels[tf.newaxis], [tf.size(text), 1]),
        }

    def _embed(self, text: Strings) -> dict[str, Tensor]:
        _, vectors = self._encode(text)
        return {"vector": tf.cast(vectors, tf.float32)}

    def signatures(self) -> Mapping[str, Callable[..., dict[str, Any]]]:
        """Return the function of each signature."""
        return {"serving_default": self.serving_default, "embed": self.embed}

    def examples(self, texts: Sequence[str]) -> Requests:
        """Return a request to each signature about texts."""
        return {"serving_default": {"text": texts}, "embed": {"text": texts}}
