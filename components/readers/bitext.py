"""Bitexts: sentence pairs, in two line-parallel files, between bars, or in columns; with gold alignments or without.

Readers yield one `SentencePair` after the other, so a bitext need not fit into memory. Tokens are split at the ASCII
space alone: a token may hold U+00A0 or U+3000, and every gold link counts on it.
"""

import logging
import re
from itertools import zip_longest
from typing import NamedTuple

from trellis.components.errors import InputError
from trellis.components.readers.lines import read_lines

log = logging.getLogger(__name__)

_LINK = re.compile(r"([0-9]+)([-p?])([0-9]+)")


class SentencePair(NamedTuple):
    """Tokens of both sides. Links `(source, target)`, from 0; the possible ones hold the sure ones; None: no gold."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    sure: frozenset | None = None
    possible: frozenset | None = None


def read_parallel(source, target, sure=None, possible=None, naacl=None, **options):
    """Pairs of two files with a sentence a line each; gold alignments in one or two more.

    Args:
        source, target: paths.
        sure, possible: paths of gold links, a line a pair.
        naacl: or path of gold links in the NAACL-2003 format, `sentence source target [S|P]`, all from 1.
        options: see `_pairs`.

    Raises:
        InputError: the files differ in their numbers of lines.
    """
    texts, lines = _naacl(naacl) if naacl else ({}, {})
    given = {name: path for name, path in (("sure", sure), ("possible", possible)) if path is not None}

    def rows():
        last = 0
        for last, *fields in _together(source, target, *given.values()):
            yield last, *fields, *([texts.get(last, "")] if naacl else ())
        for sentence, line in lines.items():
            if not 1 <= sentence <= last:
                raise InputError(f"{naacl}:{line}: sentence {sentence}, but there are {last}")

    if naacl:
        return _pairs(source, rows(), ("gold",), f"{naacl}:sentence", **{**options, "first": 1})
    return _pairs(source, rows(), tuple(given), sure or source, **options)


def read_bars(path, gold=None, separator="|||", **options):
    """Pairs of a file with `source ||| target` lines, gold alignments in another, a line a pair.

    Raises:
        InputError: `file:line` without exactly one separator, or the files differ in their numbers of lines.
    """
    files = [path] if gold is None else [path, gold]

    def rows():
        for number, line, *links in _together(*files):
            sides = line.split(separator)
            if len(sides) != 2:
                raise InputError(f"{path}:{number}: {len(sides) - 1} × {separator}, expected source {separator} target")
            yield number, *sides, *links

    return _pairs(path, rows(), ("gold",) * (len(files) - 1), files[-1], **options)


def read_columns(path, source_column=0, target_column=1, gold_column=None, **options):
    """Pairs of a file with columns by tabs.

    Raises:
        InputError: `file:line` with too few columns.
    """
    columns = [each for each in (source_column, target_column, gold_column) if each is not None]

    def rows():
        for number, line in read_lines(path):
            fields = line.split("\t")
            if len(fields) <= max(columns):
                raise InputError(f"{path}:{number}: {len(fields)} columns, expected {max(columns) + 1} at least")
            yield number, *(fields[column] for column in columns)

    return _pairs(path, rows(), () if gold_column is None else ("gold",), path, **options)


def _together(*paths):
    """Yields `(number, line of each file…)`.

    Raises:
        InputError: the files differ in their numbers of lines.
    """
    count = dict.fromkeys(paths, 0)
    for together in zip_longest(*map(read_lines, paths)):
        for path, line in zip(paths, together, strict=True):
            count[path] += line is not None
        if None not in together:
            yield together[0][0], *(text for _, text in together)
    for path in paths[1:]:
        if count[path] != count[paths[0]]:
            raise InputError(f"{paths[0]} has {count[paths[0]]} lines, {path} has {count[path]}")


def _pairs(path, rows, gold, gold_path, first=0, swapped=False, strict=False):
    """Yields the sentence pairs of rows `(line number, source, target, links…)`.

    Args:
        gold: what each links field holds: `sure`, `possible`, or `gold`, where `p` or `?` in place of `-` is possible.
        first: the number of the first word in links.
        swapped: links are written `target-source`.
        strict: empty sides and links outside their sentences are errors; otherwise they are left out and counted.

    Raises:
        InputError: `file:line` of a link that cannot be read, or of what `strict` refuses.
    """
    empty, outside = 0, []
    words = {}  # each word once: a string a token would fill the memory with copies
    for number, source, target, *fields in rows:
        pair = SentencePair(
            *(tuple(words.setdefault(word, word) for word in side.split(" ") if word) for side in (source, target))
        )
        if not (pair.source and pair.target):
            if strict:
                raise InputError(f"{path}:{number}: the {'target' if pair.source else 'source'} side is empty")
            empty += 1
            continue
        links = {"sure": set(), "possible": set()}
        for kind, field in zip(gold, fields, strict=True):
            for text in field.split():
                link, sure = _link(text, f"{gold_path}:{number}", first, swapped)
                if not (0 <= link[0] < len(pair.source) and 0 <= link[1] < len(pair.target)):
                    where = f"{gold_path}:{number}: link {text} is outside its sentences"
                    if strict:
                        raise InputError(f"{where} ({len(pair.source)} and {len(pair.target)} words)")
                    outside.append(where)
                    continue
                links["sure" if kind == "sure" or (kind == "gold" and sure) else "possible"].add(link)
        if gold:
            sure = frozenset(links["sure"])
            pair = pair._replace(sure=sure, possible=sure | links["possible"])
        yield pair
    if empty:
        log.warning("%s: %d pairs with an empty side left out", path, empty)
    if outside:
        log.warning("%s%s; left out", outside[0], f", and {len(outside) - 1} more" if len(outside) > 1 else "")


def _link(text, where, first, swapped):
    """`((source, target), whether it is sure)`."""
    match = _LINK.fullmatch(text)
    if not match:
        raise InputError(f"{where}: {text!r} is not a link such as 3-4, or 3p4 for a possible one")
    i, j = int(match[1]) - first, int(match[3]) - first
    return ((j, i) if swapped else (i, j)), match[2] == "-"


def _naacl(path):
    """Links of the NAACL-2003 format, `sentence source target [S|P]`, as the text of each sentence's, by its number."""
    texts, lines = {}, {}
    for number, line in read_lines(path):
        fields = line.split()
        if not fields:
            continue
        if not (3 <= len(fields) <= 5 and all(field.isdigit() for field in fields[:3])):
            raise InputError(f"{path}:{number}: expected 'sentence source target S|P'")
        sentence, source, target = map(int, fields[:3])
        sign = "p" if fields[3:] and fields[3] == "P" else "-"
        texts[sentence] = f"{texts.get(sentence, '')} {source}{sign}{target}"
        lines[sentence] = number
    return texts, lines
