"""Read sentences a second time, knowing the rest of their document (`data.documents`); see `second_reading.py`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from omegaconf import DictConfig

from trellis.components.errors import InputError
from trellis.components.layers.sequence_head import scoring_of
from trellis.components.models.second_reading import Fitter, Lattice, SecondReading
from trellis.components.readers.sentence import Sentence, document_numbers
from trellis.components.text.batching import Buckets, EncodedCorpus, ordered_batches
from trellis.components.text.document_evidence import document_evidence
from trellis.pipelines.tag_predictions import Predictions

FEWEST = 2  # documents of dev: the predictions for each half of them come from the other half
BATCHES, SENTENCES = (
    8,
    64,
)  # batches of sentences of similar length, at most; and the sentences that make one worthwhile
PRIORS = (1.0, 30.0, 1000.0)  # strengths to choose from: where evidence says nothing, the strongest is best


class Part(NamedTuple):
    """The sentences of a part.

    Attributes:
        corpus: as tensors.
        sentences: with gold tags in the scheme that the model learns.
    """

    corpus: EncodedCorpus
    sentences: Sequence[Sentence]


class ReadDocuments(NamedTuple):
    """What the second reading found.

    Attributes:
        second: fitted on dev.
        tags: the tags of the sentences of each part; those of dev come from a reading fitted on other documents.
        losses: nats of the gold tags; NaN where training never saw one.
    """

    second: SecondReading
    tags: Mapping[str, list[tuple[str, ...]]]
    losses: Mapping[str, np.ndarray]

    def after(self, part: str, first: Predictions) -> Predictions:
        """Return the predictions of the first reading with the tags and losses of the second."""
        return first._replace(tags=self.tags[part], losses=self.losses[part]) if part in self.tags else first


def read_documents(
    model: keras.Model,
    parts: Mapping[str, Part],
    tags: Sequence[str],
    output_tags: Sequence[str],
    batching: DictConfig,
) -> ReadDocuments:
    """Fit a second reading on dev, and read every part with it.

    The strength of its prior is the one under which each half of dev is most probable after a fit on the other half.

    Args:
        model: a tagger.
        parts: dev, and others.
        tags: the tags that the model learns.
        output_tags: the name of each tag to return.
        batching: the section of the configuration.
    """
    readings = {name: _Readings(model, part, tags, batching) for name, part in parts.items()}
    dev = readings.pop("dev")
    odd = dev.documents % 2 == 1
    crossed = {prior: dev.read([(dev.fit(odd, prior), ~odd), (dev.fit(~odd, prior), odd)]) for prior in PRIORS}
    prior = min(PRIORS, key=lambda each: float(np.nansum(crossed[each][1])))
    second = dev.fit(np.ones(len(dev), bool), prior)
    found = {"dev": crossed[prior]}
    found |= {name: of_part.read([(second, np.ones(len(of_part), bool))]) for name, of_part in readings.items()}
    names = np.array(output_tags, object)
    return ReadDocuments(
        second,
        {name: [tuple(names[ids]) for ids in rows] for name, (rows, _) in found.items()},
        {name: losses for name, (_, losses) in found.items()},
    )


def require_documents(sentences: Sequence[Sentence], place: object) -> None:
    """Raise InputError if sentences are not of several documents."""
    if len(set(document_numbers(sentences))) < FEWEST:
        raise InputError(
            f"{place}: data.documents=true needs at least {FEWEST} documents in the dev part; CoNLL files mark where "
            "each begins with -DOCSTART-, CoNLL-U files with # newdoc"
        )


class _Readings:
    """The first reading of a part, with the evidence for a second one.

    Attributes:
        documents: the number of the document of each sentence, `(sentences,)`.
    """

    def __init__(self, model: keras.Model, part: Part, tags: Sequence[str], batching: DictConfig) -> None:
        self._lengths = part.corpus.lengths
        self._unary, self._pairwise, posteriors = _first_reading(model, part.corpus, batching)
        self.documents = np.array(document_numbers(part.sentences), np.int32)
        words = [token for sentence in part.sentences for token in sentence.tokens]
        evidence = document_evidence(
            tf.constant(np.concatenate(posteriors)), tf.constant(words), np.repeat(self.documents, self._lengths)
        ).numpy()
        self._evidence = np.split(evidence, np.cumsum(self._lengths)[:-1])
        ids = {tag: index for index, tag in enumerate(tags)}
        self._gold = [np.array([ids.get(tag, -1) for tag in sentence.tags], np.int32) for sentence in part.sentences]
        self._seen = np.array([bool((gold >= 0).all()) for gold in self._gold])
        self._fitter = Fitter(len(tags))

    def __len__(self) -> int:
        return len(self.documents)

    def fit(self, chosen: np.ndarray, prior: float) -> SecondReading:
        """Return the second reading fitted on the sentences where `chosen (sentences,)` is true."""
        batches = [self._batch(rows) for rows in self._by_length(chosen & self._seen)]
        return self._fitter.fit(batches, prior) if batches else self._fitter.unchanged

    def read(self, fitted: Sequence[tuple[SecondReading, np.ndarray]]) -> tuple[list[np.ndarray], np.ndarray]:
        """Return tag ids and losses of all sentences, each read by the second reading that it is chosen for."""
        found: list[np.ndarray] = [np.zeros(0, np.int32)] * len(self)
        losses = np.full(len(self), np.nan)
        for second, chosen in fitted:
            for rows in self._by_length(chosen):
                first, evidence, gold = self._batch(rows)
                lattice = second.lattice(first, evidence)
                losses[rows] = np.where(self._seen[rows], lattice.losses(tf.maximum(gold, 0)), np.nan)
                for row, ids in zip(rows, lattice.best().numpy(), strict=True):
                    found[row] = ids[: self._lengths[row]]
        return found, losses

    def _by_length(self, chosen: np.ndarray) -> list[np.ndarray]:
        """Return the indices of sentences in batches of similar length."""
        rows = np.flatnonzero(chosen)
        batches = min(BATCHES, math.ceil(len(rows) / SENTENCES))
        return np.array_split(rows[np.argsort(self._lengths[rows], kind="stable")], batches) if batches else []

    def _batch(self, rows: np.ndarray) -> tuple[Lattice, tf.Tensor, tf.Tensor]:
        """Return the lattices of sentences, their evidence, and their gold tags, padded."""
        time = int(self._lengths[rows].max())

        def padded(values: Sequence[np.ndarray], size: int = time) -> tf.Tensor:
            result = np.zeros((len(rows), size, *values[0].shape[1:]), values[0].dtype)
            for index, row in enumerate(rows):
                result[index, : len(values[row])] = values[row]
            return tf.constant(result)

        lattice = Lattice(padded(self._unary), padded(self._pairwise, time - 1), tf.constant(self._lengths[rows]))
        return lattice, padded(self._evidence), padded(self._gold)


def _first_reading(
    model: keras.Model, corpus: EncodedCorpus, batching: DictConfig
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Return the unary and pairwise scores of each sentence, and its posteriors."""
    dataset = ordered_batches(corpus, Buckets(corpus.lengths, batching.evaluation_tokens, batching.max_shapes))
    _, features_spec, _ = dataset.element_spec

    @tf.function(input_signature=[features_spec], autograph=False)
    def compute(features: Any) -> Any:
        scoring = scoring_of(model(features, training=False))
        assert scoring is not None  # all taggers end in a SequenceHead
        head, emissions, lengths, _ = scoring
        unary, pairwise = head.lattice(emissions, lengths)
        return tf.cast(unary, tf.float32), tf.cast(pairwise, tf.float32), head.marginals(emissions, lengths)

    found: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for rows, features, _ in dataset:
        unary, pairwise, posteriors = (values.numpy() for values in compute(features))
        for index, row in enumerate(rows.numpy()):
            if row >= 0:
                length = corpus.lengths[row]
                found[row] = unary[index, :length], pairwise[index, : length - 1], posteriors[index, :length]
    of_each = [found[row] for row in range(len(corpus.lengths))]
    return [unary for unary, _, _ in of_each], [pair for _, pair, _ in of_each], [p for _, _, p in of_each]
