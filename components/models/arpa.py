"""N-gram language models as ARPA files, the format of KenLM, SRILM, IRSTLM and most speech recognizers.

Such a model reads each line on its own: `<s>` stands before its first word, `</s>` after its last. A model of Trellis
has one id for both, the boundary, which is read before a line and predicted at its end.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trellis.components.errors import InputError
from trellis.components.files import atomic_write
from trellis.components.models.ngram import NEVER, NGram, Tables
from trellis.components.readers.lines import read_lines
from trellis.components.types import FilePath

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
_SPECIAL = {UNKNOWN: 1, END: 2, BEGIN: 2}
_FIRST = 3  # id of the first word, after padding, the unknown word and the boundary
_LOG_10 = math.log(10.0)


class Arpa(NamedTuple):
    """What an ARPA file holds.

    Attributes:
        words: the vocabulary, without the boundary and the unknown word; the first one has id 3.
        tables: the n-grams.
    """

    words: list[str]
    tables: Tables


class _Section(NamedTuple):
    """The n-grams of one length, in the order of the file: `(entries, length)` ids and `(entries,)` values."""

    ids: np.ndarray
    log_probability: np.ndarray
    log_backoff: np.ndarray
    line_numbers: np.ndarray


class _Reader:
    """A parser of an ARPA file, which reads its lines once."""

    def __init__(self, path: FilePath) -> None:
        self._path, self._number, self._ids = path, 0, dict(_SPECIAL)
        self._lines = self._read()

    def _read(self) -> Iterator[str]:
        for number, line in read_lines(self._path):
            self._number = number
            if line := line.strip(" \t"):
                yield line

    def _error(self, reason: str, number: int | None = None) -> InputError:
        return InputError(f"{self._path}:{number or self._number}: {reason}")

    def arpa(self) -> Arpa:
        """Read everything."""
        sections = [self._section(length, size) for length, size in enumerate(self._sizes(), 1)]
        self._expect("\\end\\")
        words = list(self._ids)[len(_SPECIAL) :]
        if not words:
            raise self._error("no words in this model")
        return Arpa(words, self._tables(sections, _FIRST + len(words)))

    def _expect(self, heading: str) -> None:
        if (line := next(self._lines, "the end of the file")) != heading:
            raise self._error(f"expected {heading}, found {line}")

    def _sizes(self) -> list[int]:
        """Read the number of n-grams of each length, and the first heading."""
        if all(line != "\\data\\" for line in self._lines):
            raise self._error("not an ARPA file: no line is \\data\\")
        sizes: list[int] = []
        for line in self._lines:
            if line == "\\1-grams:" and sizes:
                return sizes
            found = re.fullmatch(r"ngram (\d+) *= *(\d+)", line)
            if not found or int(found[1]) != len(sizes) + 1:
                break
            sizes.append(int(found[2]))
        raise self._error(f"expected ngram {len(sizes) + 1}=NUMBER")

    def _section(self, length: int, size: int) -> _Section:
        if length > 1:
            self._expect(f"\\{length}-grams:")
        ids, line_numbers = np.zeros((size, length), np.int64), np.zeros(size, np.int64)
        values = np.zeros((size, 2))
        for index in range(size):
            # Words may contain other white space, such as U+00A0.
            probability, *words = re.split("[ \t]+", next(self._lines, ""))
            backoff = words.pop() if len(words) == length + 1 else "0"
            if len(words) != length:
                raise self._error(f"expected a log-probability, {length} words and perhaps a back-off weight")
            try:
                values[index] = float(probability), float(backoff)
            except ValueError:
                raise self._error(f"{probability} or {backoff} is not a number") from None
            ids[index] = [self._id(word, length) for word in words]
            if BEGIN in words[1:] or END in words[:-1]:
                raise self._error(f"{' '.join(words)}: nothing comes before {BEGIN} or after {END}")
            line_numbers[index] = self._number
            if words == [BEGIN]:
                values[index, 0] = np.nan  # it is never predicted
            elif words == [END]:
                values[index, 1] = np.nan  # nothing follows it
        return _Section(ids, values[:, 0] * _LOG_10, values[:, 1] * _LOG_10, line_numbers)

    def _id(self, word: str, length: int) -> int:
        word = UNKNOWN if word == "<UNK>" else word
        if length == 1:
            if word in self._ids and word not in _SPECIAL:
                raise self._error(f"{word} occurs twice")
            return self._ids.setdefault(word, len(self._ids))
        if word not in self._ids:
            raise self._error(f"{word} is not among the 1-grams")
        return self._ids[word]

    def _tables(self, sections: Sequence[_Section], vocabulary: int) -> Tables:
        """Return the n-grams in the order that `NGram` needs."""
        log_probability, log_backoff = np.full(vocabulary, NEVER), np.zeros(vocabulary)
        for values, into in ((sections[0].log_probability, log_probability), (sections[0].log_backoff, log_backoff)):
            known = ~np.isnan(values)
            into[sections[0].ids[known, 0]] = values[known]
        tables = Tables([], [log_probability], [log_backoff])
        for section in sections[1:]:
            keys = self._keys(section, tables, vocabulary)
            order = np.argsort(keys, kind="stable")
            twice = np.flatnonzero(np.diff(keys[order]) == 0)
            if len(twice):
                raise self._error("this n-gram occurs twice", section.line_numbers[order[twice[0] + 1]])
            tables.keys.append(keys[order])
            tables.log_probability.append(section.log_probability[order])
            tables.log_backoff.append(section.log_backoff[order])
        tables.log_backoff.pop()  # no n-grams extend the longest ones
        return tables

    def _keys(self, section: _Section, tables: Tables, vocabulary: int) -> np.ndarray:
        """Return the key of each n-gram: the index of its first words × vocabulary + its last word."""
        prefix = section.ids[:, 0]
        for known, words in zip(tables.keys, section.ids.T[1:-1], strict=False):
            keys = prefix * vocabulary + words
            prefix = np.minimum(np.searchsorted(known, keys), max(len(known) - 1, 0))
            missing = np.flatnonzero(known[prefix] != keys) if len(known) else np.arange(len(keys))
            if len(missing):
                raise self._error("the n-gram without its last word is missing", section.line_numbers[missing[0]])
        return prefix * vocabulary + section.ids[:, -1]


def read(path: FilePath) -> Arpa:
    """Read an ARPA file, plain or gzip.

    Raises:
        InputError: it cannot be read, is not an ARPA file, or lacks an n-gram that a longer one begins with.
    """
    return _Reader(path).arpa()


def write(path: Path, model: NGram, spellings: Sequence[str]) -> None:
    """Write an n-gram model as an ARPA file.

    Args:
        path: the file.
        model: a model that reads each line on its own.
        spellings: the text of each id.
    """
    backoffs = [table.numpy() / _LOG_10 for table in model.log_backoff]
    sections: list[list[str]] = []
    grams = [[index] for index in range(model.vocabulary)]
    for length, table in enumerate(model.log_probability, 1):
        probabilities = np.clip(table.numpy() / _LOG_10, NEVER, 0.0)
        backoff = backoffs[length - 1] if length <= len(backoffs) else None
        if length > 1:
            keys = model.keys[length - 2].numpy()
            grams = [[*grams[key // model.vocabulary], key % model.vocabulary] for key in keys.tolist() if key >= 0]
        lines = []
        for index, ids in enumerate(grams):
            weight = 0.0 if backoff is None else backoff[index]
            if ids == [model.boundary]:
                lines += [_line(NEVER, [BEGIN], weight), _line(probabilities[index], [END], 0.0)]
            elif ids[0]:  # not padding
                text = [spellings[each] for each in ids]
                text[0] = BEGIN if ids[0] == model.boundary else text[0]
                text[-1] = END if ids[-1] == model.boundary else text[-1]
                lines.append(_line(probabilities[index], text, weight))
        sections.append(lines)
    with atomic_write(path) as part, open(part, "w", encoding="utf-8", newline="\n") as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {length}={len(lines)}\n" for length, lines in enumerate(sections, 1))
        for length, lines in enumerate(sections, 1):
            file.write(f"\n\\{length}-grams:\n")
            file.writelines(lines)
        file.write("\n\\end\\\n")


def _line(log_probability: float, words: Sequence[str], log_backoff: float) -> str:
    weight = f"\t{log_backoff:.7g}" if log_backoff else ""
    return f"{log_probability:.7g}\t{' '.join(words)}{weight}\n"
