"""Bitexts: sentence pairs in two line-parallel files, in one file with bars, or in columns; with or without gold links.

Readers yield one `SentencePair` at a time, so a bitext need not fit into memory. Tokens are split at the ASCII space
alone: a token may hold U+00A0 or U+3000, and gold links count tokens that way.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from trellis.components.errors import InputError, quoted
from trellis.components.readers.lines import read_lines
from trellis.components.types import FilePath, Link

log = logging.getLogger(__name__)

_LINK = re.compile(r"([0-9]+)([-p?])([0-9]+)")


class SentencePair(NamedTuple):
    """A sentence and its translation.

    Attributes:
        source: tokens of the source sentence.
        target: tokens of the target sentence.
        sure: the sure gold links, `(source, target)` positions from 0; None without gold.
        possible: the possible gold links, which include the sure ones; None without gold.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    sure: frozenset[Link] | None = None
    possible: frozenset[Link] | None = None


class _Row(NamedTuple):
    """A line number, the text of both sides, and the fields with gold links."""

    line_number: int
    source: str
    target: str
    links: Sequence[str]


def read_parallel(
    source: FilePath,
    target: FilePath,
    sure: FilePath | None = None,
    possible: FilePath | None = None,
    naacl: FilePath | None = None,
    first: int = 0,
    swapped: bool = False,
    strict: bool = False,
    keep_empty: bool = False,
) -> Iterator[SentencePair]:
    """Yield the pairs of two files with one sentence per line; gold links are in one or two further files.

    Args:
        source: file of source sentences.
        target: file of target sentences.
        sure: file of sure gold links, one line per pair.
        possible: file of possible gold links, one line per pair.
        naacl: instead, a file of gold links in the NAACL-2003 format, `sentence source target [S|P]`, all from 1.
        first: the position of the first word in links; 1 with `naacl`.
        swapped: whether links are written `target-source`.
        strict: raise an error for empty sides and for links outside their sentences, rather than skipping them.
        keep_empty: yield pairs with an empty side too, without links, so that pairs are counted as lines are.

    Raises:
        InputError: the files differ in their numbers of lines, a link cannot be parsed, or `strict` rejects a line.
    """
    if naacl:
        return _pairs(
            source,
            _rows_with_naacl(source, target, naacl),
            ("gold",),
            f"{naacl}:sentence",
            1,
            swapped,
            strict,
            keep_empty,
        )
    gold = {kind: path for kind, path in (("sure", sure), ("possible", possible)) if path is not None}
    rows = (
        _Row(line_number, source_text, target_text, links)
        for line_number, (source_text, target_text, *links) in _parallel_lines(source, target, *gold.values())
    )
    return _pairs(source, rows, tuple(gold), sure or source, first, swapped, strict, keep_empty)


def read_bars(
    path: FilePath,
    gold: FilePath | None = None,
    separator: str = "|||",
    first: int = 0,
    swapped: bool = False,
    strict: bool = False,
    keep_empty: bool = False,
) -> Iterator[SentencePair]:
    """Yield the pairs of a file with `source ||| target` lines; gold links are in another file, one line per pair.

    Args:
        path: the file of sentence pairs.
        gold: the file of gold links.
        separator: what separates the two sides of a line.
        first: the position of the first word in links.
        swapped: whether links are written `target-source`.
        strict: raise an error for empty sides and for links outside their sentences, rather than skipping them.
        keep_empty: yield pairs with an empty side too, without links, so that pairs are counted as lines are.

    Raises:
        InputError: a line does not have exactly one separator (names the file and line), the files differ in their
            numbers of lines, a link cannot be parsed, or `strict` rejects a line.
    """
    files = [path] if gold is None else [path, gold]

    def rows() -> Iterator[_Row]:
        for line_number, (line, *links) in _parallel_lines(*files):
            sides = line.split(separator)
            if len(sides) != 2:
                raise InputError(
                    f"{path}:{line_number}: {len(sides) - 1} × {separator}, expected source {separator} target"
                )
            yield _Row(line_number, sides[0], sides[1], links)

    return _pairs(path, rows(), () if gold is None else ("gold",), files[-1], first, swapped, strict, keep_empty)


def read_columns(
    path: FilePath,
    source_column: int = 0,
    target_column: int = 1,
    gold_column: int | None = None,
    first: int = 0,
    swapped: bool = False,
    strict: bool = False,
    keep_empty: bool = False,
) -> Iterator[SentencePair]:
    """Yield the pairs of a file with tab-separated columns.

    Args:
        path: the file.
        source_column: index of the column of source sentences, from 0.
        target_column: index of the column of target sentences.
        gold_column: index of the column of gold links; None without gold.
        first: the position of the first word in links.
        swapped: whether links are written `target-source`.
        strict: raise an error for empty sides and for links outside their sentences, rather than skipping them.
        keep_empty: yield pairs with an empty side too, without links, so that pairs are counted as lines are.

    Raises:
        InputError: a line has too few columns (names the file and line), a link cannot be parsed, or `strict` rejects
            a line.
    """
    last_column = max(source_column, target_column, gold_column or 0)

    def rows() -> Iterator[_Row]:
        for line_number, line in read_lines(path):
            fields = line.split("\t")
            if len(fields) <= last_column:
                raise InputError(f"{path}:{line_number}: {len(fields)} columns, expected at least {last_column + 1}")
            links = () if gold_column is None else (fields[gold_column],)
            yield _Row(line_number, fields[source_column], fields[target_column], links)

    return _pairs(path, rows(), () if gold_column is None else ("gold",), path, first, swapped, strict, keep_empty)


