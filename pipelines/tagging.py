"""Tagging (NER, POS): what this task does differently from the others in the flow of `pipeline.py`."""

import functools
import logging
import time
from collections import Counter

import hydra
import numpy as np
import tensorflow as tf
from omegaconf import OmegaConf

from trellis.components.errors import InputError
from trellis.components.layers.sequence_head import NegativeLogLikelihood
from trellis.components.metrics import tagging_scores
from trellis.components.readers import dataset, vectors
from trellis.components.readers.lines import read_lines
from trellis.components.saved_model.tagger_module import TaggerModule
from trellis.components.text import tag_schemes, templates
from trellis.components.text.batching import (
    UNSEEN,
    Buckets,
    EncodedCorpus,
    of_several_lengths,
    ordered_batches,
    training_batches,
)
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.components.training.in_flight import in_flight
from trellis.pipelines import tagging_reports

log = logging.getLogger(__name__)


class Tagging:
    """The tagging task of one configuration; `pipeline.run` calls its methods in their order."""

    embeds_words = True

    def __init__(self, config):
        self.config = config
        if config.data.task not in ("ner", "pos"):
            raise InputError(f"data={config.data.name}: has no tagged sentences for model={config.model.name} to learn")
        self.entities = config.data.task == "ner"
        self.monitor = config.trainer.monitor
        if self.monitor == "auto":
            self.monitor = "dev/f1" if self.entities else "dev/accuracy"
        if self.monitor == "dev/f1" and not self.entities:
            raise InputError("trainer.monitor=dev/f1: data.task=pos has no entities; use dev/accuracy or dev/loss")
        self.loss = NegativeLogLikelihood()
        self.predictions = {}

    @property
    def whole_loss(self):
        """Whose mean over the batches of an epoch is the mean over its sentences."""
        return NegativeLogLikelihood(sequences=len(self.training_corpus.lengths) / self.steps)

    # read

    def read(self):
        """Sets `parts`: the sentences of each part, entities in BIO2."""
        data = self.config.data
        as_plain = OmegaConf.to_container(data, resolve=True)
        self.files = dataset.locate(data.name, as_plain["files"], as_plain["path"], as_plain["download"])
        options = as_plain["reader"]
        reader = hydra.utils.get_method(options.pop("_target_"))
        limit = self.config.limit.sentences
        self.parts = {}
        for part, file in self.files.items():
            sentences = reader(file, **options)
            if not sentences:
                raise InputError(f"{file}: no sentences in this file")
            self.parts[part] = sentences[:limit]
        for part in ("train", "dev"):
            if part not in self.parts:
                raise InputError(f"data.files: no {part} part; one is needed")
        if self.config.limit.overfit:
            self.parts = dict.fromkeys(self.parts, self.parts["train"])
        if self.entities:
            self._to_bio2()

        counts = Counter(tag for sentence in self.parts["train"] for tag in sentence.tags)
        if len(counts) < 2:
            raise InputError(f"{self.files['train']}: every token has the tag {next(iter(counts))!r}; nothing to learn")
        for part in ("dev", "test"):
            unseen = Counter(t for s in self.parts.get(part, ()) for t in s.tags if t not in counts)
            if unseen:
                named = ", ".join(f"{tag} ({count}×)" for tag, count in unseen.most_common())
                log.warning("%s: tags that training never saw, counted as wrong: %s", self.files[part], named)
        learned = counts
        if self.config.data.scheme == "iobes" and self.entities:
            learned = {t for s in self.parts["train"] for t in tag_schemes.convert(s.tags, "iobes")}
        self.tags = sorted(learned)
        # What is given out: the learned tags as BIO2, so that no other scheme reaches a score or an export.
        self.given = [tag_schemes.to_bio2(tag) for tag in self.tags] if self.entities else self.tags

    def _to_bio2(self):
        scheme = tag_schemes.detect(sentence.tags for sentence in self.parts["train"])
        if scheme != "bio2":
            log.info("tags are written in %s; converted to BIO2", scheme)
            self.parts = {
                part: [s._replace(tags=tag_schemes.convert(s.tags, "bio2")) for s in sentences]
                for part, sentences in self.parts.items()
            }

    def described(self):
        """One line on the data."""
        sizes = ", ".join(
            f"{part} {len(sentences):,} sentences, {sum(len(s.tokens) for s in sentences):,} tokens"
            for part, sentences in self.parts.items()
        )
        return f"{self.config.data.name}: {sizes}; {len(self.tags)} tags"

    @property
    def digest(self):
        return dataset.digest(self.files)

    @property
    def example(self):
        """A sentence to try the export on."""
        if self.config.data.language == "en" and not self.columns:
            return "Mary Smith flew from Oslo to Lima."
        return " ".join(self._inputs(self.parts["dev"][0])[:8]).replace('"', "")

    @property
    def request(self):
        """A row that MLflow's model takes."""
        return {"text": self.example}

    # What that model gives back.
    response = {"tokens": "strings", "tags": "strings", "confidence": "numbers"}

    # vectorise and batch

    def vectorize(self, keep=()):
        """Adapts the vocabularies on the training part, and on words to keep; turns every part into tensors."""
        text, model = self.config.text, self.config.model
        features, attributes = ["words"], ()
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
        lists = self._lists(attributes)
        self.columns = self._columns(attributes)
        tokens = [token for sentence in self.parts["train"] for token in self._inputs(sentence)]
        self.known = {token for sentence in self.parts["train"] for token in sentence.tokens}
        self.vectors = {}
        if "vectors" in model and model.vectors.path:
            wanted = self.known | {token.lower() for token in self.known}
            self.vectors = vectors.read(model.vectors.path, model.words.dim, wanted, model.vectors.keep)
        self.vectorizer = TokenVectorizer.adapt(
            tokens,
            case=text.case,
            digits=text.digits,
            max_characters=text.max_characters,
            features=features,
            min_count=text.min_count,
            keep=[*self.vectors, *keep],
            attributes=attributes,
            lists=lists,
            columns=self.columns,
            min_value_count=model.get("min_count", 1),
        )
        learned = self.parts["train"]
        if self.config.data.scheme == "iobes" and self.entities:
            learned = [s._replace(tags=tag_schemes.convert(s.tags, "iobes")) for s in learned]
        self.training_corpus = self._encoded(self._labelled(learned), self.tags)
        self.corpora = {
            part: self._encoded(sentences, self.given) for part, sentences in self.parts.items() if part != "train"
        }

    def _columns(self, attributes):
        """The names of the columns that templates ask for."""
        names, known = templates.columns(attributes), self.parts["train"][0].columns or ()
        for name in names:
            if name not in known:
                there = ", ".join(known) or "none"
                raise InputError(f"model.templates: column({name}): no such column in data.reader.columns ({there})")
        return names

    def _inputs(self, sentence):
        """The tokens of a sentence as the model reads them: where it reads columns too, with a tab before each."""
        if not self.columns:
            return sentence.tokens
        return tuple(map("\t".join, zip(sentence.tokens, *map(sentence.columns.get, self.columns), strict=True)))

    def _encoded(self, sentences, tags):
        read = (sentence._replace(tokens=self._inputs(sentence)) for sentence in sentences)
        return EncodedCorpus(list(read), self.vectorizer, tags)

    def _lists(self, attributes):
        """The words of the lists that templates name, each from its file: every word of every line."""
        files, lists = dict(self.config.model.get("lists") or {}), {}
        for name in templates.listed(attributes):
            if name not in files:
                known = ", ".join(files) or "none"
                raise InputError(f"model.templates: in({name}): no such list in model.lists ({known})")
            lists[name] = {word for _, line in read_lines(files[name]) for word in line.split(" ") if word}
            if not lists[name]:
                raise InputError(f"{files[name]}: no words in this list")
        return lists

    def _labelled(self, sentences):
        """The sentences, a share of them without tags where the model learns from such (`labelled` below 1)."""
        share = self.config.model.get("labelled", 1.0)
        if share == 1.0:
            return sentences
        hidden = np.random.default_rng(self.config.seed).permutation(len(sentences))[round(share * len(sentences)) :]
        sentences = list(sentences)
        for index in hidden:
            sentences[index] = sentences[index]._replace(tags=(None,) * len(sentences[index].tags))
        return sentences

    def batch(self):
        """Groups sentences by length."""
        batching = self.config.batching
        lengths = self.training_corpus.lengths
        # A small corpus gets fewer shapes: with one batch a shape, the same sentences would always meet.
        batches = len(lengths) / batching.sentences if batching.sentences else lengths.sum() / batching.tokens
        shapes = min(batching.max_shapes, max(1, int(batches // 3)))
        self.buckets = Buckets(lengths, batching.tokens, shapes, batching.sentences)
        self.steps, self.training_tokens = self.buckets.steps, self.training_corpus.tokens
        log.info(
            "%d training batches of %d shapes, %.1f %% padding",
            self.steps,
            len(self.buckets.shapes),
            100 * self.buckets.padding,
        )

    def training(self, epoch):
        """The training batches of an epoch; `epoch()` tells which."""
        return training_batches(self.training_corpus, self.buckets, self.config.seed, epoch)

    # build

    def build(self):
        """The model, not compiled."""
        options = OmegaConf.to_container(self.config.model, resolve=True)
        for key in ("name", "vectors", "precision", "min_count", "labelled", "lists"):
            options.pop(key, None)
        if options.get("constraints"):
            options["constraints"] = self._constraints(options["constraints"])
        sizes = self.vectorizer.sizes
        if self.vectors:
            options["vectors"], matched = vectors.matrix(
                self.vectors,
                self.vectorizer.words,
                sizes["words"],
                options["words"]["dim"],
                np.random.default_rng(self.config.seed),
            )
            log.warning("%d of %d words have a pretrained vector", matched, len(self.vectorizer.words))
        target = options.pop("_target_")
        model = hydra.utils.get_method(target)(sizes, len(self.tags), name=self.config.model.name, **options)
        log.info("%s: %d weights", model.name, model.count_params())
        return model

    def _constraints(self, when):
        """What the head has to know to keep to the scheme, at decoding or in training too."""
        model = self.config.model
        if not self.entities:
            raise InputError(f"model.constraints={when}: data.task=pos has no scheme that could rule out anything")
        if model.head == "softmax":
            raise InputError(f"model.constraints={when}: model.head=softmax takes each tag on its own; use crf or memm")
        scheme = "iobes" if self.config.data.scheme == "iobes" else "bio"
        return {"constraints": scheme, "tags": self.tags, "constrain_training": when == "training"}

    # evaluate

    def dev_scorer(self, model):
        """A function that scores the model as it then is on dev: `{"dev/f1": …}`."""
        predict = self._predictor(model)
        return lambda: self._score("dev", *predict("dev"), detail=False)

    def evaluate(self, model):
        """Scores the best model on dev and test."""
        predict = self._predictor(model)
        metrics = {}
        for part in self.corpora:
            began = time.perf_counter()
            predicted, losses = predict(part)
            seconds = time.perf_counter() - began
            self.predictions[part] = (predicted, losses)
            metrics |= self._score(part, predicted, losses, detail=True)
            log.info("%s: %.0f tokens/s", part, self.corpora[part].tokens / seconds)
        return metrics

    def _predictor(self, model):
        """`part -> (predicted tags of each sentence, nats of each sentence's gold tags)`, in the order of the file."""
        loss = NegativeLogLikelihood(reduction="none")
        batching = self.config.batching
        given = np.array(self.given, object)

        @functools.cache
        def batches(corpus):
            return ordered_batches(corpus, Buckets(corpus.lengths, batching.evaluation_tokens, batching.max_shapes))

        # One graph for all shapes, as several threads ask for it at once.
        _, *signature = batches(self.corpora["dev"]).element_spec

        @tf.function(input_signature=signature)
        def decode(features, gold):
            tags = model(features, training=False)
            # Gold tags that training never saw have no probability; such sentences have no loss.
            seen = tf.reduce_all(gold != UNSEEN, axis=1)
            losses = loss(tf.maximum(gold, 0), tags)
            return tags, tf.where(seen, losses, float("nan"))

        def run(batch):
            rows, features, gold = batch
            return rows, *(each.numpy() for each in decode(features, gold))

        def predict(part):
            corpus = self.corpora[part]
            predicted, losses = [None] * len(corpus.lengths), np.zeros(len(corpus.lengths))
            for rows, tags, nats in in_flight(run, batches(corpus)):
                for place, row in enumerate(rows.numpy()):
                    if row >= 0:
                        predicted[row] = tuple(given[tags[place, : corpus.lengths[row]]])
                        losses[row] = nats[place]
            return predicted, losses

        return predict

    def _score(self, part, predicted, losses, detail):
        sentences = self.parts[part]
        gold = [sentence.tags for sentence in sentences]
        metrics = {}
        if self.entities:
            entity = tagging_scores.entity_scores(gold, predicted)
            metrics |= {f"{part}/{name}": entity[name] for name in ("f1", "precision", "recall")}
            if detail:
                metrics |= {f"{part}/f1/{kind}": each["f1"] for kind, each in entity["types"].items()}
        metrics[f"{part}/accuracy"] = tagging_scores.token_accuracy(gold, predicted)
        if detail and not self.entities:
            familiar = tagging_scores.accuracy_by_familiarity(sentences, predicted, self.known)
            metrics |= {f"{part}/accuracy_{name}": value for name, value in familiar.items() if value is not None}
        if not np.isnan(losses).all():
            metrics[f"{part}/loss"] = float(np.nanmean(losses))
        return metrics

    def reports(self, folder):
        """Writes the per-type table, the confusion matrix and the page of worst errors; returns the folder."""
        part = "test" if "test" in self.parts else "dev"
        predicted, losses = self.predictions[part]
        return tagging_reports.write(folder, self.parts[part], predicted, losses, self.entities)

    # export

    def module(self, model):
        """The model with its signatures."""
        # A space is all that splits words that have their columns with them.
        tokenizer = "spaces" if self.columns else self.config.text.tokenizer
        return TaggerModule(model, self.vectorizer, self.given, tokenizer)

    @property
    def texts(self):
        """Inputs of several lengths for the export to be tried on."""
        return of_several_lengths([" ".join(self._inputs(sentence)) for sentence in self.parts["dev"]])

    @property
    def facts(self):
        """What the model knows, for its metadata."""
        return {"labels": sorted(set(self.given)), "vocabulary": self.vectorizer.sizes}
