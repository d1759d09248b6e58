"""The hidden Markov model, trained by counting: an epoch of `fit` is an iteration of EM."""

import keras
import tensorflow as tf

from trellis.components.lattice import linear_chain
from trellis.components.lattice.potentials import FORBIDDEN, valid_steps
from trellis.components.layers.hmm import HMM, CategoricalEmissions
from trellis.components.layers.sequence_head import allowed_only, lengths_of
from trellis.components.text.templates import parse


@keras.saving.register_keras_serializable("trellis")
class ExpectationMaximization(keras.Model):
    """A functional model of `CategoricalEmissions` and `HMM`, its layers `emissions` and `head`; trained by Baum-Welch.

    `fit(inputs, tags)`: `tags (batch, time)`, where -1 means unknown; or `(batch, time, tags)`, nonzero for each tag
    that is allowed; or None: nothing is known. With all tags known one epoch is the maximum-likelihood estimate. The
    loss is the negative log-likelihood of words and known tags together, in nats a sequence, before the epoch's update;
    without smoothing it never rises.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._mean_loss = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self._mean_loss]

    def fit(self, *args, callbacks=None, **kwargs):
        """As every `fit`; the tables are updated at the end of each epoch."""
        return super().fit(*args, callbacks=[_Update(), *(callbacks or ())], **kwargs)

    def train_step(self, data):
        inputs, tags, _ = keras.utils.unpack_x_y_sample_weight(data)
        head, emissions = self.get_layer("head"), self.get_layer("emissions")
        words, attributes = inputs["words"], inputs["attributes"]
        scores = emissions(words, attributes)
        lengths, _ = lengths_of(scores, tf.not_equal(words, 0))
        if tags is not None:
            scores = _known_only(scores, tags, lengths)
        posteriors, pairs, first, last, total = linear_chain.expected_counts(scores, lengths, *head.scores(False))
        emissions.count(words, attributes, posteriors)
        head.count(pairs, first, last)
        self._mean_loss.update_state(-total, sample_weight=tf.cast(lengths > 0, tf.float32))
        return {"loss": self._mean_loss.result()}


def _known_only(scores, tags, lengths):
    if len(tags.shape) == 3:
        return allowed_only(scores, tags)
    known = valid_steps(scores, lengths) & (tags >= 0)
    wrong = ~tf.one_hot(tags, scores.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    return tf.where(known[..., tf.newaxis] & wrong, FORBIDDEN, scores)


class _Update(keras.callbacks.Callback):
    def _layers(self):
        return [self.model.get_layer(name) for name in ("emissions", "head")]

    def on_epoch_begin(self, epoch, logs=None):
        for layer in self._layers():
            layer.reset_counts()

    def on_epoch_end(self, epoch, logs=None):
        for layer in self._layers():
            layer.maximize()


def hmm(features, tags, *, templates, smoothing, name="hmm"):
    """A part-of-speech tagger by counting.

    Inputs, by name: `words (batch, time)` and `attributes (batch, time, attributes)`. Output: best tags.

    Args:
        features: sizes of the id spaces; tags: number of tags.
        templates: what an unknown word is known by: its shape, then its endings, the longest first.
        smoothing: `{"words", "transitions"}`, added to every count.
    """
    words = keras.Input((None,), dtype="int32", name="words")
    attributes = keras.Input((None, len(parse(templates).attributes)), dtype="int32", name="attributes")
    emissions = CategoricalEmissions(
        features["words"], features["attributes"], tags, smoothing["words"], dtype="float32", name="emissions"
    )
    head = HMM(smoothing["transitions"], dtype="float32", name="head")
    best = head(emissions(words, attributes), mask=keras.ops.not_equal(words, 0))
    return ExpectationMaximization({"words": words, "attributes": attributes}, best, name=name)
