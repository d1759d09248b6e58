"""Word alignment: what this task does differently from the others in the flow of `pipeline.py`."""

import logging
import os
from pathlib import Path

import hydra
import numpy as np
import tensorflow as tf
from omegaconf import OmegaConf, open_dict

from components.alignment.symmetrization import pharaoh, symmetrize
from components.errors import InputError, nearest
from components.layers.ibm1 import Grid
from components.metrics.alignment import link_scores
from components.readers import dataset
from components.saved_model.aligner import AlignerModule
from components.text.batching import of_several_lengths
from components.text.co_occurrence import CoOccurrence
from components.text.templates import attribute, parse
from components.text.vectorizer import normalize
from pipelines import alignment_reports

log = logging.getLogger(__name__)


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
        """Sets `parts`: the sentence pairs of each part; all of them are trained on."""
        data = OmegaConf.to_container(self.config.data, resolve=True)
        self.files, self.parts = {}, {}
        for name, each in [(None, data), *((name, _choice(name)) for name in data["also"])]:
            files, parts = _read(each, self.config.limit.sentences)
            prefix = f"{name}/" if name else ""
            self.files |= {prefix + part: file for part, file in files.items()}
            self.parts |= {prefix + part: pairs for part, pairs in parts.items()}
        # Gold of a dataset that is only mixed in would be scored as if it were this one's.
        self.scored = {
            part: [row for row, pair in enumerate(self.parts[part]) if pair.sure is not None]
            for part in data["scored"]
            if part in self.parts
        }
        self.scored = {part: rows for part, rows in self.scored.items() if rows}
        self.pairs = [pair for pairs in self.parts.values() for pair in pairs]
        limit = data["max_length"]
        self.rows = [row for row, p in enumerate(self.pairs) if max(len(p.source), len(p.target)) <= limit]
        if not self.rows:
            raise InputError(f"data={data['name']}: no sentence pair with at most {limit} words (data.max_length)")
        if len(self.rows) < len(self.pairs):
            log.warning("%d pairs of over %d words left out (data.max_length)", len(self.pairs) - len(self.rows), limit)
        self.monitor = "dev/aer" if "dev" in self.scored else "train/loss"

    def described(self):
        """One line on the data."""
        gold = ", ".join(f"{len(rows):,} in {part}" for part, rows in self.scored.items())
        words = " × ".join(f"{sum(len(pair[side]) for pair in self.pairs):,}" for side in (0, 1))
        return f"{self.config.data.name}: {len(self.pairs):,} pairs, {words} words; gold alignments: {gold or 'none'}"

    @property
    def digest(self):
        return dataset.digest(self.files)

    @property
    def request(self):
        """A row that MLflow's model takes."""
        pair = min(self.pairs[:200], key=lambda pair: abs(len(pair.source) - 7))
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
        self.vocabularies, ids = [], []
        for side in (0, 1):
            numbers = {}
            every = [[numbers.setdefault(token, len(numbers)) for token in self.pairs[r][side]] for r in self.rows]
            # Distinct tokens are normalised once, in graph, as the export does it.
            normal = normalize(tf.constant(list(numbers), tf.string), self.config.text.case, "keep").numpy()
            words, of_token = np.unique(normal, return_inverse=True)
            of_token = of_token.astype(np.int32)
            self.vocabularies.append(words.tolist())
            ids.append([of_token[sentence] for sentence in every])
        sizes = (len(words) for words in self.vocabularies)
        self.grid = CoOccurrence(*ids, *sizes, cells=self.config.batching.cells)
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

    def batch(self):
        """Nothing is left to do: the batches are numbered already."""
        self.steps = len(self.grid.batches)
        self.training_tokens = int(self.grid.source_lengths.sum() + self.grid.target_lengths.sum())
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
        sizes = ()
        if "ibm2" in options["iterations"]:
            lengths = zip(self.grid.source_lengths.tolist(), self.grid.target_lengths.tolist(), strict=True)
            sizes = sorted(set(lengths))
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
        aligned = self._aligner(model)
        rows = self.gold_rows("dev")
        return lambda: self._score("dev", {row: _pairs(links) for row, _, links, _ in aligned(rows)}) if rows else {}

    def evaluate(self, model):
        """Aligns every pair, and scores the parts that have gold alignments."""
        self.model, self.posteriors = model, {}
        # As text, and as links only where these are needed: sets for every pair would outgrow everything else.
        self.lines, self.links = [""] * len(self.pairs), {}
        shown = alignment_reports.shown(self)
        wanted = shown.union(*(self.gold_rows(part) for part in self.scored))
        for row, posteriors, links, text in self._aligner(model)(range(len(self.pairs))):
            self.lines[row] = text
            if row in wanted:
                self.links[row] = _pairs(links)
            if row in shown or self.config.report.posteriors:
                self.posteriors[row] = posteriors
        metrics = {}
        for part in self.scored:
            metrics |= self._score(part, self.links)
        return metrics

    def _aligner(self, model):
        method, threshold = self.config.model.symmetrization, self.config.model.threshold

        @tf.function(reduce_retracing=True, autograph=False)
        def align(batch):
            grid = Grid(batch, model.sizes)
            forward, reverse = map(grid.dense, model(batch))
            links = symmetrize(forward, reverse, method, threshold)
            return (forward + reverse) / 2.0, links, pharaoh(links)

        place = {row: number for number, row in enumerate(self.rows)}
        of_row = {int(row): number for number, rows in enumerate(self.grid.rows) for row in rows}

        def aligned(rows):
            """Yields row, mean posteriors of both directions and links `(source, target)`, and these as text.

            Not of rows that were left out.
            """
            wanted = {place[row] for row in rows if row in place}
            for number in sorted({of_row[row] for row in wanted}):
                batch = {name: tf.constant(values) for name, values in self.grid.batches[number].items()}
                posteriors, links, texts = (each.numpy() for each in align(batch))
                for index, row in enumerate(self.grid.rows[number]):
                    if row in wanted:
                        there = slice(self.grid.source_lengths[row]), slice(self.grid.target_lengths[row])
                        yield self.rows[row], posteriors[index][there], links[index][there], texts[index].decode()

        return aligned

    def gold_rows(self, part):
        """The numbers of a part's pairs with gold alignments, among those of all parts."""
        first = 0
        for name, pairs in self.parts.items():
            if name == part:
                return [first + row for row in self.scored.get(part, ())]
            first += len(pairs)
        return []

    def _score(self, part, predicted):
        rows = self.gold_rows(part)
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
        )

    @property
    def texts(self):
        """Inputs of several lengths for the export to be tried on."""
        pairs = (tuple(" ".join(side) for side in pair[:2]) for pair in self.pairs[:500])
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
    folder = Path(os.environ.get("TRELLIS_ROOT", ".")) / "conf" / "data"
    names = [file.stem for file in folder.glob("*.yaml") if OmegaConf.load(file).get("task") == "alignment"]
    if name not in names:
        raise InputError(f"data.also: no bitext {name!r}; did you mean {nearest(name, names)}?")
    return OmegaConf.to_container(OmegaConf.load(folder / f"{name}.yaml"), resolve=True)


def _read(data, limit):
    """The files and the sentence pairs of each part of a dataset."""
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
        if not pairs:
            raise InputError(f"data={data['name']}: no sentence pairs in its {part} part")
        if part not in data["scored"]:
            pairs = [pair._replace(sure=None, possible=None) for pair in pairs]
        parts[part] = pairs[:limit]
    return found, parts
