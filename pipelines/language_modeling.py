"""Language modelling: what this task does in the flow of `pipeline.py`."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import keras
import numpy as np
import tensorflow as tf
from omegaconf import DictConfig

from trellis.components import termination, workers
from trellis.components.errors import InputError
from trellis.components.models import arpa
from trellis.components.models.language_model import RecurrentLanguageModel, reset_states
from trellis.components.models.ngram import NGram
from trellis.components.readers import disk_cache, token_files
from trellis.components.readers.sources import Source
from trellis.components.saved_model.language_model_module import LanguageModelModule
from trellis.components.text.batching import Buckets, ordered_batches, sample_across_lengths, training_batches
from trellis.components.text.stream import (
    BOUNDARY,
    LINE_ENDS,
    UNKNOWN_WORD,
    Lines,
    Segments,
    TextStream,
    spellings,
    vocabulary,
)
from trellis.components.text.text_part import TextInMemory, TextOnDisk, TextPart, divide_on_disk
from trellis.components.text.vectorizer import UNKNOWN, TokenVectorizer
from trellis.pipelines import gradient_report, language_modeling_reports, reading, segment_statistics
from trellis.pipelines.sections import LanguageModelingSections
from trellis.pipelines.task import Batches, Data, Encoded, Evaluator, Metrics, Outcome, Package, Task, held_out_part

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TextData(Data):
    """Running text, or sentences.

    Attributes:
        parts: the text of each part, in memory or on disk.
        given: n-grams to use instead of counting, or None.
    """

    parts: Mapping[str, TextPart]
    given: arpa.Arpa | None


@dataclass(frozen=True, kw_only=True)
class EncodedText(Encoded):
    """Text as one stream of ids for each part.

    Attributes:
        data: what was encoded.
        vectorizer: tokens to ids.
        streams: every part.
    """

    data: TextData
    vectorizer: TokenVectorizer
    streams: Mapping[str, TextStream]

    @property
    def size(self) -> int:
        """The number of ids: the vocabulary, padding and the unknown word."""
        return len(self.vectorizer.words) + 2


@dataclass(frozen=True, kw_only=True)
class LanguageModelingOutcome(Outcome):
    """Scores, and the log-probability of each token that was scored, by part."""

    log_probabilities: Mapping[str, np.ndarray]


class LanguageModeling(Task[TextData, EncodedText, LanguageModelingOutcome]):
    """The probability of the next token."""

    needs, accepts, sample = (
        LanguageModelingSections.needs,
        LanguageModelingSections.accepts,
        LanguageModelingSections.sample,
    )
    monitors = ("dev/perplexity", "dev/loss")
    headline = ("perplexity", "loss", "bits_per_character", "perplexity_mixture")
    embeds_words = True
    # Most of the work is one product with the whole vocabulary.
    wide = True

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self.unit = config.data.unit
        # Whether a line is a sentence of its own.
        self.sentences = config.data.lines == "sentences"
        self.carries = not self.sentences if config.batching.carry is None else config.batching.carry
        self.backwards = config.model.get("backwards", False)

    # Reading

    def read(self) -> TextData:
        """Read the documents of each part."""
        data, given = self.plain("data"), self._given()
        files, read = self._texts(data)
        limited = self.limited(
            {part: [text] for part, text in read.items()}, lambda texts, limit: [texts[0].first_lines(limit)]
        )
        parts = {part: texts[0] for part, texts in limited.items()}
        known = self._vectorizer(parts["train"], given).words
        if self.config.report.arpa and arpa.BEGIN in known:
            raise InputError(f"report.arpa=true: {arpa.BEGIN} is a word of the text, but begins a line in ARPA files")
        if len(known) < 3:  # the end, and two to choose from
            shown = ", ".join(map(repr, known[1:])) or "none"
            raise InputError(f"data={data['name']}: too few words in its train part ({shown}); nothing to learn")
        sizes = [f"{part} {text.lines:,} lines, {text.tokens:,} {self.unit}" for part, text in parts.items()]
        return TextData(
            files=files,
            description=f"{data['name']}: {', '.join(sizes)}; {len(known):,} kinds, line ends included",
            parts=parts,
            given=given,
        )

    def _texts(self, data: Mapping[str, Any]) -> tuple[Mapping[str, Source], Mapping[str, TextPart]]:
        """Return the files and the text of each part, in memory or on disk, as `text.storage` says."""
        storage, files = self.config.text.storage, reading.files_of_text(data)
        if storage == "auto":
            storage = "disk" if token_files.are_large(files.values()) else "memory"
        if storage == "memory":
            files, parts = reading.texts(data)
            return files, {part: TextInMemory(documents) for part, documents in parts.items()}
        cache = self.config.text.cache
        folder = disk_cache.default_folder() if cache is None else Path(cache)
        how = reading.how_to_read(data)
        stored = {part: token_files.open_token_files(source, how, folder) for part, source in files.items()}
        if "text" in stored:
            return files, divide_on_disk(stored["text"], reading.shares_of(data), files["text"])
        return files, {part: TextOnDisk(text) for part, text in stored.items()}

    def _given(self) -> arpa.Arpa | None:
        """Return the n-grams of `model.arpa`, and check that ARPA files fit what is trained."""
        model, writes = self.config.model, self.config.report.arpa
        if not model.get("arpa") and not writes:
            return None
        asked = "report.arpa=true" if writes else f"model.arpa={model.arpa}"
        if "arpa" not in model:
            raise InputError(f"{asked}: model={model.name} has no n-grams; use model=ngram")
        if self.unit != "words" or not self.sentences:
            raise InputError(
                f"{asked}: ARPA models read words, each line on its own; set data.unit=words data.lines=sentences"
            )
        if not model.arpa:
            return None
        given = arpa.read(model.arpa)
        if len(given.tables.log_probability) != model.order:
            raise InputError(f"{model.arpa}: its order is {len(given.tables.log_probability)}; set model.order to it")
        return given

    def _vectorizer(self, text: TextPart, given: arpa.Arpa | None, keep: Sequence[str] = ()) -> TokenVectorizer:
        settings = self.config.text
        # A text that contains unknown words has been reduced to a vocabulary already.
        if given:
            words = [LINE_ENDS[self.unit], *given.words]
            return TokenVectorizer(words, (), settings.case, settings.digits, features=("words",))
        counts = text.counts()
        fixed = UNKNOWN_WORD in counts
        least = settings.min_count or (1 if fixed or self.unit == "characters" else 2)
        return vocabulary(counts, self.unit, settings.case, settings.digits, least, keep)

    # Encoding and batching

    def encode(self, data: TextData, keep: Sequence[str] = ()) -> EncodedText:
        """Turn every part into ids."""
        vectorizer = self._vectorizer(data.parts["train"], data.given, keep)
        streams = {part: text.stream(vectorizer, self.unit, self.backwards) for part, text in data.parts.items()}
        size = len(vectorizer.words) + 2
        for part, stream in streams.items():
            unknown = stream.counts(size)[UNKNOWN]
            if part != "train" and unknown and not streams["train"].counts(size)[UNKNOWN]:
                log.warning(
                    "%s: %d tokens are unknown, and training has none to learn from (text.min_count)", part, unknown
                )
        return EncodedText(words=vectorizer.words, data=data, vectorizer=vectorizer, streams=streams)

    def batch(self, encoded: EncodedText) -> Batches:
        """Cut the training text into segments of rows, or into batches of lines of similar length."""
        batching, stream = self.config.batching, encoded.streams["train"]
        if self.carries:
            segments = Segments(stream, self._rows(stream), batching.length)
            log.info("%d segments of %d rows of %d %s", segments.steps, self._rows(stream), batching.length, self.unit)
            return Batches(
                steps=segments.steps, tokens=len(stream), epoch_dataset=lambda epoch: segments.training_dataset()
            )
        lines = Lines(stream)
        buckets = Buckets(lines.lengths, batching.tokens, batching.max_shapes)
        log.info("%d batches, %.1f %% padding", buckets.steps, 100 * buckets.padding)
        return Batches(
            steps=buckets.steps,
            tokens=len(stream),
            epoch_dataset=lambda epoch: training_batches(lines, buckets, self.config.seed, epoch),
        )

    def _rows(self, stream: TextStream) -> int:
        """Return how many texts are read side by side: fewer where the text is short."""
        return min(self.config.batching.rows, max(1, len(stream) // self.config.batching.length))

    # Building

    def build(self, encoded: EncodedText, batches: Batches) -> keras.Model:
        """Build the language model."""
        del batches
        options = self.model_options("arpa")
        build = hydra.utils.get_class(options.pop("_target_"))
        try:
            model = build(encoded.size, boundary=BOUNDARY, **options)
        except ValueError as error:
            raise InputError(str(error)) from None
        stream = encoded.streams["train"]
        if isinstance(model, NGram):
            if encoded.data.given:
                model.assign(encoded.data.given.tables)
            self._count(model, stream)
        else:
            model.adapt(stream.counts(encoded.size))
            if self.carries:
                model.carry(workers.share_size(self._rows(stream)))
        log.info("%s: %d weights", model.name, model.count_params())
        return model

    def _count(self, model: NGram, stream: TextStream) -> None:
        model.adapt(stream.ids, stream.lines if self.sentences else stream.documents)

    def diagnose(self, model: keras.Model, encoded: EncodedText) -> Mapping[str, Any] | None:
        """Measure the gradients that reach each time step of a segment, with `diagnostics.gradient_flow`."""
        if not self.config.diagnostics.gradient_flow:
            return None
        if not isinstance(model, RecurrentLanguageModel):
            raise InputError(f"diagnostics.gradient_flow=true: model={model.name} has no states through time")
        segments = Segments(encoded.streams["train"], 16, self.config.batching.length)
        inputs, _, targets = segments.arrays(0, 1)
        return gradient_report.measure(model, inputs[0], targets[0], self.config.trainer.clip_norm)

    # Evaluating

    def evaluator(self, model: keras.Model, encoded: EncodedText) -> Evaluator[LanguageModelingOutcome]:
        """Return what scores a language model, alone and mixed with an n-gram model."""
        score, dev = self._scorer(model), encoded.streams["dev"]

        def held_out() -> LanguageModelingOutcome:
            found = {part: score(stream) for part, stream in encoded.streams.items() if part != "train"}
            metrics: Metrics = {}
            for part, log_probabilities in found.items():
                metrics |= _scores(part, encoded.streams[part], log_probabilities)
            order = self.config.report.mixture
            if order and not encoded.data.parts["train"].in_memory:
                log.warning(
                    "report.mixture=%d: left out; n-grams are counted in memory, and the text is on disk", order
                )
                order = 0
            if order and not isinstance(model, NGram) and not self.backwards:
                metrics |= self._mixed(order, encoded, found)
            part = held_out_part(found)
            segments = segment_statistics.of_stream(
                part, encoded.streams[part], found[part], encoded.streams["train"].counts(encoded.size)
            )
            return LanguageModelingOutcome(metrics=metrics, segments=segments, log_probabilities=found)

        return Evaluator(dev=lambda: _scores("dev", dev, score(dev)), held_out=held_out)

    def _scorer(self, model: keras.Model) -> Callable[[TextStream], np.ndarray]:
        """Return a function of a stream that gives the log-probability of each token, in the order of the stream."""
        batching = self.config.batching
        # An n-gram model looks beyond the end of a line only if lines are not sentences.
        carries = not self.sentences if isinstance(model, NGram) else self.carries

        @tf.function(reduce_retracing=True, autograph=False)
        def of_segment(tokens: Any, targets: Any, starts: Any, states: Any) -> Any:
            features, states = model.read(tokens, reset_states(states, starts))
            return model.token_log_probabilities(features, targets), states

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)] * 2, autograph=False)
        def of_lines(tokens: Any, targets: Any) -> Any:
            features, _ = model.read(tokens, model.initial_states(tf.shape(tokens)[0]))
            return model.token_log_probabilities(features, targets)

        def in_segments(stream: TextStream) -> np.ndarray:
            found = np.zeros(len(stream))
            rows = min(batching.evaluation_rows, max(1, len(stream) // batching.evaluation_length))
            segments = Segments(stream, rows, batching.evaluation_length)
            states = model.initial_states(rows)
            for (inputs, targets), indices in zip(segments.dataset(), segments.steps_of_positions(), strict=True):
                termination.check()
                values, states = of_segment(inputs["tokens"], targets, inputs["starts"], states)
                found[indices[indices >= 0]] = values.numpy()[indices >= 0]
            return found

        def in_lines(stream: TextStream) -> np.ndarray:
            found, lines = np.zeros(len(stream)), Lines(stream)
            buckets = Buckets(lines.lengths, batching.evaluation_tokens, batching.max_shapes)
            for rows, inputs, targets in ordered_batches(lines, buckets):
                termination.check()
                values = of_lines(inputs["tokens"], targets).numpy()
                for row, of_line in zip(rows.numpy(), values, strict=True):
                    if row >= 0:
                        found[lines.starts[row] :][: lines.lengths[row]] = of_line[: lines.lengths[row]]
            return found

        return in_segments if carries else in_lines

    def _mixed(self, order: int, encoded: EncodedText, found: Mapping[str, np.ndarray]) -> Metrics:
        """Return perplexities of the model mixed with an n-gram model, with the weight that is best on dev."""
        ngram = NGram(encoded.size, order, boundary=BOUNDARY)
        self._count(ngram, encoded.streams["train"])
        ngram.fit()
        score = self._scorer(ngram)
        others = {part: score(encoded.streams[part]) for part in found}
        weight = mixture_weight(found["dev"], others["dev"])
        metrics: Metrics = {"mixture/weight": weight}
        for part, ours in found.items():
            both = np.logaddexp(math.log(weight) + ours, math.log(1 - weight) + others[part])
            metrics[f"{part}/perplexity_mixture"] = math.exp(-both.mean())
        log.info("mixed with a %d-gram model: %s", order, metrics)
        return metrics

    def report(
        self,
        folder: Path,
        model: keras.Model,
        encoded: EncodedText,
        outcome: LanguageModelingOutcome,
        diagnosis: Mapping[str, Any] | None = None,
    ) -> None:
        """Write generated text, the page of surprises and, where it was measured, the flow of gradients."""
        part = held_out_part(outcome.log_probabilities)
        module, settings = self._module(model, encoded), self._generation()
        language_modeling_reports.write(
            folder,
            samples=None if self.backwards else language_modeling_reports.sampled(module, settings),
            surprise=language_modeling_reports.surprise(
                self.run_name(folder),
                part,
                encoded.streams[part],
                encoded.vectorizer,
                outcome.log_probabilities[part],
                self.unit,
            ),
            flow=None if diagnosis is None else {"name": model.name, **diagnosis},
        )
        if self.config.report.arpa:
            arpa.write(folder / "model.arpa", model, spellings(encoded.vectorizer))

    # Exporting

    def _generation(self) -> dict[str, Any]:
        """Return the settings of the export's default signature."""
        return {name: value for name, value in self.plain("generation").items() if name != "unknown"}

    def _module(self, model: keras.Model, encoded: EncodedText) -> LanguageModelModule:
        says_unknown = self.config.generation.unknown
        return LanguageModelModule(
            model, encoded.vectorizer, self.unit, self._generation(), self.sentences, says_unknown
        )

    def package(self, model: keras.Model, encoded: EncodedText) -> Package:
        """Return the language model with its signatures."""
        glue = "" if self.unit == "characters" else " "
        dev = encoded.data.parts["dev"].beginnings(500)
        lines = dev[0][:20]
        line = max((line for line in lines if '"' not in line), key=len, default=lines[0])
        start = line[:12] if self.unit == "characters" else line[:2]
        example = glue.join(start).replace('"', "")
        return Package(
            module=self._module(model, encoded),
            texts=sample_across_lengths([glue.join(line) for document in dev for line in document]),
            facts={"vocabulary": {self.unit: len(encoded.vectorizer.words)}},
            command="generate",
            example=example,
            request={"prompt": example},
            response={"text": "string"},
        )


def mixture_weight(first: np.ndarray, second: np.ndarray, iterations: int = 50) -> float:
    """Return the weight of the first of two models under which their mixture gives a text the highest probability.

    Estimated by EM.

    Args:
        first, second: log-probabilities of each token, `(tokens,)`.
    """
    weight = 0.5
    for _ in range(iterations):
        ours = math.log(weight) + first
        weight = float(np.exp(ours - np.logaddexp(ours, math.log(1 - weight) + second)).mean())
        weight = min(max(weight, 1e-6), 1 - 1e-6)
    return weight


def _scores(part: str, stream: TextStream, log_probabilities: np.ndarray) -> Metrics:
    """Return perplexity and related scores over every token of a part, line ends included."""
    nats = -float(log_probabilities.sum())
    loss = nats / len(log_probabilities)
    return {
        f"{part}/loss": loss,
        f"{part}/perplexity": math.exp(min(loss, 700.0)),
        f"{part}/bits_per_token": loss / math.log(2),
        f"{part}/nats_per_character": nats / stream.characters,
        f"{part}/bits_per_character": nats / stream.characters / math.log(2),
    }
