"""Alignments, lexicons and pictures of a word aligner: for reading in MLflow or in the run's `reports/`."""

import contextlib
import csv
import warnings

import numpy as np

from trellis.components.alignment import soft_alignments
from trellis.pipelines.pictures import figure

GRIDS = 6  # sentence pairs in the picture
WIDEST = 24  # words of a sentence in it


def write(folder, task):
    """Writes the reports of a `trellis.pipelines.alignment.Alignment` to a folder and returns it.

    `alignments.txt`: links of every sentence pair, as `0-0 1-2`, a line a pair in the order of the files; empty for
    pairs that were left out. `lexicon.forward.tsv` and `lexicon.reverse.tsv`: word, translation, probability, expected
    count; `grids.png`; and with `report.posteriors` the file that `trellis.components.alignment.soft_alignments` reads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = task.config.report.posteriors
    soft = soft_alignments.writer(folder / "posteriors.npz") if wanted else contextlib.nullcontext()
    with open(folder / "alignments.txt", "w", encoding="utf-8") as lines, soft as add:
        for posteriors, line in task.aligned():
            lines.write(f"{line}\n")
            if wanted:
                add(posteriors)
    for number, name in enumerate(("forward", "reverse")):
        _lexicon(folder / f"lexicon.{name}.tsv", task, number, task.config.report.lexicon_cutoff)
    grids = [(task.pairs[row], task.posteriors[row], task.links[row]) for row in sorted(shown(task) & set(task.links))]
    if grids:
        _grids(folder / "grids.png", grids)
    return folder


def shown(task):
    """Numbers of a few pairs for the picture, of those with gold alignments if there are any."""
    gold = [row for rows in task.scored.values() for row in rows]
    fit = [row for row in gold or task.pairs if 4 <= max(map(len, task.pairs[row][:2])) <= WIDEST]
    return set(fit[:: max(1, len(fit) // GRIDS)][:GRIDS])


def _lexicon(path, task, direction, cutoff):
    """Words by frequency, the translations of each by probability."""
    words = task.grid.words
    lexicon = task.model.directions[direction][0]
    table, counts = lexicon.translations.numpy(), lexicon.pair_counts.numpy()
    given, generated = (words.source, words.target) if direction == 0 else (words.target, words.source)
    frequency = (words.source_count, words.target_count)[direction]
    kept = np.flatnonzero(table >= cutoff)
    order = kept[np.lexsort((-table[kept], given[kept], -frequency[given[kept]]))]
    vocabulary = task.vocabularies[direction], task.vocabularies[1 - direction]
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        rows.writerow(("word", "translation", "probability", "count"))
        for number in order:
            word, translation = vocabulary[0][given[number]].decode(), vocabulary[1][generated[number]].decode()
            rows.writerow((word, translation, f"{table[number]:.4f}", f"{counts[number]:.2f}"))


def _grids(path, grids):
    """Posteriors as shades; predicted links as squares; gold ones as dots, hollow where only possible."""
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
            hollow = "full" if (i, j) in pair.sure else "none"
            axis.plot(i, j, marker="o", markersize=4, fillstyle=hollow, color="black")
        axis.set_xticks(range(len(pair.source)), pair.source, rotation=90, fontsize=7)
        axis.set_yticks(range(len(pair.target)), pair.target, fontsize=7)
    picture.suptitle("shade: posterior, square: predicted, dot: gold (hollow: possible)", fontsize=9)
    with warnings.catch_warnings():
        # Of scripts that no font here has.
        warnings.filterwarnings("ignore", "Glyph")
        picture.savefig(path, dpi=110)
