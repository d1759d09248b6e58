"""Texts with one label each: `label ||| text` lines, TSV or CSV with a header, or one file or folder per class."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trellis.components.errors import InputError, nearest, quoted
from trellis.components.readers import dataset, parquet, tables
from trellis.components.readers.lines import is_blank, read_lines, within_budget
from trellis.components.readers.opening import suffix_of, without_compression
from trellis.components.readers.parquet import is_named_parquet
from trellis.components.readers.sources import Source, contents, files_of
from trellis.components.types import FilePath
from trellis.components.urls import is_url

log = logging.getLogger(__name__)


class Labelled(NamedTuple):
    """A text as written, and its class."""

    text: str
    label: str


SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "bars": "|||"}
LABEL_COLUMN, TEXT_COLUMN = 0, 1  # of a table without a header
UNLABELLED = ("unsup", "unlabelled", "unlabeled")  # folders of published corpora that are no class


def read(
    path: FilePath,
    text: str | int = "text",
    label: str | int = "label",
    header: bool = True,
    separator: str | None = None,
    encoding: str = "utf-8",
    check: Callable[[str], object] | None = None,
) -> list[Labelled]:
    """Read the examples of a file. Its name tells the format: `.tsv`, `.csv` or `.parquet`, else bars.

    Args:
        path: the file.
        text: the text column of a table: its name in the first line; without a header its index from 0.
        label: the label column.
        header: whether the first line of a table names its columns; without one, the label comes first.
        separator: what separates columns, whatever the file's name says: `tab`, `comma` (both quoted as in CSV files
            but for tabs), `semicolon`, `bars`, or a character.
        encoding: of the file.
        check: raises a ValueError for a label of a table that cannot be; None: any can.

    Raises:
        InputError: a line has another form (names the file and line), or the table has no such column.
    """
    if is_named_parquet(path):
        return _read_table(path, iter(within_budget(path, parquet.rows(path))), text, label, True, check)
    character = SEPARATORS.get(separator or "", separator) or {".tsv": "\t", ".csv": ","}.get(suffix_of(path), "|||")
    character = "\t" if character == "\\t" else character
    if character == "|||":
        return _read_bars(path, encoding)
    if len(character) != 1:
        raise InputError(f"data.separator={separator}: must be {', '.join(SEPARATORS)}, or one character")
    rows = tables.tsv_rows(path, encoding) if character == "\t" else tables.csv_rows(path, encoding, character)
    return _read_table(path, rows, text, label, header, check)


def _read_bars(path: FilePath, encoding: str) -> list[Labelled]:
    examples = []
    for line_number, line in read_lines(path, encoding):
        if is_blank(line):
            continue
        label, bars, text = line.partition("|||")
        if not bars or not label.strip():
            hint = " (a table: data.separator=tab, and data.header=false if no line names its columns)"
            raise InputError(f"{path}:{line_number}: expected label ||| text" + ("\t" in line) * hint)
        examples.append(Labelled(text.strip(" "), label.strip(" ")))
    return examples


def _read_table(
    path: FilePath,
    rows: Iterator[tuple[int, list[str]]],
    text: str | int,
    label: str | int,
    header: bool,
    check: Callable[[str], object] | None,
) -> list[Labelled]:
    first_line, first = next(rows, (0, []))
    if header:
        for name in (text, label):
            if name not in first:
                raise InputError(
                    f"{path}: no column {name!r} in its first line; it has {tables.shown(first)} (data.columns "
                    "names them; data.header=false if no line does)"
                )
        indices = [first.index(str(name)) for name in (text, label)]
    else:
        indices = [
            TEXT_COLUMN if text == "text" else _index("text", text, len(first)),
            LABEL_COLUMN if label == "label" else _index("label", label, len(first)),
        ]
        rows = chain([(first_line, first)] if first else [], rows)
    examples = []
    for line_number, row in rows:
        if len(row) != len(first):
            raise InputError(
                f"{path}:{line_number}: {len(row)} columns, expected {len(first)} (as in line {first_line})"
            )
        text_field, label_field = (row[index] if index < len(row) else "" for index in indices)
        if not label_field.strip():
            raise InputError(f"{path}:{line_number}: no label")
        try:
            if check is not None:
                check(label_field)
        except ValueError as error:
            raise InputError(f"{path}:{line_number}: {error}") from None
        examples.append(Labelled(text_field.rstrip("\n"), label_field.strip()))
    return examples


def _index(key: str, column: str | int, width: int) -> int:
    if isinstance(column, bool) or not str(column).isdecimal() or int(column) >= max(width, 1):
        raise InputError(f"data.columns.{key}={column}: must be a number from 0 to {width - 1} with data.header=false")
    return int(column)


def read_classes(files: Mapping[str, Source], encoding: str = "utf-8") -> list[Labelled]:
    """Read the examples of `{class: files or folder}`: one per line of a file, or one per file of a folder.

    Raises:
        InputError: a folder has no files, or a file cannot be read.
    """
    examples = []
    for label, path in ((label, path) for label, source in files.items() for path in files_of(source)):
        if not is_url(path) and Path(path).is_dir():
            texts = [file for file in sorted(Path(path).rglob("*")) if file.is_file() and not file.name.startswith(".")]
            texts = [file for file in texts if _is_text(file)] or texts
            if not texts:
                raise InputError(f"{path}: no files in the folder of this class")
            for file in texts:
                text = "\n".join(line for _, line in read_lines(file, encoding))
                examples.append(Labelled(text, label))
        else:
            lines = read_lines(path, encoding)
            examples += [Labelled(line.strip(" "), label) for _, line in lines if not is_blank(line)]
    return examples


def _is_text(file: Path) -> bool:
    return suffix_of(file) == ".txt"


def classes_of(folder: FilePath) -> dict[str, Path]:
    """Return `{class: file or folder}` of a folder that has one for each class.

    Raises:
        InputError: the folder has fewer than two of them, or two for one class.
    """
    folder = Path(folder)
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    folders = [entry for entry in entries if entry.is_dir()]
    for entry in (entry for entry in folders if entry.name in UNLABELLED):
        log.warning("%s: left out; texts without a label", entry)
    classes = {entry.name: entry for entry in folders if entry.name not in UNLABELLED}
    if not classes:
        for file in (entry for entry in entries if _is_text(entry)):
            name = without_compression(file.name).removesuffix(".txt")
            if name in classes:
                raise InputError(f"{folder}: two files for the class {name}: {classes[name].name} and {file.name}")
            classes[name] = file
    if len(classes) < 2:
        raise InputError(
            f"{folder}: neither train, dev and test files nor a file or folder for each of several classes; "
            f"{contents(folder)}"
        )
    return classes


def parts_of(folder: FilePath) -> dict[str, Path]:
    """Return the folders of parts in a folder, `{"train": …, "test": …}`, each with a file or folder for each class."""
    folders = {entry.name.lower(): entry for entry in sorted(Path(folder).iterdir()) if entry.is_dir()}
    parts = {part: [folders[name] for name in folders if name in names] for part, names in dataset.USUAL_NAMES.items()}
    return {part: found[0] for part, found in parts.items() if found} if parts["train"] else {}


def divide(
    examples: Sequence[Labelled], shares: Mapping[str, float], seed: int, source: str = "the examples"
) -> dict[str, list[Labelled]]:
    """Divide examples into parts at random, with the same shares of every class.

    Args:
        examples: the examples.
        shares: `{part: share}`, which add up to 1; the first part is the training part.
        seed: determines the parts.
        source: the name of the examples, for messages.

    Returns:
        `{part: examples}`, in their original order, each part with about its share and at least one example.

    Raises:
        InputError: a class has a single example, which cannot be both learned and scored; or there are too few
            examples for the parts.
    """
    rows_of: dict[str, list[int]] = {}
    for row, example in enumerate(examples):
        rows_of.setdefault(example.label, []).append(row)
    rng = np.random.default_rng(seed)
    parts = list(shares)
    bounds = np.cumsum([0, *shares.values()])
    chosen: dict[str, dict[str, list[int]]] = {part: {} for part in parts}
    for label, rows in sorted(rows_of.items()):
        if len(rows) < 2:
            raise InputError(f"class {quoted(label)} has one example; at least two are needed to learn and to score it")
        shuffled = rng.permutation(rows)
        ends = np.round(bounds * len(rows)).astype(int)
        # The training part gets at least one.
        ends[1] = max(ends[1], 1)
        for part, start, end in zip(parts, ends[:-1], ends[1:], strict=True):
            chosen[part][label] = shuffled[start : max(end, start)].tolist()
    _balance(chosen, shares, source)
    return {part: [examples[row] for row in sorted(chain(*chosen[part].values()))] for part in parts}


def _balance(chosen: dict[str, dict[str, list[int]]], shares: Mapping[str, float], source: str) -> None:
    """Move examples to parts that have too few: the rounding of one class is small, that of many adds up.

    Args:
        chosen: `{part: {class: rows}}`, changed in place.
    """
    first = next(iter(shares))
    total = sum(len(rows) for classes in chosen.values() for rows in classes.values())

    def size(part: str) -> int:
        return sum(map(len, chosen[part].values()))

    def lacks(part: str) -> float:
        return shares[part] * total - size(part)

    def is_fair(part: str) -> bool:
        return size(part) > 0 and abs(lacks(part)) <= max(1.0, 0.1 * shares[part] * total)

    while not all(map(is_fair, shares)):
        taker = max(shares, key=lambda part: (size(part) == 0, lacks(part)))
        # A class needs two examples to be learned.
        givers = [
            (lacks(part), len(chosen[taker][label]) - len(rows), part, label)
            for part in shares
            for label, rows in chosen[part].items()
            if part != taker and size(part) > 1 and len(rows) > (2 if part == first else 0)
        ]
        if size(taker) and not any(lack < 0 and lacks(taker) - lack > 1 for lack, *_ in givers):
            return
        if not givers:
            raise InputError(
                f"{source}: {total} examples of {len(chosen[first])} classes are too few for {', '.join(shares)}; "
                "give the parts as files, or fewer parts: data.split={train: 0.7, dev: 0.3, test: null}"
            )
        *_, giver, label = min(givers)
        chosen[taker][label].append(chosen[giver][label].pop())


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
        raise InputError(f"{source}: every example has the label {quoted(next(iter(known), ''))}; nothing to learn")
    for part, examples in parts.items():
        for example in examples:
            if example.label not in known:
                raise InputError(
                    f"{part} part: label {quoted(example.label)} is not in train; "
                    f"did you mean {nearest(example.label[:60], {name[:60] for name in known})}?"
                )
