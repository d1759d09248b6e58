"""Classification of sentences: what this task does differently from the others in the flow of `pipeline.py`."""

import logging
from collections import Counter
from pathlib import Path

import hydra
import numpy as np
import tensorflow as tf
from omegaconf import OmegaConf

from trellis.components.errors import InputError
from trellis.components.metrics import classification_scores
from trellis.components.models.classifier import SmoothedCrossentropy
from trellis.components.readers import dataset, labelled
from trellis.components.saved_model.classifier_module import ClassifierModule
from trellis.components.text.batching import (
    UNSEEN,
    Buckets,
    LabelledCorpus,
    of_several_lengths,
    ordered_batches,
    training_batches,
)
from trellis.components.text.tokenizer import tokenize
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.components.training.in_flight import in_flight
from trellis.pipelines import classification_reports

log = logging.getLogger(__name__)

_CHUNK = 4096


class Classification:
    """The classification task of one configuration; `pipeline.run` calls its methods in their order."""

    embeds_words = True

    def __init__(self, config):
        self.config = config
        if config.data.task != "classes":
            raise InputError(f"data={config.data.name}: has no classes for model={config.model.name} to learn")
        self.case = config.text.case or config.data.case
        self.tokenizer = config.text.tokenizer or config.data.tokenizer
        self.monitor = config.trainer.monitor
        if self.monitor == "auto":
            self.monitor = "dev/accuracy"
        if self.monitor not in ("dev/accuracy", "dev/macro_f1", "dev/loss"):
            raise InputError(
                f"trainer.monitor={self.monitor}: a classifier has dev/accuracy, dev/macro_f1 and dev/loss"
            )
        self.loss = SmoothedCrossentropy(config.model.label_smoothing)

    # read

    def read(self):
        """Sets `parts`: the examples of each part."""
        data = OmegaConf.to_container(self.config.data, resolve=True)
        columns = {"text": data["columns"]["text"], "label": data["columns"]["label"]}
        files, split = data["files"], data["split"]
        path = None if data["path"] is None else Path(data["path"])
        if files is None:
            # The user's own: a file, a folder with parts, or a folder with classes.
            if not path.exists():
                raise InputError(f"data.path: {path}: no such file or folder")
            named = {}
            if path.is_dir():
                present = ((part, sorted(path.glob(f"{part}.*"))) for part in dataset.PARTS)
                named = {part: files[0] for part, files in present if files}
            self.files = {"examples": path} if path.is_file() else named or labelled.classes_of(path)
            by_class = path.is_dir() and not named
        else:
            self.files = dataset.locate(data["name"], files, data["path"], data["download"])
            by_class = not set(files) & {*dataset.PARTS, "examples"}
        if by_class:
            examples = labelled.read_classes(self.files)
        elif "examples" in self.files:
            examples = labelled.read(self.files["examples"], **columns)
        if by_class or "examples" in self.files:
            self.parts = labelled.divide(examples, split, data["split_seed"])
        else:
            self.parts = {part: labelled.read(file, **columns) for part, file in self.files.items()}
        for part in ("train", "dev"):
            if not self.parts.get(part):
                raise InputError(f"data={data['name']}: no examples in its {part} part; one is needed")
        counts = Counter(example.label for example in self.parts["train"])
        for label, count in counts.items():
            if count < 2:
                raise InputError(
                    f"data={data['name']}: class {label!r} has one example in train; at least two are needed"
                )
        labelled.check_labels(self.parts, f"data={data['name']}")
        limit = self.config.limit.sentences
        self.parts = {part: _some(examples, limit) for part, examples in self.parts.items()}
        if self.config.limit.overfit:
            self.parts = dict.fromkeys(self.parts, self.parts["train"])
        self.labels = sorted(counts)
        self.tokens = {part: self._tokenized(examples) for part, examples in self.parts.items()}

    def _tokenized(self, examples):
        """Tokens of each text, split in graph as the export does it."""
        texts, found = [example.text for example in examples], []
        for first in range(0, len(texts), _CHUNK):
            chunk = tokenize(tf.constant(texts[first : first + _CHUNK], tf.string), self.tokenizer).numpy()
            found += [tuple(token.decode("utf-8", "replace") for token in row if token) for row in chunk]
        return found

    def described(self):
        """One line on the data."""
        sizes = ", ".join(f"{part} {len(examples):,}" for part, examples in self.parts.items())
        return f"{self.config.data.name}: {sizes} texts; {len(self.labels)} classes"

    @property
    def digest(self):
        return dataset.digest({part: file for part, file in self.files.items() if Path(file).is_file()})

    @property
    def example(self):
        """A text to try the export on."""
        texts = [example.text for example in self.parts["dev"][:50] if '"' not in example.text]
        return min(texts, key=lambda text: abs(len(text) - 40), default="")

    @property
    def request(self):
        """A row that MLflow's model takes."""
        return {"text": self.example}

    # What that model gives back.
    response = {"label": "string", "probability": "number"}

    # vectorise and batch

    def vectorize(self, keep=()):
        """Adapts the vocabulary on the training part, and on words to keep; turns every part into tensors."""
        text = self.config.text
        self.vectorizer = TokenVectorizer.adapt(
            [token for tokens in self.tokens["train"] for token in tokens],
            case=self.case,
            digits=text.digits,
            features=["words"],
            min_count=text.min_count,
            keep=keep,
        )
        numbers = {label: number for number, label in enumerate(self.labels)}
        counts = Counter(example.label for example in self.parts["train"])
        total = sum(counts.values())
        balanced = self.config.model.class_weights == "balanced"
        weights = [total / len(self.labels) / counts[label] if balanced else 1.0 for label in self.labels]
        self.corpora = {
            part: LabelledCorpus(
                self.tokens[part],
                [numbers.get(example.label, UNSEEN) for example in examples],
                self.vectorizer,
                weights if part == "train" else [1.0] * len(self.labels),
            )
            for part, examples in self.parts.items()
        }

    def batch(self):
        """Groups texts by length."""
        batching, corpus = self.config.batching, self.corpora["train"]
        batches = len(corpus.lengths) / batching.sentences
        shapes = min(batching.max_shapes, max(1, int(batches // 3)))
        self.buckets = Buckets(corpus.lengths, max_shapes=shapes, sentences=batching.sentences)
        self.steps, self.training_tokens = self.buckets.steps, corpus.tokens
        log.info("%d training batches, %.1f %% padding", self.steps, 100 * self.buckets.padding)

    def training(self, epoch):
        """The training batches of an epoch; `epoch()` tells which."""
        return training_batches(self.corpora["train"], self.buckets, self.config.seed, epoch)

    # build

    def build(self):
        """The model, not compiled."""
        options = OmegaConf.to_container(self.config.model, resolve=True)
        for key in ("precision", "class_weights", "label_smoothing"):
            options.pop(key)
        target = hydra.utils.get_method(options.pop("_target_"))
        model = target(self.vectorizer.sizes, len(self.labels), **options)
        log.info("%s: %d weights", model.name, model.count_params())
        return model

    # evaluate

    def dev_scorer(self, model):
        """A function that scores the model as it then is on dev: `{"dev/accuracy": …}`."""
        predict = self._predictor(model)
        return lambda: self._score("dev", predict("dev"), detail=False)

    def evaluate(self, model):
        """Scores the best model on dev and test."""
        predict = self._predictor(model)
        self.probabilities = {part: predict(part) for part in self.parts if part != "train"}
        found = {}
        for part, probabilities in self.probabilities.items():
            found |= self._score(part, probabilities, detail=True)
        return found

    def _predictor(self, model):
        """`part -> probabilities (texts, classes)`, in the order of the file."""
        batching, batches = self.config.batching, {}

        @tf.function(reduce_retracing=True)
        def classify(features):
            return tf.nn.softmax(model(features, training=False))

        def predict(part):
            corpus = self.corpora[part]
            if part not in batches:
                buckets = Buckets(corpus.lengths, batching.evaluation_tokens, batching.max_shapes)
                batches[part] = list(ordered_batches(corpus, buckets))
            found = np.zeros((len(corpus.lengths), len(self.labels)), np.float32)
            for rows, values in in_flight(lambda batch: (batch[0], classify(batch[1]).numpy()), batches[part]):
                real = rows.numpy() >= 0
                found[rows.numpy()[real]] = values[real]
            return found

        return predict

    def _score(self, part, probabilities, detail):
        gold = [example.label for example in self.parts[part]]
        predicted = [self.labels[number] for number in probabilities.argmax(axis=1)]
        found = classification_scores.scores(gold, predicted)
        of_gold = probabilities[np.arange(len(gold)), self.corpora[part].labels]
        scores = {
            f"{part}/accuracy": found["accuracy"],
            f"{part}/macro_f1": found["macro_f1"],
            f"{part}/loss": float(-np.log(np.maximum(of_gold, 1e-30)).mean()),
        }
        if detail:
            scores |= {f"{part}/f1/{label}": each["f1"] for label, each in found["classes"].items()}
        return scores

    def reports(self, folder):
        """Writes the table of classes, the confusions and the page of most confident errors; returns the folder."""
        part = "test" if "test" in self.parts else "dev"
        return classification_reports.write(folder, self.parts[part], self.probabilities[part], self.labels)

    # export

    def module(self, model):
        """The model with its signatures."""
        return ClassifierModule(model, self.vectorizer, self.labels, self.tokenizer)

    @property
    def texts(self):
        """Inputs of several lengths for the export to be tried on."""
        return of_several_lengths([example.text for example in self.parts["dev"]])

    @property
    def facts(self):
        """What the model knows, for its metadata."""
        return {"labels": self.labels, "vocabulary": {"words": self.vectorizer.sizes["words"]}}


def _some(examples, limit):
    """The first examples, of every class as many as its share of the whole has it."""
    if limit is None or limit >= len(examples):
        return examples
    by_class = {}
    for example in examples:
        by_class.setdefault(example.label, []).append(example)
    share = limit / len(examples)
    return [example for each in by_class.values() for example in each[: max(2, round(share * len(each)))]]
