"""Folds of the training part that are left out of training (`limit.leave_out`), and the posteriors of their labels.

If several runs leave out one fold each, every label gets its probability from a model that has not seen it.
`trellis label errors` finds wrong labels in this way.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf
from omegaconf import DictConfig

from trellis.components.errors import InputError
from trellis.components.layers.sequence_head import scoring_of
from trellis.components.readers import tagged
from trellis.components.readers.sentence import Sentence, document_numbers
from trellis.components.readers.sources import Source
from trellis.components.text import tag_schemes
from trellis.components.text.batching import UNSEEN, Buckets, EncodedCorpus, ordered_batches
from trellis.pipelines.tag_predictions import Predictions

PART = "left_out"
FILE = "left_out.jsonl"
DOCUMENTS = 4  # minimum per fold, if folds consist of documents

_BIO2 = tag_schemes.Scheme("BIO2")


class Fold(NamedTuple):
    """The fold `number`, from 1, of `folds`; written `2/5`."""

    number: int
    folds: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the fold of `limit.leave_out`.

        Raises:
            InputError: there is no such fold.
        """
        number, folds = map(int, text.split("/"))
        if not (1 <= number <= folds and folds > 1):
            raise InputError(f"limit.leave_out={text}: no such fold; expected 1/5 to 5/5 for five folds")
        return cls(number, folds)

    def rows(self, sentences: Sequence[Sentence], seed: int) -> list[int]:
        """Return the rows of the fold's sentences; every sentence is in exactly one fold.

        Folds consist of random documents if there are at least `DOCUMENTS` per fold, otherwise of random sentences.
        """
        documents = document_numbers(sentences)
        if len(set(documents)) < DOCUMENTS * self.folds:
            documents = list(range(len(sentences)))
        distinct = list(dict.fromkeys(documents))
        order = np.random.default_rng(seed).permutation(len(distinct))
        own = {distinct[index] for index in order[self.number - 1 :: self.folds]}
        return [row for row, document in enumerate(documents) if document in own]

    def without(self, sentences: Sequence[Sentence], rows: Sequence[int]) -> list[Sentence]:
        """Return the sentences outside of the fold, without copies of its sentences.

        Args:
            rows: of the fold.

        Raises:
            InputError: the fold or the rest is empty.
        """
        words = {sentences[row].tokens for row in rows}
        rest = [sentence for sentence in sentences if sentence.tokens not in words]
        if not (rows and rest):
            raise InputError(
                f"limit.leave_out={self.number}/{self.folds}: {len(sentences)} sentences of training are too few"
            )
        return rest


class LeftOut(NamedTuple):
    """The sentences that a run leaves out of training.

    Attributes:
        sentences: the sentences, cut to `data.max_length`.
        rows: the row in the training part of each sentence, or of the sentence that it was cut from.
    """

    sentences: Sequence[Sentence]
    rows: Sequence[int]


class _Posteriors(NamedTuple):
    """Posterior probabilities for a sentence.

    Attributes:
        gold, predicted: of the gold tags and of the predicted tags, `(time,)`.
        entities: of the gold entities, each as a whole, `(entities,)`.
    """

    gold: np.ndarray
    predicted: np.ndarray
    entities: np.ndarray


def write(
    path: Path,
    source: Source,
    left_out: LeftOut,
    predictions: Predictions,
    model: keras.Model,
    corpus: EncodedCorpus,
    output_tags: Sequence[str],
    batching: DictConfig,
    with_entities: bool,
) -> None:
    """Write the labels of a fold and the predictions for it, with their posteriors: one JSON line per sentence.

    Args:
        path: the file to write.
        source: the file of the training part.
        left_out: the fold.
        predictions: for it.
        model: a tagger that was trained without it.
        corpus: its sentences as tensors.
        output_tags: the name of each tag; in BIO2 if `with_entities`.
        batching: the section of the configuration.
        with_entities: whether tags are of entities; if not, each token is listed as an entity is.
    """
    posteriors = _posteriors(model, corpus, left_out.sentences, output_tags, batching, with_entities)
    with open(path, "w", encoding="utf-8") as file:
        for row, sentence, tags, found, of_each in zip(
            left_out.rows, left_out.sentences, predictions.tags, predictions.posteriors, posteriors, strict=True
        ):
            record: dict[str, Any] = {
                "places": _places(source, sentence, row),
                "tokens": sentence.tokens,
                "tags": sentence.tags,
                "predicted_tags": tags,
                "probabilities": _rounded(of_each.gold),
                "predicted_probabilities": _rounded(of_each.predicted),
            }
            if with_entities:
                gold, predicted = (tag_schemes.entities(each, _BIO2) for each in (sentence.tags, tags))
                record["gold"] = _listed(gold, of_each.entities)
                record["predicted"] = _listed(predicted, found[[each.start for each in predicted]])
            else:
                for name, own, values in (
                    ("gold", sentence.tags, of_each.gold),
                    ("predicted", tags, of_each.predicted),
                ):
                    record[name] = _listed(
                        [tag_schemes.Entity(tag, index, index + 1) for index, tag in enumerate(own)], values
                    )
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _places(source: Source, sentence: Sentence, row: int) -> list[str]:
    """Return the place of each token, as exactly as the reader records it."""
    if not sentence.lines:
        return [f"{sentence.file or source}: sentence {row + 1}"] * len(sentence.tokens)
    return [tagged.place(source, [sentence], 0, token) for token in range(len(sentence.tokens))]


