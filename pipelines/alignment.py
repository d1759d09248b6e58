"""Word alignment: what this task does in the flow of `pipeline.py`."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import keras
import numpy as np
import tensorflow as tf
from omegaconf import DictConfig

from trellis.components import termination, workers
from trellis.components.alignment.co_occurrence import ClassPairs, CoOccurrence
from trellis.components.alignment.directed_batch import DirectedBatch
from trellis.components.alignment.symmetrization import pharaoh, symmetrize
from trellis.components.alignment.token_pairs import TokenPairs
from trellis.components.errors import InputError
from trellis.components.metrics.alignment_scores import link_scores
from trellis.components.models.word_aligner import batch_cells
from trellis.components.readers.bitext import SentencePair
from trellis.components.readers.sources import Source
from trellis.components.saved_model.aligner_module import AlignerModule
from trellis.components.text.batching import sample_across_lengths
from trellis.components.text.stream import UNKNOWN_WORD
from trellis.components.text.templates import attribute, parse
from trellis.components.text.vectorizer import normalize
from trellis.components.types import Dataset
from trellis.pipelines import alignment_reports, reading, segment_statistics
from trellis.pipelines.sections import AlignmentSections
from trellis.pipelines.task import Batches, Data, Encoded, Evaluator, Metrics, Outcome, Package, Task, held_out_part

log = logging.getLogger(__name__)

# Pairs to keep as words, for pictures and examples, besides those with gold alignments.
EXAMPLES = 500

Links = set[tuple[int, int]]  # {(source, target), …}


@dataclass(frozen=True, kw_only=True)
class BitextData(Data):
    """Sentence pairs, with rows counted from 0 over all parts; every part is used for training.

    Attributes:
        tokens: every pair as ids.
        pairs: `{row: sentence pair}` of those with gold alignments and of a few others.
        scored: `{part: rows with gold alignments}`.
    """

    tokens: TokenPairs
    pairs: Mapping[int, SentencePair]
    scored: Mapping[str, Sequence[int]]


class BackoffLevel(NamedTuple):
    """Classes of words, which rare words share their counts with.

    Attributes:
        attribute: the attribute that defines the classes, such as `prefix4`.
        pairs: the pairs of classes that co-occur.
        source_classes: the names of the source classes by id.
        target_classes: the names of the target classes by id.
    """

    attribute: str
    pairs: ClassPairs
    source_classes: Sequence[bytes]
    target_classes: Sequence[bytes]


@dataclass(frozen=True, kw_only=True)
class EncodedBitext(Encoded):
    """A bitext as batches of the ids of word pairs.

    Attributes:
        data: what was encoded.
        vocabularies: source and target words by id.
        co_occurrence: the batches, and the pairs of words that co-occur.
        levels: the levels of back-off, from coarse to fine.
    """

    data: BitextData
    vocabularies: tuple[Sequence[bytes], Sequence[bytes]]
    co_occurrence: CoOccurrence
    levels: Sequence[BackoffLevel]


class AlignedPair(NamedTuple):
    """A sentence pair as a model aligns it.

    Attributes:
        row: its index over all parts.
        posteriors: the mean of both directions, `(source, target)`.
        links: booleans `(source, target)`.
        text: the links as `0-0 1-2`.
    """

    row: int
    posteriors: np.ndarray
    links: np.ndarray
    text: str


Aligner = Callable[[int], Iterator[AlignedPair]]  # of the number of a batch


@dataclass(frozen=True, kw_only=True)
class AlignmentOutcome(Outcome):
    """Scores, and what the reports show.

    Attributes:
        links: of every scored pair and every shown pair, by row.
        posteriors: of the shown pairs, by row.
        align: aligns a batch.
    """

    links: Mapping[int, Links]
    posteriors: Mapping[int, np.ndarray]
    align: Aligner


class Alignment(Task[BitextData, EncodedBitext, AlignmentOutcome]):
    """Links between the words of sentence pairs, learned by EM."""

    needs, accepts, sample = AlignmentSections.needs, AlignmentSections.accepts, AlignmentSections.sample
    monitors = ("dev/aer", "train/loss")
    # EM has no early stopping: no gold alignment decides anything.
    keeps_last = True

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        if config.model.stepwise and config.trainer.strategy != "none":
            raise InputError(f"model.stepwise={config.model.stepwise:g}: not with trainer.strategy=multi_worker")

    @property
    def epochs(self) -> int:
        """The number of iterations: by default the sum of `model.iterations`."""
        return int(self.config.trainer.epochs or sum(self.config.model.iterations.values()))

    def monitor(self, encoded: EncodedBitext) -> str:
        """Return the score to show: the error rate on dev if it has gold alignments, else the training loss."""
        return "dev/aer" if "dev" in encoded.data.scored else "train/loss"

    # Reading

    def read(self) -> BitextData:
        """Read every part, and the datasets in `data.also`, as token ids."""
        data = self.plain("data")
        files: dict[str, Source] = {}
        pairs: dict[int, SentencePair] = {}
        scored: dict[str, list[int]] = {}
        tokens = TokenPairs(data["max_length"], self._folder())
        for name, source in [("", data), *((name, reading.bitext(name)) for name in data["also"])]:
            located, parts = reading.sentence_pairs(source, self.config.limit.sentences)
            files |= {f"{name}/{part}" if name else part: file for part, file in located.items()}
            for part, bitext in parts.items():
                # Gold of a dataset that is only mixed in would be scored as if it were this one's.
                gold = _add(bitext, tokens, pairs, has_gold=not name and part in data["scored"])
                if gold:
                    scored[part] = gold
        left_out, limit = tokens.skipped, data["max_length"]
        if left_out + tokens.empty == tokens.count:
            raise InputError(f"data={data['name']}: no sentence pair with at most {limit} words (data.max_length)")
        if left_out:
            log.warning("%d pairs of over %d words left out (data.max_length)", left_out, limit)
        sizes = ", ".join(f"{len(rows):,} in {part}" for part, rows in scored.items())
        words = " × ".join(f"{count:,}" for count in tokens.words)
        return BitextData(
            files=files,
            description=f"{data['name']}: {tokens.count:,} pairs, {words} words; gold alignments: {sizes or 'none'}",
            tokens=tokens,
            pairs=pairs,
            scored=scored,
        )

    def _folder(self) -> str | None:
        """Return the folder for batches; None: keep them in memory."""
        folder: str | None = self.config.batching.folder
        if folder is not None and not (Path(folder).is_dir() and os.access(folder, os.W_OK)):
            raise InputError(f"batching.folder: {folder} cannot be written to")
        return folder

    # Encoding and batching

    def encode(self, data: BitextData, keep: Sequence[str] = ()) -> EncodedBitext:
        """Give ids to the words of both sides and, if the model backs off to classes, to these."""
        del keep
        vocabularies, ids_of_tokens = zip(*(self._vocabulary(data.tokens, side) for side in (0, 1)), strict=True)
        chunks = (
            chunk._replace(source=ids_of_tokens[0][chunk.source], target=ids_of_tokens[1][chunk.target])
            for chunk in data.tokens.chunks()
        )
        model = self.config.model
        cells = self.config.batching.cells or batch_cells(model.iterations, model.stepwise)
        sizes = len(vocabularies[0]), len(vocabularies[1])
        co_occurrence = CoOccurrence(chunks, *sizes, cells=cells, folder=self._folder())
        names = model.backoff.classes if model.backoff.strength else ()
        return EncodedBitext(
            data=data,
            vocabularies=(vocabularies[0].tolist(), vocabularies[1].tolist()),
            co_occurrence=co_occurrence,
            levels=[_level(name, vocabularies, co_occurrence) for name in names],
        )

    def _vocabulary(self, tokens: TokenPairs, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the words of a side, and the id of each token."""
        # Distinct tokens are normalized once, in graph, as the export does it.
        written = tf.constant(list(tokens.tokens[side]), tf.string)
        words, ids = np.unique(normalize(written, self.config.text.case, "keep").numpy(), return_inverse=True)
        most = self.config.text.max_words
        if most:
            counted = (np.bincount(ids[(c.source, c.target)[side]], minlength=len(words)) for c in tokens.chunks())
            kept = np.zeros(len(words), bool)
            kept[np.argsort(-sum(counted), kind="stable")[: most - 1]] = True
            log.info("%d words of the %s side are known", kept.sum(), ("source", "target")[side])
            known = np.where(kept, words, np.array(UNKNOWN_WORD.encode(), object))[ids]
            words, ids = np.unique(known, return_inverse=True)
        return words, ids.astype(np.int32)

    def batch(self, encoded: EncodedBitext) -> Batches:
        """Return the batches that `encode` made, in the same order for each epoch."""
        co_occurrence = encoded.co_occurrence
        if len(co_occurrence.batches) < workers.count():
            raise InputError(
                f"trainer.strategy={self.config.trainer.strategy}: {len(co_occurrence.batches)} batches for "
                f"{workers.count()} workers; lower batching.cells"
            )
        log.info("%d batches, %d co-occurring word pairs", len(co_occurrence.batches), len(co_occurrence.words.source))
        return Batches(
            steps=len(co_occurrence.batches),
            tokens=co_occurrence.tokens,
            epoch_dataset=lambda epoch: self._share(co_occurrence.dataset()),
        )

    def _share(self, dataset: Dataset) -> Dataset:
        """Return the batches of this worker, of those that train together."""
        return dataset if workers.count() == 1 else dataset.shard(workers.count(), workers.index())

    # Building

    def build(self, encoded: EncodedBitext, batches: Batches) -> keras.Model:
        """Build the aligner of both directions."""
        options = self.model_options("symmetrization", "threshold")
        build, backoff = hydra.utils.get_class(options.pop("_target_")), options.pop("backoff")
        words, levels = encoded.co_occurrence.words, [level.pairs for level in encoded.levels]
        model = build(
            len(words.source),
            *map(len, encoded.vocabularies),
            levels=[(len(pairs.source), len(pairs.source_count), len(pairs.target_count)) for pairs in levels],
            strength=backoff["strength"],
            sizes=sorted(encoded.co_occurrence.lengths) if "ibm2" in options["iterations"] else (),
            **options,
        )
        model.adapt(words, levels, batches.steps)
        return model

    # Evaluating

    def evaluator(self, model: keras.Model, encoded: EncodedBitext) -> Evaluator[AlignmentOutcome]:
        """Return what scores an aligner, on the parts that have gold alignments."""
        align, data = self._aligner(model, encoded.co_occurrence), encoded.data

        def aligned(rows: Set[int]) -> Iterator[AlignedPair]:
            for number in encoded.co_occurrence.batches_with(rows):
                yield from (pair for pair in align(number) if pair.row in rows)

        def dev() -> Metrics:
            if "dev" not in data.scored:
                return {}
            return _scores("dev", data, {pair.row: _links(pair.links) for pair in aligned(set(data.scored["dev"]))})

        def held_out() -> AlignmentOutcome:
            shown = alignment_reports.shown(data.pairs, data.scored)
            links, posteriors = {}, {}
            for pair in aligned(shown.union(*data.scored.values())):
                links[pair.row] = _links(pair.links)
                if pair.row in shown:
                    posteriors[pair.row] = pair.posteriors
            metrics: Metrics = {}
            for part in data.scored:
                metrics |= _scores(part, data, links)
            segments = None
            if data.scored:
                part = held_out_part(data.scored)
                pairs = [data.pairs[row] for row in data.scored[part]]
                predicted = [links.get(row, set()) for row in data.scored[part]]
                segments = segment_statistics.of_links(part, pairs, predicted, data.tokens)
            return AlignmentOutcome(metrics=metrics, segments=segments, links=links, posteriors=posteriors, align=align)

        return Evaluator(dev=dev, held_out=held_out)

    def _aligner(self, model: keras.Model, co_occurrence: CoOccurrence) -> Aligner:
        """Return a function that takes the index of a batch and yields its aligned pairs."""
        method, threshold = self.config.model.symmetrization, self.config.model.threshold

        @tf.function(reduce_retracing=True, autograph=False)
        def align(batch: Any) -> Any:
            directed = DirectedBatch(batch, model.sizes)
            forward, reverse = map(directed.dense, model(batch))
            links = symmetrize(forward, reverse, method, threshold)
            lengths = directed.source_lengths, directed.target_lengths
            return *lengths, (forward + reverse) / 2.0, links, pharaoh(links)

        def aligned(number: int) -> Iterator[AlignedPair]:
            termination.check()
            batch = {name: tf.convert_to_tensor(values) for name, values in co_occurrence.batches[number].items()}
            answers = (values.numpy() for values in align(batch))
            for row, source, target, posteriors, links, text in zip(co_occurrence.rows(number), *answers, strict=True):
                inside = slice(source), slice(target)
                yield AlignedPair(int(row), posteriors[inside], links[inside], text.decode())

        return aligned

    def _all_aligned(self, align: Aligner, encoded: EncodedBitext) -> Iterator[tuple[np.ndarray | None, str]]:
        """Yield the posteriors and the links as text of every pair, in the order of the files.

        None and an empty text for pairs that were left out.
        """
        done = 0
        for batches in encoded.co_occurrence.chunks:
            found = {pair.row: (pair.posteriors, pair.text) for number in batches for pair in align(number)}
            for row in range(done, max(found) + 1):
                yield found.get(row, (None, ""))
            done = max(found) + 1
        for _ in range(done, encoded.data.tokens.count):
            yield None, ""

    def report(
        self,
        folder: Path,
        model: keras.Model,
        encoded: EncodedBitext,
        outcome: AlignmentOutcome,
        diagnosis: Mapping[str, Any] | None = None,
    ) -> None:
        """Write alignments, both lexicons and a picture of grids."""
        del diagnosis
        settings, pairs = self.config.report, encoded.data.pairs
        folder.mkdir(parents=True, exist_ok=True)
        soft = folder / "posteriors.npz" if settings.posteriors else None
        alignment_reports.write_alignments(folder / "alignments.txt", self._all_aligned(outcome.align, encoded), soft)
        for direction, name in enumerate(("forward", "reverse")):
            alignment_reports.write_lexicon(
                folder / f"lexicon.{name}.tsv",
                model.directions[direction][0],
                encoded.co_occurrence.words,
                encoded.vocabularies,
                direction,
                settings.lexicon_cutoff,
            )
        shown = sorted(outcome.posteriors)
        grids = [(pairs[row], outcome.posteriors[row], outcome.links[row]) for row in shown]
        if grids:
            alignment_reports.draw_grids(folder / "grids.png", grids)

    # Exporting

    def package(self, model: keras.Model, encoded: EncodedBitext) -> Package:
        """Return the aligner with its signature."""
        settings, pairs, longest = self.config.model, encoded.data.pairs.values(), self.config.data.max_length
        unknown = UNKNOWN_WORD.encode() if self.config.text.max_words else None
        short = (pair for pair in pairs if max(map(len, pair[:2])) <= longest)
        texts = [(" ".join(pair.source), " ".join(pair.target)) for pair in islice(short, EXAMPLES)]
        example = min(islice(pairs, 200), key=lambda pair: abs(len(pair.source) - 7))
        request = {"source": " ".join(example.source), "target": " ".join(example.target)}
        sizes = dict(zip(("source", "target"), map(len, encoded.vocabularies), strict=True))
        return Package(
            module=AlignerModule(
                model,
                encoded.vocabularies,
                encoded.levels,
                encoded.co_occurrence.words,
                self.config.text.case,
                settings.symmetrization,
                settings.threshold,
                unknown,
            ),
            texts=sample_across_lengths(texts, size=lambda pair: sum(map(len, pair))),
            facts={"vocabulary": sizes},
            example="{source} ||| {target}".format(**request).replace('"', ""),
            request=request,
            response={"alignment": "string"},
        )


