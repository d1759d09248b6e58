"""The hidden Markov model, trained by counting: an epoch of `fit` is an iteration of EM."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trellis.components import workers
from trellis.components.lattice import linear_chain
from trellis.components.lattice.potentials import FORBIDDEN, valid_steps
from trellis.components.layers.hmm import HMM, CategoricalEmissions, CountedTables
from trellis.components.layers.keras_class_weight import refuses_class_weight
from trellis.components.layers.sequence_head import allowed_only, gold_tags, lengths_of
from trellis.components.text.templates import parse
from trellis.components.types import JSON, Emissions, Lengths, Tensor


@refuses_class_weight
@keras.saving.register_keras_serializable("trellis")
class ExpectationMaximization(keras.Model):
    """A functional model of `CategoricalEmissions` (layer `emissions`) and `HMM` (layer `head`), trained by Baum-Welch.

    `fit(inputs, tags)` takes `tags (batch, time)`, where -1 means unknown; or `(batch, time, tags)`, nonzero for each
    tag that is allowed; or None, where nothing is known. If all tags are known, one epoch is the maximum-likelihood
    estimate. A sequence counts `sample_weight (batch,)` times. The loss is the negative log-likelihood of words and
    known tags together, in nats per sequence, before the epoch's update; without smoothing it never rises.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._mean_loss = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[Any]:
        return [self._mean_loss]

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *args: Any,
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Train as every `fit` does; the tables are updated at the end of each epoch."""
        if y is None and kwargs.get("sample_weight") is not None:
            # Keras drops the weights of rows without a target.
            y = np.full(np.shape(x["words"]), -1)
        return super().fit(x, y, *args, callbacks=[_Update(), *(callbacks or ())], **kwargs)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        inputs, tags, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        head, emissions = self.get_layer("head"), self.get_layer("emissions")
        words, attributes = inputs["words"], inputs["attributes"]
        scores = emissions(words, attributes)
        lengths, _ = lengths_of(scores, tf.not_equal(words, 0))
        if tags is not None:
            scores = _known_only(scores, tags, lengths)
        weights = tf.cast(lengths > 0, tf.float32)
        if sample_weight is not None:
            if sample_weight.shape.rank not in (1, None):
                raise ValueError(f"sample_weight has rank {sample_weight.shape.rank}, expected one weight per sequence")
            sample_weight = tf.ensure_shape(sample_weight, [None])
            weights *= tf.cast(sample_weight, tf.float32)
        transitions, start, end = head.scores(False)
        counted = None if sample_weight is None else weights
        posteriors, *chain, total = linear_chain.expected_counts(
            scores, lengths, transitions, start, end, weights=counted
        )
        emissions.count(words, attributes, posteriors)
        head.count(*chain)
        self._mean_loss.update_state(-total, sample_weight=weights)
        return {"loss": self._mean_loss.result()}


def _known_only(scores: Emissions, tags: Tensor, lengths: Lengths) -> Emissions:
    """Forbid the tags that contradict the known ones."""
    tags = gold_tags(tags, scores)
    if len(tags.shape) == 3:
        return allowed_only(scores, tags)
    known = valid_steps(scores, lengths) & (tags >= 0)
    other = ~tf.one_hot(tf.cast(tags, tf.int32), scores.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    return tf.where(known[..., tf.newaxis] & other, FORBIDDEN, scores)


class _Update(keras.callbacks.Callback):
    """Reset counts before each epoch and maximise after it."""

    def _layers(self) -> list[CountedTables]:
        return [self.model.get_layer(name) for name in ("emissions", "head")]

    def on_epoch_begin(self, epoch: int, logs: JSON | None = None) -> None:
        for layer in self._layers():
            layer.reset_counts()

    def on_epoch_end(self, epoch: int, logs: JSON | None = None) -> None:
        counts = [counts for layer in self._layers() for counts in layer.counts]
        workers.sum_variables([*counts, *(variable for metric in self.model.metrics for variable in metric.variables)])
        if workers.count() > 1 and logs is not None:  # for the callbacks that follow
            logs["loss"] = float(self.model.metrics[0].result())
        for layer in self._layers():
            layer.maximize()


def hmm(
    features: Mapping[str, int],
    tags: int,
    *,
    templates: Sequence[str],
    smoothing: Mapping[str, float],
    name: str = "hmm",
) -> ExpectationMaximization:
    """Build a part-of-speech tagger that is trained by counting.

    Inputs, by name: `words (batch, time)` and `attributes (batch, time, attributes)`. Output: best tags.

    Args:
        features: sizes of the id spaces, `{"words": …, "attributes": …}`.
        tags: number of tags.
        templates: the attributes of unknown words: the shape, then the endings, the longest first.
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
