"""Tagging (entities, parts of speech): what this task does in the flow of `pipeline.py`."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hydra
import keras
import numpy as np
from omegaconf import DictConfig

from trellis.components.errors import InputError
from trellis.components.layers.sequence_head import NegativeLogLikelihood
from trellis.components.metrics import tagging_scores
from trellis.components.metrics.calibration import Calibration
from trellis.components.metrics.segments import ScoredSegments
from trellis.components.models.second_reading import SecondReading
from trellis.components.readers import vectors
from trellis.components.readers.lines import read_lines
from trellis.components.readers.sentence import UNLABELLED, Sentence
from trellis.components.readers.sentence_files import word_counts
from trellis.components.saved_model.tagger_module import TaggerModule
from trellis.components.text import templates
from trellis.components.text.batching import (
    Buckets,
    EncodedCorpus,
    StoredCorpus,
    encoded_sentences,
    sample_across_lengths,
    training_batches,
)
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.pipelines import entity_confidence, left_out, segment_statistics, tagged_data, tagging_reports
from trellis.pipelines.document_reading import Part, read_documents
from trellis.pipelines.entity_confidence import FoundEntities
from trellis.pipelines.sections import TaggingSections
from trellis.pipelines.tag_predictions import Predictions, predictor
from trellis.pipelines.tagged_data import TaggedData
from trellis.pipelines.task import (
    Batches,
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

Tags = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EncodedSentences(Encoded):
    """Tagged sentences as tensors.

    Attributes:
        data: what was encoded.
        vectorizer: tokens to ids.
        columns: names of the columns that the model reads besides words.
        vectors: pretrained vectors by word.
        train: the training part, its tags those of `data.tags`; sets of them where some are missing or hidden.
        held_out: dev and test, their tags those of `data.output_tags`.
    """

    data: TaggedData
    vectorizer: TokenVectorizer
    columns: Sequence[str]
    vectors: Mapping[str, np.ndarray]
    train: EncodedCorpus | StoredCorpus
    held_out: Mapping[str, EncodedCorpus]


@dataclass(frozen=True, kw_only=True)
class TaggingOutcome(Outcome):
    """Scores, and the predictions that were scored, by part.

    Attributes:
        predictions: by part.
        entities: by part, the entities among them; empty without entities.
        calibration: turns their posteriors into probabilities; None without entities.
        second: reads sentences again, knowing their document; None without `data.documents`.
    """

    predictions: Mapping[str, Predictions]
    entities: Mapping[str, FoundEntities]
    calibration: Calibration | None
    second: SecondReading | None


class Tagging(Task[TaggedData, EncodedSentences, TaggingOutcome]):
    """Named entities and parts of speech."""

    needs, accepts, sample = TaggingSections.needs, TaggingSections.accepts, TaggingSections.sample
    monitors = ("dev/f1", "dev/accuracy", "dev/loss")
    headline = (
        *("f1", "precision", "recall", "accuracy", "accuracy_known", "accuracy_unknown", "loss"),
        *("kept_precision", "kept_recall", "sentence_f1", "sentence_accuracy"),
    )
    embeds_words = True
    has_precision_dial = True
    grows = True

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self.entities = tagged_data.finds_entities(config)
        if config.trainer.monitor == "dev/f1" and not self.entities:
            raise InputError("trainer.monitor=dev/f1: data.task=pos has no entities; use dev/accuracy or dev/loss")
        if config.export.get("precision") is not None and not self.entities:
            raise InputError(f"export.precision={config.export.precision:g}: data.task=pos has no entities")

    def monitor(self, encoded: EncodedSentences) -> str:
        """Return the score that chooses the best epoch."""
        if self.config.trainer.monitor == "auto" and not self.entities:
            return "dev/accuracy"
        return super().monitor(encoded)

    def loss(self, encoded: EncodedSentences, batches: Batches) -> Loss:
        """Return the negative log-likelihood of the gold tags."""
        smooth = "dropout" not in self.config.model and not self.config.model.get("l1")
        whole = NegativeLogLikelihood(sequences=len(encoded.train.lengths) / batches.steps) if smooth else None
        return Loss(NegativeLogLikelihood(), whole)

    def read(self) -> TaggedData:
        """Read the sentences of each part."""
        return tagged_data.read(self.config, self.limited)

    # Encoding and batching

    def encode(self, data: TaggedData, keep: Sequence[str] = ()) -> EncodedSentences:
        """Adapt the vocabularies on the training part and turn every part into tensors."""
        text, model = self.config.text, self.config.model
        features = ["words"]
        attributes: Sequence[str] = ()
        if "characters" in model and model.characters.kind != "none":
            features.append("characters")
        if "casing" in model and model.casing.dim:
            features.append("casing")
        if "templates" in model:
            features.append("attributes")
            try:
                attributes = templates.parse(model.templates).attributes
            except ValueError as error:
                raise InputError(f"model.templates: {error}") from None
        train = data.parts["train"]
        columns = self._columns(attributes, train[0])
        known_vectors: Mapping[str, np.ndarray] = {}
        if "vectors" in model and model.vectors.path:
            known = data.known_words
            wanted = known | {token.lower() for token in known}
            known_vectors = vectors.read(model.vectors.path, model.words.dim, wanted, model.vectors.keep)
        vectorizer = TokenVectorizer.adapt(
            Counter(token for sentence in train for token in _inputs(sentence, columns))
            if columns
            else word_counts(train),
            case=text.case,
            digits=text.digits,
            max_characters=text.max_characters,
            features=features,
            min_count=text.min_count,
            keep=[*known_vectors, *keep],
            attributes=attributes,
            lists=self._lists(attributes),
            columns=columns,
            min_value_count=model.get("min_count", 1),
        )

        def as_read(sentences: Sequence[Sentence]) -> Sequence[Sentence]:
            if not columns:
                return sentences
            return [replace(sentence, tokens=_inputs(sentence, columns)) for sentence in sentences]

        learned = tagged_data.partly_labelled(self.config, tagged_data.as_learned(self.config, train))
        return EncodedSentences(
            words=vectorizer.words,
            data=data,
            vectorizer=vectorizer,
            columns=columns,
            vectors=known_vectors,
            train=encoded_sentences(
                as_read(learned),
                vectorizer,
                data.tags,
                partial=any(UNLABELLED in sentence.tags for sentence in learned),
            ),
            held_out={
                part: EncodedCorpus(as_read(sentences), vectorizer, data.output_tags)
                for part, sentences in data.parts.items()
                if part != "train"
            },
        )

    def _columns(self, attributes: Sequence[str], sentence: Sentence) -> Sequence[str]:
        """Return the names of the columns that templates ask for."""
        names, known = templates.column_names(attributes), sentence.columns or ()
        for name in names:
            if name not in known:
                present = ", ".join(known) or "none"
                raise InputError(f"model.templates: column({name}): no such column in data.reader.columns ({present})")
        return names

    def _lists(self, attributes: Sequence[str]) -> dict[str, set[str]]:
        """Return the words of the lists that templates name, each from its file: every word of every line."""
        files, lists = dict(self.config.model.get("lists") or {}), {}
        for name in templates.list_names(attributes):
            if name not in files:
                known = ", ".join(files) or "none"
                raise InputError(f"model.templates: in({name}): no such list in model.lists ({known})")
            lists[name] = {word for _, line in read_lines(files[name]) for word in line.split(" ") if word}
            if not lists[name]:
                raise InputError(f"{files[name]}: no words in this list")
        return lists

    def batch(self, encoded: EncodedSentences) -> Batches:
        """Group sentences by length."""
        batching, lengths = self.config.batching, encoded.train.lengths
        # A small corpus gets fewer shapes: with one batch a shape, the same sentences would always meet.
        batches = len(lengths) / batching.sentences if batching.sentences else lengths.sum() / batching.tokens
        shapes = min(batching.max_shapes, max(1, int(batches // 3)))
        buckets = Buckets(lengths, batching.tokens, shapes, batching.sentences)
        log.info(
            "%d training batches of %d shapes, %.1f %% padding",
            buckets.steps,
            len(buckets.shapes),
            100 * buckets.padding,
        )
        return Batches(
            steps=buckets.steps,
            tokens=encoded.train.tokens,
            epoch_dataset=lambda epoch: training_batches(encoded.train, buckets, self.config.seed, epoch),
        )

    # Building

    def build(self, encoded: EncodedSentences, batches: Batches) -> keras.Model:
        """Build the tagger."""
        del batches
        options = self.model_options("name", "vectors", "min_count", "labelled", "lists")
        if options.get("constraints"):
            options["constraints"] = self._constraints(options["constraints"], encoded.data.tags)
        sizes = encoded.vectorizer.sizes
        if encoded.vectors:
            options["vectors"], matched = vectors.matrix(
                encoded.vectors,
                encoded.vectorizer.words,
                sizes["words"],
                options["words"]["dim"],
                np.random.default_rng(self.config.seed),
            )
            log.warning("%d of %d words have a pretrained vector", matched, len(encoded.vectorizer.words))
        build = hydra.utils.get_method(options.pop("_target_"))
        model = build(sizes, len(encoded.data.tags), name=self.config.model.name, **options)
        log.info("%s: %d weights", model.name, model.count_params())
        return model

    def _constraints(self, when: str, tags: Sequence[str]) -> dict[str, Any]:
        """Return the constraints that make the head follow the tag scheme, in decoding or also in training."""
        model = self.config.model
        if not self.entities:
            raise InputError(f"model.constraints={when}: data.task=pos has no scheme that could rule out anything")
        if model.head == "softmax":
            raise InputError(f"model.constraints={when}: model.head=softmax takes each tag on its own; use crf or memm")
        scheme = "iobes" if self.config.data.scheme == "iobes" else "bio"
        return {"constraints": scheme, "tags": tags, "constrain_training": when == "training"}

    # Evaluating

    def evaluator(self, model: keras.Model, encoded: EncodedSentences) -> Evaluator[TaggingOutcome]:
        """Return what scores a tagger."""
        predict = predictor(
            model, encoded.held_out, encoded.data.output_tags, self.config.batching, with_entities=self.entities
        )

        def held_out() -> TaggingOutcome:
            first = {}
            for part, corpus in encoded.held_out.items():
                began = time.perf_counter()
                first[part] = predict(part, self.entities)
                log.info("%s: %.0f tokens/s", part, corpus.tokens / (time.perf_counter() - began))
            second, predictions = self._read_documents(model, encoded, first)
            metrics: Metrics = {}
            for part in predictions:
                metrics |= self._score(part, encoded.data, predictions[part], detail=True)
                if predictions[part] is not first[part]:
                    alone, main = self._score(part, encoded.data, first[part], detail=False), self._main_score
                    metrics[f"{part}/sentence_{main}"] = alone[f"{part}/{main}"]
            entities = {}
            calibration = None
            if self.entities:
                # Exports give the probabilities of entities in a sentence on its own.
                for part, (tags, _, posteriors) in first.items():
                    entities[part] = FoundEntities.of(encoded.data.parts[part], tags, posteriors)
                calibration = entity_confidence.calibrate(entities["dev"], self.config.export.get("precision"))
                for part, found in entities.items():
                    metrics |= entity_confidence.scores(part, found, calibration)
            part = held_out_part(predictions)
            return TaggingOutcome(
                metrics=metrics,
                segments=self._segments(part, encoded.data, predictions[part].tags),
                predictions=predictions,
                entities=entities,
                calibration=calibration,
                second=second,
            )

        def dev() -> Metrics:
            return self._score("dev", encoded.data, predict("dev", False), detail=False)

        return Evaluator(dev=dev, held_out=held_out)

    @property
    def _main_score(self) -> str:
        return "f1" if self.entities else "accuracy"

    def _read_documents(
        self, model: keras.Model, encoded: EncodedSentences, first: Mapping[str, Predictions]
    ) -> tuple[SecondReading | None, dict[str, Predictions]]:
        """Return the second reading of `data.documents`, and the predictions of the last reading of each part."""
        data = encoded.data
        if not self.config.data.get("documents"):
            return None, dict(first)
        parts = {
            part: Part(encoded.held_out[part], tagged_data.as_learned(self.config, data.parts[part]))
            for part in first
            if part != left_out.PART
        }
        read = read_documents(model, parts, data.tags, data.output_tags, self.config.batching)
        return read.second, {part: read.after(part, predictions) for part, predictions in first.items()}

    def _segments(self, part: str, data: TaggedData, predicted: Sequence[Tags]) -> ScoredSegments:
        """Return the statistics of the sentences of a part."""
        if self.entities:
            return segment_statistics.of_entities(part, data.parts[part], predicted, data.parts["train"])
        return segment_statistics.of_tags(part, data.parts[part], predicted, data.known_words)

    def _score(self, part: str, data: TaggedData, predictions: Predictions, detail: bool) -> Metrics:
        sentences, (predicted, losses, _) = data.parts[part], predictions
        gold = [sentence.tags for sentence in sentences]
        metrics: Metrics = {}
        if self.entities:
            entity = tagging_scores.entity_scores(gold, predicted)
            metrics |= {f"{part}/{name}": entity[name] for name in ("f1", "precision", "recall")}
            if detail:
                metrics |= {f"{part}/f1/{kind}": scores["f1"] for kind, scores in entity["types"].items()}
        metrics[f"{part}/accuracy"] = tagging_scores.token_accuracy(gold, predicted)
        if detail and not self.entities:
            familiar = tagging_scores.accuracy_by_familiarity(sentences, predicted, data.known_words)
            metrics |= {f"{part}/accuracy_{name}": value for name, value in familiar.items() if value is not None}
        if not np.isnan(losses).all():
            metrics[f"{part}/loss"] = float(np.nanmean(losses))
        return metrics

    def report(
        self,
        folder: Path,
        model: keras.Model,
        encoded: EncodedSentences,
        outcome: TaggingOutcome,
        diagnosis: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the predictions, the tables, the confusion matrix, the worst errors, and how sure entities are."""
        del diagnosis
        part = held_out_part(outcome.predictions)
        predicted, losses, _ = outcome.predictions[part]
        sentences = encoded.data.parts[part]
        tagging_reports.write(folder, self.run_name(folder), part, sentences, predicted, losses, self.entities)
        if outcome.calibration is not None:
            entity_confidence.write(folder, outcome.entities[part], outcome.calibration)
        data = encoded.data
        if data.left_out is not None:
            left_out.write(
                folder / left_out.FILE,
                data.files["train"],
                data.left_out,
                outcome.predictions[left_out.PART],
                model,
                encoded.held_out[left_out.PART],
                data.output_tags,
                self.config.batching,
                self.entities,
            )

    # Exporting

    def final_package(self, model: keras.Model, encoded: EncodedSentences, outcome: TaggingOutcome) -> Package:
        """Return the tagger with its signatures, its probabilities calibrated on dev."""
        calibration, facts = outcome.calibration, {}
        if calibration is not None:
            facts = entity_confidence.facts(calibration, self.config.export.get("precision"))
        return self._package(model, encoded, calibration, outcome.second, facts)

    def package(self, model: keras.Model, encoded: EncodedSentences) -> Package:
        """Return the tagger with its signatures, the probabilities of entities as the model gives them."""
        return self._package(model, encoded, Calibration() if self.entities else None, None, {})

    def _package(
        self,
        model: keras.Model,
        encoded: EncodedSentences,
        calibration: Calibration | None,
        second: SecondReading | None,
        facts: Mapping[str, Any],
    ) -> Package:
        # Words that come with columns are split at spaces alone.
        tokenizer = "spaces" if encoded.columns else self.config.text.tokenizer
        dev = encoded.data.parts["dev"]
        texts = [" ".join(_inputs(sentence, encoded.columns)) for sentence in dev]
        example = "Mary Smith flew from Oslo to Lima."
        if self.config.data.language != "en" or encoded.columns:
            example = " ".join(_inputs(dev[0], encoded.columns)[:8]).replace('"', "")
        output_tags = encoded.data.output_tags
        return Package(
            module=TaggerModule(model, encoded.vectorizer, output_tags, tokenizer, calibration, second),
            texts=sample_across_lengths(texts),
            facts={"labels": sorted(set(output_tags)), "vocabulary": encoded.vectorizer.sizes, **facts},
            example=example,
            request={"text": example},
            response={"tokens": "strings", "tags": "strings", "confidence": "numbers"},
        )


def _inputs(sentence: Sentence, columns: Sequence[str]) -> Tags:
    """Return the tokens of a sentence as the model reads them: a word, then a tab and the value of each column."""
    if not columns or sentence.columns is None:
        return sentence.tokens
    return tuple(map("\t".join, zip(sentence.tokens, *(sentence.columns[name] for name in columns), strict=True)))
