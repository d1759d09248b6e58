"""Predictions of a tagger for whole parts of the data, in batches."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from omegaconf import DictConfig

from trellis.components.layers.sequence_head import NegativeLogLikelihood, scoring_of
from trellis.components.saved_model.entity_reader import best_segments
from trellis.components.text import tag_schemes
from trellis.components.text.batching import UNSEEN, Buckets, EncodedCorpus, ordered_batches
from trellis.components.training.in_flight import in_flight
from trellis.components.types import TagIds, Tensor

Tags = tuple[str, ...]


class Predictions(NamedTuple):
    """Predictions for the sentences of a part, in the order of the file.

    Attributes:
        tags: the tags of each sentence.
        losses: the nats of the gold tags of each sentence; NaN where they have no probability.
        posteriors: for each sentence, the probability of the entity that begins at each token; 0 where none begins, and
            everywhere if they were not asked for.
    """

    tags: list[Tags]
    losses: np.ndarray
    posteriors: list[np.ndarray]


def predictor(
    model: keras.Model,
    corpora: Mapping[str, EncodedCorpus],
    output_tags: Sequence[str],
    batching: DictConfig,
    with_entities: bool,
) -> Callable[[str, bool], Predictions]:
    """Return a function that predicts the tags of a part and, on request, the probabilities of its entities.

    Args:
        model: a tagger.
        corpora: the sentences of each part.
        output_tags: the name of each tag; in BIO2 if `with_entities`.
        batching: the section of the configuration.
        with_entities: whether tags are of entities.
    """
    loss = NegativeLogLikelihood(reduction="none")
    names = np.array(output_tags, object)

    @functools.cache
    def batches(part: str) -> tf.data.Dataset:
        corpus = corpora[part]
        return ordered_batches(corpus, Buckets(corpus.lengths, batching.evaluation_tokens, batching.max_shapes))

    segments = tag_schemes.segments(output_tags) if with_entities else None

    def of_entities(tags: TagIds) -> Tensor:
        scoring = scoring_of(tags)
        if segments is None or scoring is None:
            return tf.zeros(tf.shape(tags))
        found, posteriors = best_segments(scoring.head, scoring.emissions, scoring.lengths, tags, segments)
        return tf.scatter_nd(tf.stack([found.rows, found.starts], axis=1), posteriors, tf.shape(tags))

    # One graph for all shapes, as several threads ask for it at once.
    _, *signature = batches("dev").element_spec

    @tf.function(input_signature=[*signature, tf.TensorSpec([], tf.bool)], autograph=False)
    def decode(features: Any, gold: Any, posteriors: Any) -> Any:
        tags = model(features, training=False)
        # Gold tags that training never saw have no probability; such sentences have no loss.
        seen = tf.reduce_all(gold != UNSEEN, axis=1)
        losses = loss(tf.maximum(gold, 0), tags)
        of_each = tf.cond(posteriors, lambda: of_entities(tags), lambda: tf.zeros(tf.shape(tags)))
        return tags, tf.where(seen, losses, float("nan")), of_each

    def predict(part: str, posteriors: bool) -> Predictions:
        def run(batch: Any) -> Any:
            rows, features, gold = batch
            return rows, *(values.numpy() for values in decode(features, gold, tf.constant(posteriors)))

        lengths = corpora[part].lengths
        predicted: list[Tags] = [()] * len(lengths)
        losses = np.zeros(len(lengths))
        found: list[np.ndarray] = [np.zeros(0)] * len(lengths)
        for rows, tags, nats, of_each in in_flight(run, batches(part)):
            for index, row in enumerate(rows.numpy()):
                if row >= 0:
                    predicted[row] = tuple(names[tags[index, : lengths[row]]])
                    losses[row] = nats[index]
                    found[row] = of_each[index, : lengths[row]]
        return Predictions(predicted, losses, found)

    return predict
