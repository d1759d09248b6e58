"""Reports of a translator: translations with their references, and pictures of attention."""

import csv
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trellis.pipelines.pictures import figure

_MOST_PIECES = 30  # of a sentence whose attention is drawn


def write_translations(path: Path, sources: Sequence[str], references: Sequence[str], found: Sequence[str]) -> None:
    """Write a table with the columns source, reference and translation, in the order of the files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, delimiter="\t", lineterminator="\n")
        rows.writerow(("source", "reference", "translation"))
        rows.writerows(zip(sources, references, found, strict=True))


def write_signatures(path: Path, signatures: Mapping[str, str]) -> None:
    """Write what defines each score, one line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\t{signature}\n" for name, signature in signatures.items()), encoding="utf-8")


def chosen(sources: Sequence[str], translations: Sequence[str], count: int) -> list[int]:
    """Return the rows whose attention is drawn: the first ones of a readable length."""
    rows = range(len(sources))
    readable = [row for row in rows if 4 <= len(sources[row].split()) <= 14 and translations[row]]
    return (readable or [row for row in rows if translations[row] and len(sources[row]) < 200])[:count]


def draw_attention(path: Path, sources: np.ndarray, targets: np.ndarray, attention: np.ndarray) -> None:
    """Draw which source pieces were attended to when each target piece was generated.

    Args:
        sources: `(sentences, source)` pieces as bytes, padded with b"".
        targets: `(sentences, time)` pieces as bytes, padded with b"".
        attention: `(sentences, time, source)`.
    """
    columns = min(3, len(sources))
    picture, axes = figure(-(-len(sources) // columns), columns, (5.5 * columns, 5.0 * -(-len(sources) // columns)))
    axes = np.atleast_1d(axes).ravel()
    for axis in axes[len(sources) :]:
        axis.axis("off")
    for axis, source, target, weights in zip(axes, sources, targets, attention, strict=False):
        read, written = ([piece.decode() for piece in side if piece][:_MOST_PIECES] for side in (source, target))
        axis.imshow(weights[: len(written), : len(read)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(read)), read, rotation=90, fontsize=7)
        axis.set_yticks(range(len(written)), written, fontsize=7)
        axis.set_xlabel("source", fontsize=8)
        axis.set_ylabel("translation", fontsize=8)
    picture.suptitle("shade: attention to each source piece when a piece of the translation was generated", fontsize=9)
    with warnings.catch_warnings():
        # Scripts that no installed font covers.
        warnings.filterwarnings("ignore", "Glyph")
        picture.savefig(path, dpi=110)
