"""Texts with one label each: `label ||| text` lines, TSV or CSV with a header, or a file or folder for each class."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trellis.components.errors import InputError, nearest
from trellis.components.readers.lines import is_blank, read_lines


class Labelled(NamedTuple):
    """A text as it is written, and its class."""

    text: str
    label: str


def read(path, text="text", label="label"):
    """Examples of one file; its name tells the format: `.tsv`, `.csv` (each with or without `.gz`), else bars.

    Args:
        text, label: names of the columns of a table, as its first line gives them.

    Raises:
        InputError: `file:line` of what is not of that form, or the columns that the file has instead.
    """
    suffix = "".join(Path(path).suffixes[-2:]).removesuffix(".gz")[-4:]
    if suffix not in (".tsv", ".csv"):
        return _bars(path)
    return _table(path, suffix, text, label)


def _bars(path):
    examples = []
    for number, line in read_lines(path):
        if is_blank(line):
            continue
        label, found, text = line.partition("|||")
        if not found or not label.strip():
            raise InputError(f"{path}:{number}: expected label ||| text")
        examples.append(Labelled(text.strip(" "), label.strip(" ")))
    return examples


def _table(path, suffix, text, label):
    if suffix == ".tsv":
        rows = ((number, line.split("\t")) for number, line in read_lines(path) if not is_blank(line))
    else:
        reader = csv.reader(line + "\n" for _, line in read_lines(path))
        rows = ((reader.line_num, row) for row in reader if row)
    header = next(rows, (0, []))[1]
    for name in (text, label):
        if name not in header:
            raise InputError(f"{path}: no column {name!r} in its first line; it has {', '.join(header) or 'none'}")
    at_text, at_label = header.index(text), header.index(label)
    examples = []
    for number, row in rows:
        if len(row) != len(header):
            raise InputError(f"{path}:{number}: {len(row)} columns, expected {len(header)} (as in line 1)")
        if not row[at_label].strip():
            raise InputError(f"{path}:{number}: no label")
        examples.append(Labelled(row[at_text].rstrip("\n"), row[at_label].strip()))
    return examples


def read_classes(files):
    """Examples of `{class: file or folder}`: each line of a file, or each file of a folder, is one."""
    examples = []
    for label, path in files.items():
        if Path(path).is_dir():
            for file in sorted(Path(path).rglob("*.txt*")):
                text = "\n".join(line for _, line in read_lines(file))
                examples.append(Labelled(text, label))
        else:
            examples += [Labelled(line.strip(" "), label) for _, line in read_lines(path) if not is_blank(line)]
    return examples


def classes_of(folder):
    """`{class: file or folder}` of a folder that has one for each."""
    folder = Path(folder)
    found = {each.name: each for each in sorted(folder.iterdir()) if each.is_dir() and not each.name.startswith(".")}
    found = found or {each.name.split(".")[0]: each for each in sorted(folder.glob("*.txt*"))}
    if len(found) < 2:
        raise InputError(
            f"{folder}: neither train, dev and test files nor a file or folder for each of several classes"
        )
    return found


def divide(examples, shares, seed):
    """Parts of examples in which every class has its share, drawn by the seed alone.

    Args:
        shares: `{part: share}`, which add up to 1.

    Raises:
        InputError: a class has a single example, which cannot be both learned and asked.
    """
    rows_of = {}
    for row, example in enumerate(examples):
        rows_of.setdefault(example.label, []).append(row)
    rng, chosen = np.random.default_rng(seed), {part: [] for part in shares}
    bounds = np.cumsum([0, *shares.values()])
    for label, rows in sorted(rows_of.items()):
        if len(rows) < 2:
            raise InputError(f"class {label!r} has one example; at least two are needed to learn and to score it")
        rows = rng.permutation(rows)
        ends = np.round(bounds * len(rows)).astype(int)
        # Training gets one at least.
        ends[1] = max(ends[1], 1)
        for part, first, end in zip(shares, ends, ends[1:], strict=False):
            chosen[part] += rows[first : max(end, first)].tolist()
    return {part: [examples[row] for row in sorted(rows)] for part, rows in chosen.items()}


def check_labels(parts, files):
    """Raises InputError where a part has labels that training lacks, or there is nothing to tell apart."""
    known = {example.label for example in parts["train"]}
    if len(known) < 2:
        raise InputError(f"{files}: every example has the label {next(iter(known), None)!r}; nothing to learn")
    for part, examples in parts.items():
        for example in examples:
            if example.label not in known:
                raise InputError(
                    f"{part} part: label {example.label!r} is not in train; "
                    f"did you mean {nearest(example.label, known)}?"
                )
