"""Alignments, lexicons and pictures of a word aligner, in the run's `reports/` and in MLflow."""

import contextlib
import csv
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from trellis.components.alignment import soft_alignments
from trellis.components.alignment.co_occurrence import ClassPairs
from trellis.components.readers.bitext import SentencePair
from trellis.pipelines.pictures import figure

GRIDS = 6  # sentence pairs in the picture
WIDEST = 24  # words of a sentence in it

Grid = tuple[SentencePair, np.ndarray, set[tuple[int, int]]]  # pair, posteriors (source, target), links


def shown(pairs: Mapping[int, SentencePair], scored: Mapping[str, Sequence[int]]) -> set[int]:
    """Return the rows of a few pairs for the picture, of those with gold alignments if there are any."""
    gold = [row for rows in scored.values() for row in rows]
    fit = [row for row in gold or pairs if 4 <= max(map(len, pairs[row][:2])) <= WIDEST]
    return set(fit[:: max(1, len(fit) // GRIDS)][:GRIDS])


def write_alignments(path: Path, aligned: Iterable[tuple[np.ndarray | None, str]], soft: Path | None = None) -> None:
    """Write the links of every sentence pair, as `0-0 1-2`, one line per pair in the order of the files.

    Args:
        aligned: posteriors and links of each pair; None and an empty line for pairs that were left out.
        soft: a file for the posteriors too, which `trellis.components.alignment.soft_alignments` reads.
    """
    writer = contextlib.nullcontext() if soft is None else soft_alignments.writer(soft)
    with open(path, "w", encoding="utf-8") as lines, writer as add:
        for posteriors, line in aligned:
            lines.write(f"{line}\n")
            if add is not None:
                add(posteriors)


def write_lexicon(
    path: Path,
    lexicon: keras.layers.Layer,
    words: ClassPairs,
    vocabularies: Sequence[Sequence[bytes]],
    direction: int,
    cutoff: float,
) -> None:
    """Write word, translation, probability and expected count: words by frequency, translations by probability.

    Args:
        lexicon: an `IBM1` layer.
        direction: 0 for source words that generate target words, 1 for the reverse.
        cutoff: leave out translations that are less probable.
    """
    table, counts = lexicon.translations.numpy(), lexicon.pair_counts.numpy()
    given, generated = (words.source, words.target) if direction == 0 else (words.target, words.source)
    frequency = (words.source_count, words.target_count)[direction]
    kept = np.flatnonzero(table >= cutoff)
    order = kept[np.lexsort((-table[kept], given[kept], -frequency[given[kept]]))]
    sides = vocabularies[direction], vocabularies[1 - direction]
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        rows.writerow(("word", "translation", "probability", "count"))
        for pair in order:
            word, translation = sides[0][given[pair]].decode(), sides[1][generated[pair]].decode()
            rows.writerow((word, translation, f"{table[pair]:.4f}", f"{counts[pair]:.2f}"))


def draw_grids(path: Path, grids: Sequence[Grid]) -> None:
    """Draw posteriors as shades, predicted links as squares, and gold links as dots, hollow where only possible."""
    columns = min(3, len(grids))
    rows = -(-len(grids) // columns)
    picture, axes = figure(rows, columns, (5.5 * columns, 5.0 * rows))
    axes = np.atleast_1d(axes).ravel()
    for axis in axes[len(grids) :]:
        axis.axis("off")
    for axis, (pair, posteriors, links) in zip(axes, grids, strict=False):
        axis.imshow(posteriors.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, j in links:
            axis.plot(i, j, marker="s", markersize=11, fillstyle="none", color="#d95f02")
        for i, j in pair.possible or ():
            filled = "full" if (i, j) in (pair.sure or ()) else "none"
            axis.plot(i, j, marker="o", markersize=4, fillstyle=filled, color="black")
        axis.set_xticks(range(len(pair.source)), pair.source, rotation=90, fontsize=7)
        axis.set_yticks(range(len(pair.target)), pair.target, fontsize=7)
        axis.set_xlabel("source", fontsize=8)
        axis.set_ylabel("target", fontsize=8)
    picture.suptitle("shade: posterior, square: predicted, dot: gold (hollow: possible)", fontsize=9)
    with warnings.catch_warnings():
        # Scripts that no installed font covers.
        warnings.filterwarnings("ignore", "Glyph")
        picture.savefig(path, dpi=110)