def _parallel_lines(*paths: FilePath) -> Iterator[tuple[int, list[str]]]:
    """Yield `(line number, line of each file)`.

    Raises:
        InputError: the files differ in their numbers of lines.
    """
    count = [0] * len(paths)
    for numbered_lines in zip_longest(*map(read_lines, paths)):
        lines = [numbered_line[1] for numbered_line in numbered_lines if numbered_line is not None]
        for index, numbered_line in enumerate(numbered_lines):
            count[index] += numbered_line is not None
        if len(lines) == len(paths):
            yield count[0], lines
    for path, lines_of_path in zip(paths, count, strict=True):
        if lines_of_path != count[0]:
            raise InputError(f"{paths[0]} has {count[0]} lines, {path} has {lines_of_path}")


def _rows_with_naacl(source: FilePath, target: FilePath, naacl: FilePath) -> Iterator[_Row]:
    """Yield the rows of two files with the links of a file in the NAACL-2003 format."""
    links, line_numbers = _read_naacl(naacl)
    last = 0
    for last, (source_text, target_text) in _parallel_lines(source, target):
        yield _Row(last, source_text, target_text, [links.get(last, "")])
    for sentence, line_number in line_numbers.items():
        if not 1 <= sentence <= last:
            raise InputError(f"{naacl}:{line_number}: sentence {sentence}, but there are {last}")


def _read_naacl(path: FilePath) -> tuple[dict[int, str], dict[int, int]]:
    """Read links in the NAACL-2003 format, `sentence source target [S|P]`.

    Returns:
        the links of each sentence as text, by its number; and the line that each sentence was last mentioned in.
    """
    links: dict[int, str] = {}
    line_numbers = {}
    for line_number, line in read_lines(path):
        fields = line.split()
        if not fields:
            continue
        if not (3 <= len(fields) <= 5 and all(field.isdigit() for field in fields[:3])):
            raise InputError(f"{path}:{line_number}: expected 'sentence source target S|P'")
        sentence, source, target = map(int, fields[:3])
        sign = "p" if fields[3:] and fields[3] == "P" else "-"
        links[sentence] = f"{links.get(sentence, '')} {source}{sign}{target}"
        line_numbers[sentence] = line_number
    return links, line_numbers


def _pairs(
    path: FilePath,
    rows: Iterable[_Row],
    kinds: Sequence[str],
    gold_path: FilePath,
    first: int,
    swapped: bool,
    strict: bool,
    keep_empty: bool,
) -> Iterator[SentencePair]:
    """Yield the sentence pairs of rows.

    Args:
        path: the file of sentences, for messages.
        rows: the lines.
        kinds: what each field of links holds: `sure`, `possible`, or `gold`, in which `p` or `?` in place of `-` marks
            a possible link.
        gold_path: the file of gold links, for messages.
        first: the position of the first word in links.
        swapped: whether links are written `target-source`.
        strict: raise an error for empty sides and for links outside their sentences, rather than skipping them.
        keep_empty: yield pairs with an empty side too, without links.

    Raises:
        InputError: a link cannot be parsed, or `strict` rejects a line; names the file and line.
    """
    empty = 0
    outside: list[str] = []
    words: dict[str, str] = {}  # interns words: a string object for every token would fill the memory with copies
    for row in rows:
        source, target = (
            tuple(words.setdefault(word, word) for word in side.split(" ") if word) for side in (row.source, row.target)
        )
        if not (source and target):
            if strict:
                raise InputError(f"{path}:{row.line_number}: the {'target' if source else 'source'} side is empty")
            empty += 1
            if keep_empty:
                yield SentencePair(source, target)
            continue
        links: dict[bool, set[Link]] = {True: set(), False: set()}  # by whether they are sure
        for kind, field in zip(kinds, row.links, strict=True):
            for text in field.split():
                link, sure = _parse_link(text, f"{gold_path}:{row.line_number}", first, swapped)
                if not (0 <= link[0] < len(source) and 0 <= link[1] < len(target)):
                    message = f"{gold_path}:{row.line_number}: link {text[:60]} is outside its sentences"
                    if strict:
                        raise InputError(f"{message} ({len(source)} and {len(target)} words)")
                    outside.append(message)
                    continue
                links[kind == "sure" or (kind == "gold" and sure)].add(link)
        if kinds:
            yield SentencePair(source, target, frozenset(links[True]), frozenset(links[True] | links[False]))
        else:
            yield SentencePair(source, target)
    if empty:
        log.warning("%s: skipped %d sentence pairs with an empty side", path, empty)
    if outside:
        more = f" (and {len(outside) - 1} more)" if len(outside) > 1 else ""
        log.warning("%s; skipped%s", outside[0], more)


def _parse_link(text: str, where: str, first: int, swapped: bool) -> tuple[Link, bool]:
    """Return a link, and whether it is sure."""
    match = _LINK.fullmatch(text)
    if not match:
        raise InputError(f"{where}: {quoted(text)} is not a link such as 3-4, or 3p4 for a possible one")
    i, j = int(match[1]) - first, int(match[3]) - first
    return ((j, i) if swapped else (i, j)), match[2] == "-"
