"""Language modelling: what this task does differently from the others in the flow of `pipeline.py`."""

import logging
import math
from pathlib import Path

import hydra
import numpy as np
import tensorflow as tf
from omegaconf import OmegaConf

from trellis.components.errors import InputError
from trellis.components.models.language_model import forgotten
from trellis.components.models.ngram import NGram
from trellis.components.readers import dataset, running_text
from trellis.components.saved_model.language_model_module import LanguageModelModule
from trellis.components.text.batching import Buckets, of_several_lengths, ordered_batches, training_batches
from trellis.components.text.stream import BOUNDARY, UNKNOWN_WORD, Lines, Segments, Stream, vocabulary
from trellis.components.text.vectorizer import UNKNOWN
from trellis.pipelines import gradient_report, language_modeling_reports

log = logging.getLogger(__name__)


class LanguageModeling:
    """The language modelling task of one configuration; `pipeline.run` calls its methods in their order."""

    loss = None
    embeds_words = True
    # Most of the work is one product with the whole vocabulary.
    wide = True
    ask = "generate"
    # What the summary of a run shows.
    headline = ("perplexity", "loss", "bits_per_character", "perplexity_mixture")

    def __init__(self, config):
        self.config = config
        if config.data.task != "language":
            raise InputError(f"data={config.data.name}: is no running text for model={config.model.name} to learn")
        self.monitor = config.trainer.monitor
        if self.monitor == "auto":
            self.monitor = "dev/perplexity"
        if self.monitor not in ("dev/perplexity", "dev/loss"):
            raise InputError(f"trainer.monitor={self.monitor}: a language model has dev/perplexity and dev/loss")
        self.unit = config.data.unit
        # What ends at the end of its line: a sentence, or nothing.
        self.sentences = config.data.lines == "sentences"
        carry = config.batching.carry
        self.carries = not self.sentences if carry is None else carry
        self.backwards = config.model.get("backwards", False)

    # read

    def read(self):
        """Sets `parts`: the documents of each part."""
        data = OmegaConf.to_container(self.config.data, resolve=True)
        options = {"unit": self.unit, "keep_blank": not self.sentences}
        self.parts = {}
        if data["split"] is not None and not _has_parts(data):
            place = data["path"]
            if place is None or (Path(place).is_dir() and data["files"]):
                place = dataset.locate(data["name"], data["files"], place, data["download"])["text"]
            elif not Path(place).exists():
                raise InputError(f"data.path: {place}: no such file or folder")
            self.files = {"text": place}
            self.parts = running_text.divide(running_text.read(place, **options), data["split"])
        else:
            files = data["files"] if data["split"] is None else {part: f"{part}.txt" for part in dataset.PARTS}
            self.files = dataset.locate(data["name"], files, data["path"], data["download"])
            self.parts = {part: running_text.read(file, **options) for part, file in self.files.items()}
        limit = self.config.limit.sentences
        if limit is not None:
            self.parts = {part: [documents[0][:limit]] for part, documents in self.parts.items()}
        if self.config.limit.overfit:
            self.parts = dict.fromkeys(self.parts, self.parts["train"])
        self._vocabulary()

    def _vocabulary(self, keep=()):
        settings = self.config.text
        # A text that has unknown words in it was given its vocabulary already.
        fixed = any(UNKNOWN_WORD in line for lines in self.parts["train"] for line in lines)
        least = settings.min_count or (1 if fixed or self.unit == "characters" else 2)
        self.vectorizer = vocabulary(self.parts["train"], self.unit, settings.case, settings.digits, least, keep)
        self.size = len(self.vectorizer.words) + 2
        if self.size < 5:  # padding, the unknown word, the end, and two to choose from
            known = ", ".join(map(repr, self.vectorizer.words[1:])) or "none"
            raise InputError(
                f"data={self.config.data.name}: too few words in its train part ({known}); nothing to learn"
            )

    def described(self):
        """One line on the data."""
        sizes = []
        for part, documents in self.parts.items():
            lines = [line for document in documents for line in document]
            sizes.append(f"{part} {len(lines):,} lines, {sum(len(line) + 1 for line in lines):,} {self.unit}")
        return f"{self.config.data.name}: {', '.join(sizes)}; {len(self.vectorizer.words):,} kinds, line ends included"

    @property
    def digest(self):
        return dataset.digest(self.files)

    @property
    def example(self):
        """The beginning of a text to try the export on."""
        lines = self.parts["dev"][0][:20]
        line = max((line for line in lines if '"' not in line), key=len, default=lines[0])
        start = line[:12] if self.unit == "characters" else line[:2]
        return ("" if self.unit == "characters" else " ").join(start).replace('"', "")

    @property
    def request(self):
        """A row that MLflow's model takes."""
        return {"prompt": self.example}

    # What that model gives back.
    response = {"text": "string"}

    # vectorise and batch

    def vectorize(self, keep=()):
        """Turns every part into ids; the vocabulary has the words to keep as well."""
        if keep:
            self._vocabulary(keep)
        self.streams = {
            part: Stream(documents, self.vectorizer, self.unit, self.backwards)
            for part, documents in self.parts.items()
        }
        for part, stream in self.streams.items():
            unknown = np.count_nonzero(stream.ids == UNKNOWN)
            if part != "train" and unknown and not np.any(self.streams["train"].ids == UNKNOWN):
                log.warning(
                    "%s: %d tokens are unknown, and training has none to learn from (text.min_count)", part, unknown
                )

    def batch(self):
        """Cuts the training text into segments of rows, or into lines of like length."""
        batching, stream = self.config.batching, self.streams["train"]
        self.training_tokens = len(stream)
        if self.carries:
            rows = min(batching.rows, max(1, len(stream) // batching.length))
            self.segments = Segments(stream, rows, batching.length)
            self.steps = len(self.segments.inputs)
            log.info("%d segments of %d rows of %d %s", self.steps, rows, batching.length, self.unit)
        else:
            self.lines = Lines(stream)
            self.buckets = Buckets(self.lines.lengths, batching.tokens, batching.max_shapes)
            self.steps = self.buckets.steps
            log.info("%d batches, %.1f %% padding", self.steps, 100 * self.buckets.padding)

    def training(self, epoch):
        """The training batches of an epoch; `epoch()` tells which."""
        if self.carries:
            return self.segments.dataset()
        return training_batches(self.lines, self.buckets, self.config.seed, epoch)

    # build

    def build(self):
        """The model, not compiled."""
        options = OmegaConf.to_container(self.config.model, resolve=True)
        options.pop("precision")
        target = hydra.utils.get_class(options.pop("_target_"))
        try:
            model = target(self.size, boundary=BOUNDARY, **options)
        except ValueError as error:
            raise InputError(str(error)) from None
        if isinstance(model, NGram):
            self._count(model)
        else:
            model.adapt(np.bincount(self.streams["train"].ids, minlength=self.size))
            if self.carries:
                model.carry(self.segments.inputs.shape[1])
        self.flow = {}
        if self.config.diagnostics.gradient_flow:
            if not hasattr(model, "recurrent"):
                raise InputError(f"diagnostics.gradient_flow=true: model={model.name} has no states through time")
            self.flow["before"] = self._measured(model)
        log.info("%s: %d weights", model.name, model.count_params())
        return model

    def _measured(self, model):
        """The flow of gradients through a segment of the training text."""
        segments = Segments(self.streams["train"], 16, self.config.batching.length)
        return gradient_report.measure(model, segments.inputs[0], segments.targets[0], self.config.trainer.clip_norm)

    def _count(self, model):
        stream = self.streams["train"]
        model.adapt(stream.ids, stream.lines if self.sentences else stream.documents)

    # evaluate

    def dev_scorer(self, model):
        """A function that scores the model as it then is on dev: `{"dev/perplexity": …}`."""
        score = self._scorer(model)
        return lambda: self._score("dev", score(self.streams["dev"]))

    def evaluate(self, model):
        """Scores the best model on dev and test, and mixed with an n-gram model."""
        score = self._scorer(model)
        held = [part for part in self.parts if part != "train"]
        self.found = {part: score(self.streams[part]) for part in held}
        metrics = {}
        for part in held:
            metrics |= self._score(part, self.found[part])
        order = self.config.report.mixture
        if order and not isinstance(model, NGram) and not self.backwards:
            metrics |= self._mixed(order)
        if self.flow:
            self.flow["after"] = self._measured(model)
        self.model = model
        return metrics

    def _scorer(self, model):
        """`stream -> log-probability of each token`, in the order of the stream."""
        batching = self.config.batching
        # An n-gram model looks over the end of a line only where that ends nothing.
        carries = not self.sentences if isinstance(model, NGram) else self.carries

        @tf.function(reduce_retracing=True, autograph=False)
        def of_segment(tokens, targets, starts, states):
            features, states = model.read(tokens, forgotten(states, starts))
            return model.token_log_probabilities(features, targets), states

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)] * 2, autograph=False)
        def of_lines(tokens, targets):
            features, _ = model.read(tokens, model.initial_states(tf.shape(tokens)[0]))
            return model.token_log_probabilities(features, targets)

        def in_segments(stream):
            found = np.zeros(len(stream))
            rows = min(batching.evaluation_rows, max(1, len(stream) // batching.evaluation_length))
            segments = Segments(stream, rows, batching.evaluation_length)
            states = model.initial_states(rows)
            for (inputs, targets), places in zip(segments.dataset(), segments.places, strict=True):
                values, states = of_segment(inputs["tokens"], targets, inputs["starts"], states)
                found[places[places >= 0]] = values.numpy()[places >= 0]
            return found

        def in_lines(stream):
            found, lines = np.zeros(len(stream)), Lines(stream)
            buckets = Buckets(lines.lengths, batching.evaluation_tokens, batching.max_shapes)
            for rows, inputs, targets in ordered_batches(lines, buckets):
                values = of_lines(inputs["tokens"], targets).numpy()
                for row, each in zip(rows.numpy(), values, strict=True):
                    if row >= 0:
                        found[lines.firsts[row] :][: lines.lengths[row]] = each[: lines.lengths[row]]
            return found

        return in_segments if carries else in_lines

    def _score(self, part, found):
        """Perplexity and its relatives over every token of a part, line ends included."""
        nats = -float(found.sum())
        loss = nats / len(found)
        characters = self.streams[part].characters
        return {
            f"{part}/loss": loss,
            f"{part}/perplexity": math.exp(min(loss, 700.0)),
            f"{part}/bits_per_token": loss / math.log(2),
            f"{part}/nats_per_character": nats / characters,
            f"{part}/bits_per_character": nats / characters / math.log(2),
        }

    def _mixed(self, order):
        """Perplexities of this model and an n-gram model together, weighted as dev likes it best."""
        ngram = NGram(self.size, order, boundary=BOUNDARY)
        self._count(ngram)
        ngram.fit()
        score = self._scorer(ngram)
        others = {part: score(self.streams[part]) for part in self.found}
        weight = mixture_weight(self.found["dev"], others["dev"])
        metrics = {"mixture/weight": weight}
        for part, found in self.found.items():
            both = np.logaddexp(math.log(weight) + found, math.log(1 - weight) + others[part])
            metrics[f"{part}/perplexity_mixture"] = math.exp(-both.mean())
        log.info("mixed with a %d-gram model: %s", order, metrics)
        return metrics

    def reports(self, folder):
        """Writes generated text, the page of surprises and, where asked, the flow of gradients; returns the folder."""
        return language_modeling_reports.write(folder, self)

    # export

    def module(self, model):
        """The model with its signatures."""
        settings = OmegaConf.to_container(self.config.generation, resolve=True)
        says_unknown = settings.pop("unknown")
        return LanguageModelModule(model, self.vectorizer, self.unit, settings, self.sentences, says_unknown)

    @property
    def texts(self):
        """Inputs of several lengths for the export to be tried on."""
        glue = "" if self.unit == "characters" else " "
        return of_several_lengths([glue.join(line) for lines in self.parts["dev"] for line in lines[:500]])

    @property
    def facts(self):
        """What the model knows, for its metadata."""
        return {"vocabulary": {self.unit: len(self.vectorizer.words)}}


def mixture_weight(first, second, iterations=50):
    """Weight of the first of two models under which their mixture gives a text the highest probability, by EM.

    Args:
        first, second: log-probabilities of each token, `(tokens,)`.
    """
    weight = 0.5
    for _ in range(iterations):
        ours = math.log(weight) + first
        weight = float(np.exp(ours - np.logaddexp(ours, math.log(1 - weight) + second)).mean())
        weight = min(max(weight, 1e-6), 1 - 1e-6)
    return weight


def _has_parts(data):
    """Whether the folder of the user's own text has a file for each part already."""
    place = data["path"]
    if data["files"] or place is None:
        return False
    return all(any((Path(place) / f"{part}.txt{end}").is_file() for end in ("", ".gz")) for part in dataset.PARTS)
