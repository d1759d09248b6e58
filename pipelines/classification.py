"""Classification of sentences: what this task does in the flow of `pipeline.py`."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import keras
import numpy as np
import tensorflow as tf
from omegaconf import DictConfig

from trellis.components.errors import InputError
from trellis.components.metrics import classification_scores
from trellis.components.metrics.segments import ScoredSegments
from trellis.components.models.classifier import SmoothedCrossentropy
from trellis.components.readers import labelled
from trellis.components.readers.labelled import Labelled
from trellis.components.saved_model.classifier_module import ClassifierModule
from trellis.components.text.batching import (
    UNSEEN,
    Buckets,
    LabelledCorpus,
    ordered_batches,
    sample_across_lengths,
    training_batches,
)
from trellis.components.text.tokenizer import tokenize
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.components.training.in_flight import in_flight
from trellis.pipelines import classification_reports, reading, segment_statistics
from trellis.pipelines.sections import ClassificationSections
from trellis.pipelines.task import (
    Batches,
    Data,
    Encoded,
    Evaluator,
    Loss,
    Metrics,
    Outcome,
    Package,
    Task,
    held_out_part,
)

log = logging.getLogger(__name__)

_CHUNK = 4096  # texts that are tokenized at once


@dataclass(frozen=True, kw_only=True)
class LabelledData(Data):
    """Texts with a label each.

    Attributes:
        parts: examples of each part.
        labels: the classes of the training part, sorted.
    """

    parts: Mapping[str, Sequence[Labelled]]
    labels: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class EncodedTexts(Encoded):
    """Labelled texts as tensors.

    Attributes:
        data: what was encoded.
        vectorizer: tokens to ids.
        corpora: every part.
        tokens: the words of each text of the held-out parts.
        known_words: those of the training part.
    """

    data: LabelledData
    vectorizer: TokenVectorizer
    corpora: Mapping[str, LabelledCorpus]
    tokens: Mapping[str, Sequence[Sequence[str]]]
    known_words: Collection[str]


@dataclass(frozen=True, kw_only=True)
class ClassificationOutcome(Outcome):
    """Scores, and the probabilities `(texts, classes)` that were scored, by part."""

    probabilities: Mapping[str, np.ndarray]


class Classification(Task[LabelledData, EncodedTexts, ClassificationOutcome]):
    """One label for each text."""

    needs, accepts, sample = ClassificationSections.needs, ClassificationSections.accepts, ClassificationSections.sample
    monitors = ("dev/accuracy", "dev/macro_f1", "dev/loss")
    embeds_words = True

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self.case = config.text.case or config.data.case
        self.tokenizer = config.text.tokenizer or config.data.tokenizer

    def loss(self, encoded: EncodedTexts, batches: Batches) -> Loss:
        """Return the cross-entropy, smoothed as `model.label_smoothing` says."""
        del encoded, batches
        return Loss(SmoothedCrossentropy(self.config.model.label_smoothing))

    # Reading

    def read(self) -> LabelledData:
        """Read the examples of each part."""
        data = self.plain("data")
        name, source = data["name"], f"data={data['name']}"
        files, parts = reading.labelled_texts(data)
        self.require_parts(parts)
        counts = Counter(example.label for example in parts["train"])
        for label, count in counts.items():
            if count < 2:
                raise InputError(f"{source}: class {label!r} has one example in train; at least two are needed")
        labelled.check_labels(parts, source)
        parts = self.limited(parts, _share_of_each_class)
        sizes = ", ".join(f"{part} {len(examples):,}" for part, examples in parts.items())
        return LabelledData(
            files=files,
            description=f"{name}: {sizes} texts; {len(counts)} classes",
            parts=parts,
            labels=sorted(counts),
        )

    # Encoding and batching

    def encode(self, data: LabelledData, keep: Sequence[str] = ()) -> EncodedTexts:
        """Adapt the vocabulary on the training part and turn every part into tensors."""
        text = self.config.text
        tokens = {part: self._tokenized(examples) for part, examples in data.parts.items()}
        vectorizer = TokenVectorizer.adapt(
            [token for row in tokens["train"] for token in row],
            case=self.case,
            digits=text.digits,
            features=["words"],
            min_count=text.min_count,
            keep=keep,
        )
        ids = {label: index for index, label in enumerate(data.labels)}
        counts = Counter(example.label for example in data.parts["train"])
        total, even = sum(counts.values()), [1.0] * len(ids)
        balanced = self.config.model.class_weights == "balanced"
        weights = [total / len(ids) / counts[label] for label in data.labels] if balanced else even
        corpora = {
            part: LabelledCorpus(
                tokens[part],
                [ids.get(example.label, UNSEEN) for example in examples],
                vectorizer,
                weights if part == "train" else even,
            )
            for part, examples in data.parts.items()
        }
        return EncodedTexts(
            words=vectorizer.words,
            data=data,
            vectorizer=vectorizer,
            corpora=corpora,
            known_words={token for row in tokens.pop("train") for token in row},
            tokens=tokens,
        )

    def _tokenized(self, examples: Sequence[Labelled]) -> list[tuple[str, ...]]:
        """Return the tokens of each text, split in graph as the export does it."""
        texts, tokens = [example.text for example in examples], []
        for first in range(0, len(texts), _CHUNK):
            chunk = tokenize(tf.constant(texts[first : first + _CHUNK], tf.string), self.tokenizer).numpy()
            tokens += [tuple(token.decode("utf-8", "replace") for token in row if token) for row in chunk]
        return tokens

    def batch(self, encoded: EncodedTexts) -> Batches:
        """Group texts by length."""
        batching, corpus = self.config.batching, encoded.corpora["train"]
        shapes = min(batching.max_shapes, max(1, int(len(corpus.lengths) / batching.sentences // 3)))
        buckets = Buckets(corpus.lengths, max_shapes=shapes, sentences=batching.sentences)
        log.info("%d training batches, %.1f %% padding", buckets.steps, 100 * buckets.padding)
        return Batches(
            steps=buckets.steps,
            tokens=corpus.tokens,
            epoch_dataset=lambda epoch: training_batches(corpus, buckets, self.config.seed, epoch),
        )

    # Building

    def build(self, encoded: EncodedTexts, batches: Batches) -> keras.Model:
        """Build the classifier."""
        del batches
        options = self.model_options("class_weights", "label_smoothing")
        build = hydra.utils.get_method(options.pop("_target_"))
        model = build(encoded.vectorizer.sizes, len(encoded.data.labels), **options)
        log.info("%s: %d weights", model.name, model.count_params())
        return model

    # Evaluating

    def evaluator(self, model: keras.Model, encoded: EncodedTexts) -> Evaluator[ClassificationOutcome]:
        """Return what scores a classifier."""
        predict = self._predictor(model, encoded)

        def held_out() -> ClassificationOutcome:
            probabilities = {part: predict(part) for part in encoded.corpora if part != "train"}
            metrics: Metrics = {}
            for part, rows in probabilities.items():
                metrics |= _scores(part, encoded, rows, detail=True)
            part = held_out_part(probabilities)
            segments = _segments(part, encoded, probabilities[part])
            return ClassificationOutcome(metrics=metrics, segments=segments, probabilities=probabilities)

        return Evaluator(dev=lambda: _scores("dev", encoded, predict("dev"), detail=False), held_out=held_out)

    def _predictor(self, model: keras.Model, encoded: EncodedTexts) -> Callable[[str], np.ndarray]:
        """Return a function of a part that gives probabilities `(texts, classes)`, in the order of the file."""
        batching = self.config.batching
        cached: dict[str, list[Any]] = {}

        @tf.function(reduce_retracing=True, autograph=False)
        def classify(features: Any) -> Any:
            return tf.nn.softmax(model(features, training=False))

        def predict(part: str) -> np.ndarray:
            corpus = encoded.corpora[part]
            if part not in cached:
                buckets = Buckets(corpus.lengths, batching.evaluation_tokens, batching.max_shapes)
                cached[part] = list(ordered_batches(corpus, buckets))
            probabilities = np.zeros((len(corpus.lengths), len(encoded.data.labels)), np.float32)
            for rows, values in in_flight(lambda batch: (batch[0], classify(batch[1]).numpy()), cached[part]):
                real = rows.numpy() >= 0
                probabilities[rows.numpy()[real]] = values[real]
            return probabilities

        return predict

    def report(
        self,
        folder: Path,
        model: keras.Model,
        encoded: EncodedTexts,
        outcome: ClassificationOutcome,
        diagnosis: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the predictions, the table of classes, the confusion matrix and the page of confident errors."""
        del model, diagnosis
        data = encoded.data
        part = held_out_part(data.parts)
        classification_reports.write(
            folder, self.run_name(folder), part, data.parts[part], outcome.probabilities[part], data.labels
        )

    # Exporting

    def package(self, model: keras.Model, encoded: EncodedTexts) -> Package:
        """Return the classifier with its signatures."""
        texts = [example.text for example in encoded.data.parts["dev"]]
        short = [text for text in texts[:50] if '"' not in text]
        example = min(short, key=lambda text: abs(len(text) - 40), default="")
        labels = encoded.data.labels
        return Package(
            module=ClassifierModule(model, encoded.vectorizer, labels, self.tokenizer),
            texts=sample_across_lengths(texts),
            facts={"labels": labels, "vocabulary": {"words": encoded.vectorizer.sizes["words"]}},
            example=example,
            request={"text": example},
            response={"label": "string", "probability": "number"},
        )