def _listed(entities: Sequence[tag_schemes.Entity], probabilities: np.ndarray) -> list[Mapping[str, Any]]:
    return [
        {"type": kind, "start": start, "end": stop, "probability": probability}
        for (kind, start, stop), probability in zip(entities, _rounded(probabilities), strict=True)
    ]


def _rounded(values: np.ndarray) -> list[float]:
    """Return probabilities with four significant digits."""
    return [float(f"{min(max(value, 0.0), 1.0):.4g}") for value in values.tolist()]


def _posteriors(
    model: keras.Model,
    corpus: EncodedCorpus,
    sentences: Sequence[Sentence],
    output_tags: Sequence[str],
    batching: DictConfig,
    with_entities: bool,
) -> list[_Posteriors]:
    """Return the posteriors of the tags of sentences; 0 for tags and types that training never saw."""
    segments = tag_schemes.segments(output_tags if with_entities else ())
    kind_ids = {name: index for index, name in enumerate(segments.names)}
    gold = [tag_schemes.entities(sentence.tags, _BIO2) if with_entities else [] for sentence in sentences]
    # Several tags of the model may have one name: S-PER and B-PER are B-PER in BIO2.
    same = tf.constant([[float(row == column) for column in output_tags] for row in output_tags])
    dataset = ordered_batches(corpus, Buckets(corpus.lengths, batching.evaluation_tokens, batching.max_shapes))
    _, *signature = dataset.element_spec

    @tf.function(input_signature=[*signature, tf.TensorSpec([3, None, None], tf.int32)], autograph=False)
    def compute(features: Any, tags: Any, spans: Any) -> Any:
        predicted = model(features, training=False)
        scoring = scoring_of(predicted)
        if scoring is None:
            raise InputError("limit.leave_out: the model has no head that says how probable tags are")
        head, emissions, lengths, _ = scoring
        named = tf.matmul(tf.cast(head.marginals(emissions, lengths), tf.float32), same)
        of_gold = tf.where(tags == UNSEEN, 0.0, tf.gather(named, tf.maximum(tags, 0), batch_dims=2))
        of_spans = tf.zeros(tf.shape(spans)[1:])
        if with_entities:
            starts, stops, kinds = tf.unstack(spans)
            of_spans = tf.cast(head.span_marginals(emissions, lengths, starts, stops, kinds, segments), tf.float32)
        return of_gold, tf.gather(named, predicted, batch_dims=2), of_spans

    posteriors: dict[int, _Posteriors] = {}
    for rows, features, tags in dataset:
        rows = rows.numpy()
        spans = np.full((3, len(rows), max([1, *(len(gold[row]) for row in rows if row >= 0)])), -1, np.int32)
        for index, row in enumerate(rows):
            for column, (kind, start, stop) in enumerate(gold[row] if row >= 0 else ()):
                spans[:, index, column] = start, stop, kind_ids.get(kind, -1)
        of_gold, of_predicted, of_spans = (values.numpy() for values in compute(features, tags, tf.constant(spans)))
        for index, row in enumerate(rows):
            if row >= 0:
                length = corpus.lengths[row]
                posteriors[row] = _Posteriors(
                    of_gold[index, :length], of_predicted[index, :length], of_spans[index, : len(gold[row])]
                )
    return [posteriors[row] for row in range(len(sentences))]
