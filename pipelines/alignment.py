"""Word alignment: what this task does differently from the others in the flow of `pipeline.py`."""

import logging
import os
from itertools import islice
from pathlib import Path

import hydra
import numpy as np
import tensorflow as tf
from omegaconf import OmegaConf, open_dict

from trellis.components.alignment.co_occurrence import CoOccurrence
from trellis.components.alignment.directed_batch import DirectedBatch
from trellis.components.alignment.symmetrization import pharaoh, symmetrize
from trellis.components.alignment.token_pairs import TokenPairs
from trellis.components.errors import InputError, nearest
from trellis.components.metrics.alignment_scores import link_scores
from trellis.components.models.word_aligner import batch_cells
from trellis.components.readers import dataset
from trellis.components.saved_model.aligner_module import AlignerModule
from trellis.components.text.batching import of_several_lengths
from trellis.components.text.stream import UNKNOWN_WORD
from trellis.components.text.templates import attribute, parse
from trellis.components.text.vectorizer import normalize
from trellis.pipelines import alignment_reports
from trellis.pipelines.configuration import tree_of_run

log = logging.getLogger(__name__)

# Pairs that are kept as words, for pictures and for the export to be tried on; besides them those with gold alignments.
EXAMPLES = 500


class Alignment:
    """The word alignment task of one configuration; `pipeline.run` calls its methods in their order."""

    loss = None
    # EM has no early stopping: no gold alignment decides anything.
    keeps_last = True

    def __init__(self, config):
        self.config = config
        if config.data.task != "alignment":
            raise InputError(f"data={config.data.name}: has no sentence pairs for model={config.model.name} to align")
        if config.trainer.epochs is None:
            with open_dict(config):
                config.trainer.epochs = sum(config.model.iterations.values())

    # read

    def read(self):
        """Numbers the tokens of every part; all of them are trained on.

        Sets `parts`, `{part: rows}`, counted from 0 over all of them; `pairs`, `{row: sentence pair}` of those with
        gold alignments and of a few others; and `scored`, `{part: rows with gold alignments}`.
        """
        data = OmegaConf.to_container(self.config.data, resolve=True)
        self.files, self.parts, self.pairs, self.scored = {}, {}, {}, {}
        self.folder = self._folder()
        self.tokens = TokenPairs(data["max_length"], self.folder)
        for name, each in [(None, data), *((name, _choice(name)) for name in data["also"])]:
            files, parts = _read(each, self.config.limit.sentences)
            prefix = f"{name}/" if name else ""
            self.files |= {prefix + part: file for part, file in files.items()}
            for part, pairs in parts.items():
                # Gold of a dataset that is only mixed in would be scored as if it were this one's.
                first = self.tokens.count
                rows = self._take(pairs, scored=name is None and part in data["scored"])
                self.parts[prefix + part] = range(first, self.tokens.count)
                if rows:
                    self.scored[part] = rows
        left_out, limit = self.tokens.left_out, data["max_length"]
        if left_out == self.tokens.count:
            raise InputError(f"data={data['name']}: no sentence pair with at most {limit} words (data.max_length)")
        if left_out:
            log.warning("%d pairs of over %d words left out (data.max_length)", left_out, limit)
        self.monitor = "dev/aer" if "dev" in self.scored else "train/loss"

    def _folder(self):
        """Where batches are kept; None: in memory."""
        folder = self.config.batching.folder
        if folder is not None and not (Path(folder).is_dir() and os.access(folder, os.W_OK)):
            raise InputError(f"batching.folder: {folder} is no folder that can be written to")
        return folder

    def _take(self, pairs, scored):
        """Adds pairs; returns the rows of those with gold alignments, where these are to be scored."""
        rows = []
        for row, pair in enumerate(pairs, self.tokens.count):
            gold = scored and pair.sure is not None
            if gold:
                rows.append(row)
            kept = self.tokens.add(pair.source, pair.target)
            if gold or (kept and len(self.pairs) < EXAMPLES):
                self.pairs[row] = pair if gold else pair._replace(sure=None, possible=None)
        return rows

    def described(self):
        """One line on the data."""
        gold = ", ".join(f"{len(rows):,} in {part}" for part, rows in self.scored.items())
        words = " × ".join(f"{words:,}" for words in self.tokens.words)
        return f"{self.config.data.name}: {self.tokens.count:,} pairs, {words} words; gold alignments: {gold or 'none'}"

    @property
    def digest(self):
        return dataset.digest(self.files)

    @property
    def request(self):
        """A row that MLflow's model takes."""
        pair = min(islice(self.pairs.values(), 200), key=lambda pair: abs(len(pair.source) - 7))
        return {"source": " ".join(pair.source), "target": " ".join(pair.target)}

    # What that model gives back.
    response = {"alignment": "string"}

    @property
    def example(self):
        """A sentence pair to try the export on."""
        return "{source} ||| {target}".format(**self.request).replace('"', "")

    # vectorise and batch

    def vectorize(self):
        """Numbers the words of both sides, and their classes where the model backs off to these."""
        self.vocabularies, of_token = [], []
        for side in (0, 1):
            # Distinct tokens are normalised once, in graph, as the export does it.
            tokens = tf.constant(list(self.tokens.tokens[side]), tf.string)
            words, number = np.unique(normalize(tokens, self.config.text.case, "keep").numpy(), return_inverse=True)
            if self.config.text.max_words:
                words, number = self._most_frequent(words, number, side)
            self.vocabularies.append(words.tolist())
            of_token.append(number.astype(np.int32))
        chunks = (
            chunk._replace(source=of_token[0][chunk.source], target=of_token[1][chunk.target])
            for chunk in self.tokens.chunks()
        )
        model, sizes = self.config.model, map(len, self.vocabularies)
        cells = self.config.batching.cells or batch_cells(model.iterations, model.stepwise)
        self.grid = CoOccurrence(chunks, *sizes, cells=cells, folder=self.folder)
        self.levels = []
        backoff = self.config.model.backoff
        for name in backoff.classes if backoff.strength else ():
            try:
                parsed = parse([name])
            except ValueError as error:
                raise InputError(f"model.backoff.classes: {error}") from None
            if parsed.singles != ((0, 0),):
                raise InputError(f"model.backoff.classes: {name!r} must be one attribute, such as prefix4")
            values = [attribute(name, tf.constant(words)).numpy() for words in self.vocabularies]
            named, classes = zip(*(np.unique(each, return_inverse=True) for each in values), strict=True)
            level = self.grid.level(*(each.astype(np.int32) for each in classes))
            self.levels.append((name, level, *(each.tolist() for each in named)))

    def _most_frequent(self, words, of_token, side):
        """Words and the number of each token's; those that are not among `text.max_words` are the unknown word."""
        ids = (of_token[(chunk.source, chunk.target)[side]] for chunk in self.tokens.chunks())
        counts = sum(np.bincount(each, minlength=len(words)) for each in ids)
        kept = np.zeros(len(words), bool)
        kept[np.argsort(-counts, kind="stable")[: self.config.text.max_words - 1]] = True
        words = np.where(kept, words, UNKNOWN_WORD.encode())
        log.info("%d words of the %s side are known", kept.sum(), ("source", "target")[side])
        return np.unique(words[of_token], return_inverse=True)

    def batch(self):
        """Nothing is left to do: the batches are numbered already."""
        self.steps = len(self.grid.batches)
        self.training_tokens = self.grid.tokens
        log.info("%d batches, %d pairs of words that meet", self.steps, len(self.grid.words.source))

    def training(self, epoch):
        """Every batch once, in the same order in every epoch."""
        del epoch
        return self.grid.dataset()

    # build

    def build(self):
        """The model, not compiled."""
        options = OmegaConf.to_container(self.config.model, resolve=True)
        for key in ("precision", "symmetrization", "threshold"):
            options.pop(key)
        target, backoff = options.pop("_target_"), options.pop("backoff")
        sizes = sorted(self.grid.lengths) if "ibm2" in options["iterations"] else ()
        model = hydra.utils.get_class(target)(
            len(self.grid.words.source),
            *map(len, self.vocabularies),
            levels=[(len(each.source), len(each.source_count), len(each.target_count)) for _, each, *_ in self.levels],
            strength=backoff["strength"],
            sizes=sizes,
            **options,
        )
        model.adapt(self.grid.words, [level for _, level, *_ in self.levels], self.steps)
        return model

    # evaluate

    def dev_scorer(self, model):
        """A function that scores the model as it then is on dev: `{"dev/aer": …}`; without gold, nothing."""
        align, rows = self._aligner(model), self.scored.get("dev")
        if not rows:
            return dict
        batches, rows = self.grid.holding(rows), set(rows)

        def score():
            found = (each for number in batches for each in align(number))
            return self._score("dev", {row: _pairs(links) for row, _, links, _ in found if row in rows})

        return score

    def evaluate(self, model):
        """Aligns the pairs that have gold alignments, and scores each part that has."""
        self.model, self.posteriors, self.links = model, {}, {}
        self._align = self._aligner(model)
        shown = alignment_reports.shown(self)
        wanted = shown.union(*self.scored.values())
        for number in self.grid.holding(wanted):
            for row, posteriors, links, _ in self._align(number):
                if row in wanted:
                    self.links[row] = _pairs(links)
                if row in shown:
                    self.posteriors[row] = posteriors
        metrics = {}
        for part in self.scored:
            metrics |= self._score(part, self.links)
        return metrics

    def aligned(self):
        """Yields mean posteriors `(source, target)` and links as text of every pair, in the order of the files.

        None and an empty text of pairs that were left out.
        """
        done = 0
        for batches in self.grid.chunks:
            found = {row: (posteriors, text) for number in batches for row, posteriors, _, text in self._align(number)}
            for row in range(done, max(found) + 1):
                yield found.get(row, (None, ""))
            done = max(found) + 1
        for _ in range(done, self.tokens.count):
            yield None, ""

    def _aligner(self, model):
        """A function of the number of a batch, which yields for each pair of it: its row, the mean of both directions'
        posteriors and the links, both `(source, target)`, and these as text.
        """
        method, threshold = self.config.model.symmetrization, self.config.model.threshold

        @tf.function(reduce_retracing=True, autograph=False)
        def align(batch):
            grid = DirectedBatch(batch, model.sizes)
            forward, reverse = map(grid.dense, model(batch))
            links = symmetrize(forward, reverse, method, threshold)
            return grid.source_lengths, grid.target_lengths, (forward + reverse) / 2.0, links, pharaoh(links)

        def aligned(number):
            batch = {name: tf.convert_to_tensor(values) for name, values in self.grid.batches[number].items()}
            answers = (each.numpy() for each in align(batch))
            for row, source, target, posteriors, links, text in zip(self.grid.rows(number), *answers, strict=True):
                there = slice(source), slice(target)
                yield int(row), posteriors[there], links[there], text.decode()

        return aligned

    def _score(self, part, predicted):
        rows = self.scored[part]
        scores = link_scores(
            [predicted.get(row, set()) for row in rows],
            [self.pairs[row].sure for row in rows],
            [self.pairs[row].possible for row in rows],
        )
        return {f"{part}/{name}": value for name, value in scores.items()}

    def reports(self, folder):
        """Writes alignments, both lexicons and a picture of grids; returns the folder."""
        return alignment_reports.write(folder, self)

    # export

    def module(self, model):
        """The model with its signature."""
        return AlignerModule(
            model,
            self.vocabularies,
            self.levels,
            self.grid.words,
            self.config.text.case,
            self.config.model.symmetrization,
            self.config.model.threshold,
            UNKNOWN_WORD.encode() if self.config.text.max_words else None,
        )

    @property
    def texts(self):
        """Inputs of several lengths for the export to be tried on."""
        short = (pair for pair in self.pairs.values() if max(map(len, pair[:2])) <= self.config.data.max_length)
        pairs = (tuple(map(" ".join, pair[:2])) for pair in islice(short, EXAMPLES))
        return of_several_lengths(pairs, size=lambda pair: sum(map(len, pair)))

    @property
    def facts(self):
        """What the model knows, for its metadata."""
        return {"vocabulary": dict(zip(("source", "target"), map(len, self.vocabularies), strict=True))}


