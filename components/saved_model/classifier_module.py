"""A classifier as a SavedModel: text in, label and probabilities out, and nothing but TensorFlow inside."""

import keras
import tensorflow as tf

from trellis.components.saved_model.request_batching import joined
from trellis.components.text.tokenizer import tokenize


class ClassifierModule(tf.Module):
    """Signatures of a classifier.

    `serving_default`: `text (batch,)` strings to `label (batch,)`, `probability (batch,)` of it, and `probabilities
    (batch, classes)` in the order of `labels (batch, classes)`.
    `embed`: `text` to `vector (batch, dim)`, what the classifier makes of the sentence before it decides.

    Args:
        model: of `trellis.components.models.classifier`.
        vectorizer: the `TokenVectorizer` it was trained with.
        labels: the classes in order.
        tokenizer: see `trellis.components.text.tokenizer`.
    """

    def __init__(self, model, vectorizer, labels, tokenizer):
        super().__init__(name="classifier")
        self.vectorizer = vectorizer
        both = keras.Model(model.inputs, [model.output, model.get_layer("sentence").output])
        # The variables by themselves: a SavedModel keeps no Keras objects, nor does it look into functions for them.
        self._model = lambda: both
        self.parameters = [variable.value for variable in model.variables]
        self._labels, self._tokenizer = tf.constant(list(labels)), tokenizer
        text = [tf.TensorSpec([None], tf.string, name="text")]
        self.serving_default = tf.function(joined(self._classify), input_signature=text)
        self.embed = tf.function(joined(self._embed), input_signature=text)

    def _read(self, text):
        return self._model()(self.vectorizer(tokenize(text, self._tokenizer)), training=False)

    def _classify(self, text):
        scores, _ = self._read(text)
        probabilities = tf.nn.softmax(scores)
        return {
            "label": tf.gather(self._labels, tf.argmax(probabilities, axis=-1)),
            "probability": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
            "labels": tf.tile(self._labels[tf.newaxis], [tf.size(text), 1]),
        }

    def _embed(self, text):
        return {"vector": tf.cast(self._read(text)[1], tf.float32)}

    def examples(self, texts):
        """Requests about texts: `{signature: {input: value}}`."""
        return {"serving_default": {"text": texts}, "embed": {"text": texts}}

    def save(self, path):
        """Writes the SavedModel; no XLA, no gradients and no Python ops go in."""
        signatures = {"serving_default": self.serving_default, "embed": self.embed}
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(self, str(path), signatures=signatures, options=options)
