"""Texts with one label each: `label ||| text` lines, TSV or CSV with a header, or one file or folder per class."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trellis.components.errors import InputError, nearest
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.types import FilePath


class Labelled(NamedTuple):
    """A text as written, and its class."""

    text: str
    label: str


def read(path: FilePath, text: str = "text", label: str = "label") -> list[Labelled]:
    """Read the examples of a file. Its name tells the format: `.tsv` or `.csv` (with or without `.gz`), else bars.

    Args:
        path: the file.
        text: the name of the text column of a table, as in its first line.
        label: the name of the label column.

    Raises:
        InputError: a line has another form (names the file and line), or the table has no such column.
    """
    suffix = "".join(Path(path).suffixes[-2:]).removesuffix(".gz")[-4:]
    if suffix not in (".tsv", ".csv"):
        return _read_bars(path)
    return _read_table(path, _tsv_rows(path) if suffix == ".tsv" else _csv_rows(path), text, label)


def _read_bars(path: FilePath) -> list[Labelled]:
    examples = []
    for line_number, line in read_lines(path):
        if is_blank(line):
            continue
        label, bars, text = line.partition("|||")
        if not bars or not label.strip():
            raise InputError(f"{path}:{line_number}: expected label ||| text")
        examples.append(Labelled(text.strip(" "), label.strip(" ")))
    return examples


def _tsv_rows(path: FilePath) -> Iterator[tuple[int, list[str]]]:
    return ((line_number, line.split("\t")) for line_number, line in read_lines(path) if not is_blank(line))


def _csv_rows(path: FilePath) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(line + "\n" for _, line in read_lines(path))
    return ((reader.line_num, row) for row in reader if row)


def _read_table(path: FilePath, rows: Iterator[tuple[int, list[str]]], text: str, label: str) -> list[Labelled]:
    _, header = next(rows, (0, []))
    for name in (text, label):
        if name not in header:
            raise InputError(f"{path}: no column {name!r} in its first line; it has {', '.join(header) or 'none'}")
    text_index, label_index = header.index(text), header.index(label)
    examples = []
    for line_number, row in rows:
        if len(row) != len(header):
            raise InputError(f"{path}:{line_number}: {len(row)} columns, expected {len(header)} (as in line 1)")
        if not row[label_index].strip():
            raise InputError(f"{path}:{line_number}: no label")
        examples.append(Labelled(row[text_index].rstrip("\n"), row[label_index].strip()))
    return examples


def read_classes(files: Mapping[str, FilePath]) -> list[Labelled]:
    """Read the examples of `{class: file or folder}`: one per line of a file, or one per file of a folder."""
    examples = []
    for label, path in files.items():
        if Path(path).is_dir():
            for file in sorted(Path(path).rglob("*.txt*")):
                text = "\n".join(line for _, line in read_lines(file))
                examples.append(Labelled(text, label))
        else:
            examples += [Labelled(line.strip(" "), label) for _, line in read_lines(path) if not is_blank(line)]
    return examples


def classes_of(folder: FilePath) -> dict[str, Path]:
    """Return `{class: file or folder}` of a folder that has one for each class.

    Raises:
        InputError: the folder has fewer than two of them.
    """
    folder = Path(folder)
    classes = {
        entry.name: entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")
    }
    classes = classes or {file.name.split(".")[0]: file for file in sorted(folder.glob("*.txt*"))}
    if len(classes) < 2:
        raise InputError(
            f"{folder}: neither train, dev and test files nor a file or folder for each of several classes"
        )
    return classes


def divide(examples: Sequence[Labelled], shares: Mapping[str, float], seed: int) -> dict[str, list[Labelled]]:
    """Divide examples into parts at random, with the same shares of every class.

    Args:
        examples: the examples.
        shares: `{part: share}`, which add up to 1; the first part is the training part.
        seed: determines the parts.

    Returns:
        `{part: examples}`, in their original order.

    Raises:
        InputError: a class has a single example, which cannot be both learned and scored.
    """
    rows_of: dict[str, list[int]] = {}
    for row, example in enumerate(examples):
        rows_of.setdefault(example.label, []).append(row)
    rng = np.random.default_rng(seed)
    chosen: dict[str, list[int]] = {part: [] for part in shares}
    bounds = np.cumsum([0, *shares.values()])
    for label, rows in sorted(rows_of.items()):
        if len(rows) < 2:
            raise InputError(f"class {label!r} has one example; at least two are needed to learn and to score it")
        shuffled = rng.permutation(rows)
        ends = np.round(bounds * len(rows)).astype(int)
        # The training part gets at least one.
        ends[1] = max(ends[1], 1)
        for part, start, end in zip(shares, ends[:-1], ends[1:], strict=True):
            chosen[part] += shuffled[start : max(end, start)].tolist()
    return {part: [examples[row] for row in sorted(part_rows)] for part, part_rows in chosen.items()}


def check_labels(parts: Mapping[str, Sequence[Labelled]], source: str) -> None:
    """Check that training has several labels, and that it has every label of the other parts.

    Args:
        parts: `{part: examples}`.
        source: the name of the data, for the message.

    Raises:
        InputError: there is nothing to tell apart, or a label was never seen in training.
    """
    known = {example.label for example in parts["train"]}
    if len(known) < 2:
        raise InputError(f"{source}: every example has the label {next(iter(known), None)!r}; nothing to learn")
    for part, examples in parts.items():
        for example in examples:
            if example.label not in known:
                raise InputError(
                    f"{part} part: label {example.label!r} is not in train; "
                    f"did you mean {nearest(example.label, known)}?"
                )