def _pairs(links):
    """Links `{(source, target), …}` of booleans `(source, target)`."""
    return set(map(tuple, np.argwhere(links).tolist()))


def _choice(name):
    """The configuration of another dataset, `data.also`."""
    files = tree_of_run().files("data")
    bitexts = {each: data for each, file in files.items() if (data := OmegaConf.load(file)).get("task") == "alignment"}
    if name not in bitexts:
        raise InputError(f"data.also: no bitext {name!r}; did you mean {nearest(name, bitexts)}?")
    return OmegaConf.to_container(bitexts[name], resolve=True)


def _read(data, limit):
    """The files and an iterator over the sentence pairs of each part of a dataset."""
    wanted = {}
    for part, files in data["files"].items():
        if isinstance(files, str):
            wanted[part] = files
        else:
            wanted |= {f"{part}.{role}": file for role, file in files.items()}
    found = dataset.locate(data["name"], wanted, data["path"], data["download"], data.get("folder"))
    options = {**data["reader"], "strict": data["strict"]}
    reader = hydra.utils.get_method(options.pop("_target_"))
    parts = {}
    for part, files in data["files"].items():
        if isinstance(files, str):
            pairs = reader(found[part], **options)
        else:
            pairs = reader(**{role: found[f"{part}.{role}"] for role in files}, **options)
        parts[part] = islice(_some(pairs, f"data={data['name']}: no sentence pairs in its {part} part"), limit)
    return found, parts


def _some(pairs, message):
    """The pairs; at least one."""
    empty = True
    for pair in pairs:
        empty = False
        yield pair
    if empty:
        raise InputError(message)