def _add(
    bitext: Iterator[SentencePair], tokens: TokenPairs, pairs: dict[int, SentencePair], has_gold: bool
) -> list[int]:
    """Add the pairs of a part to those before; return the rows of those with gold alignments that are scored."""
    rows = []
    for row, pair in enumerate(bitext, tokens.count):
        gold = has_gold and pair.sure is not None and all(pair[:2])
        if gold:
            rows.append(row)
        kept = tokens.add(pair.source, pair.target)
        if gold or (kept and len(pairs) < EXAMPLES):
            pairs[row] = pair if gold else pair._replace(sure=None, possible=None)
    return rows


def _level(name: str, vocabularies: Sequence[np.ndarray], co_occurrence: CoOccurrence) -> BackoffLevel:
    """Return the classes that an attribute puts words into."""
    try:
        parsed = parse([name])
    except ValueError as error:
        raise InputError(f"model.backoff.classes: {error}") from None
    if parsed.singles != ((0, 0),):
        raise InputError(f"model.backoff.classes: {name!r} must be one attribute, such as prefix4")
    values = [attribute(name, tf.constant(words)).numpy() for words in vocabularies]
    names, classes = zip(*(np.unique(side, return_inverse=True) for side in values), strict=True)
    pairs = co_occurrence.class_pairs(*(side.astype(np.int32) for side in classes))
    return BackoffLevel(name, pairs, names[0].tolist(), names[1].tolist())


def _links(links: np.ndarray) -> Links:
    """Return links `{(source, target), …}` of booleans `(source, target)`."""
    return {(source, target) for source, target in np.argwhere(links).tolist()}


def _scores(part: str, data: BitextData, predicted: Mapping[int, Links]) -> Metrics:
    scores = link_scores(*_compared(part, data, predicted))
    return {f"{part}/{name}": value for name, value in scores.items()}


def _compared(part: str, data: BitextData, predicted: Mapping[int, Links]) -> tuple[list[Set[Any]], ...]:
    """Return the predicted, sure and possible links of the pairs with gold alignments."""
    rows = data.scored[part]
    return (
        [predicted.get(row, set()) for row in rows],
        [data.pairs[row].sure or frozenset() for row in rows],
        [data.pairs[row].possible or frozenset() for row in rows],
    )