def _share_of_each_class(examples: Sequence[Labelled], limit: int) -> Sequence[Labelled]:
    """Return about `limit` examples, the first ones of every class in proportion to its size."""
    if limit >= len(examples):
        return examples
    by_class: dict[str, list[Labelled]] = {}
    for example in examples:
        by_class.setdefault(example.label, []).append(example)
    share = limit / len(examples)
    return [example for group in by_class.values() for example in group[: max(2, round(share * len(group)))]]


def _segments(part: str, encoded: EncodedTexts, probabilities: np.ndarray) -> ScoredSegments:
    """Return the statistics of the texts of a part."""
    corpus = encoded.corpora[part]
    labels = [example.label for example in encoded.data.parts[part]]
    right = probabilities.argmax(axis=1) == corpus.labels
    return segment_statistics.of_texts(part, labels, right, encoded.tokens[part], encoded.known_words)


def _scores(part: str, encoded: EncodedTexts, probabilities: np.ndarray, detail: bool) -> Metrics:
    labels = encoded.data.labels
    gold = [example.label for example in encoded.data.parts[part]]
    found = classification_scores.scores(gold, [labels[index] for index in probabilities.argmax(axis=1)])
    of_gold = probabilities[np.arange(len(gold)), encoded.corpora[part].labels]
    metrics: Metrics = {
        f"{part}/accuracy": found["accuracy"],
        f"{part}/macro_f1": found["macro_f1"],
        f"{part}/loss": float(-np.log(np.maximum(of_gold, 1e-30)).mean()),
    }
    if detail:
        metrics |= {f"{part}/f1/{label}": scores["f1"] for label, scores in found["classes"].items()}
    return metrics
