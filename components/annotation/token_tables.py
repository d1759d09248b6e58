"""Tables with a token per row, such as `Sentence #,Word,POS,Tag`."""

import csv
from collections.abc import Iterable, Sequence
from typing import TextIO

from trellis.components.errors import InputError, nearest
from trellis.components.readers import tables
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.readers.sentence import Sentence
from trellis.components.types import FilePath

SENTENCES = (
    "sentence #",
    "sentence",
    "sentence_id",
    "sentence_idx",
    "sentence id",
    "sent_id",
    "sent",
    "sentence_number",
)
WORDS = ("word", "words", "token", "tokens", "text", "form")
TAGS = ("tag", "tags", "ner", "ner_tag", "ner_tags", "label", "labels", "entity", "iob", "bio", "pos", "upos")
_SEPARATORS = ",;\t"


def is_header(line: str) -> bool:
    """Return whether the first line of a file names the columns of words and tags."""
    names = _names(line, _separator(line))
    return any(name in names for name in WORDS) and any(name in names for name in TAGS)


def read(
    path: FilePath,
    word: str | None = None,
    tag: str | None = None,
    sentence: str | None = None,
    encoding: str = "utf-8",
) -> list[Sentence]:
    """Read the sentences of a table with a header.

    A sentence begins where its column has another value than before; an empty cell continues the sentence. Without such
    a column, empty lines separate sentences.

    Args:
        path: the file; columns are separated by commas, semicolons or tabs.
        word: the name of the column of words; None: a usual one.
        tag: the name of the column of tags; None: a usual one.
        sentence: the name of the column of the number or name of the sentence; None: a usual one, if there is one.
        encoding: of the file.

    Raises:
        InputError: there is no such column, or a row has another number of columns; names the file and line.
    """
    first = next((line for _, line in read_lines(path, encoding) if not is_blank(line)), "")
    rows = tables.csv_rows(path, encoding, _separator(first))
    line_number, header = next(rows, (0, []))
    if not header:
        return []
    columns = [
        _column(path, line_number, header, key, name, usual)
        for key, name, usual in (("word", word, WORDS), ("tag", tag, TAGS), ("sentence", sentence, SENTENCES))
    ]
    sentences: list[Sentence] = []
    tokens: list[tuple[str, str]] = []
    lines: list[int] = []
    former = None
    words_at, tags_at, sentences_at = columns
    if words_at is None or tags_at is None:
        raise InputError(f"{path}:{line_number}: no columns of words and tags")
    following = line_number + 1
    for line_number, row in rows:
        if len(row) != len(header) and any(row):
            raise InputError(f"{path}:{line_number}: {len(row)} columns, expected {len(header)} (as in its first line)")
        name = row[sentences_at] if sentences_at is not None and any(row) else None
        begins = name not in (former, "", None) if sentences_at is not None else not any(row) or line_number > following
        if begins and tokens:
            sentences.append(Sentence.from_rows(tokens, lines=lines))
            tokens, lines = [], []
        former = name or former
        following = line_number + 1 + sum(cell.count("\n") for cell in row)
        if any(row):
            for what, index in (("word", words_at), ("tag", tags_at)):
                if not row[index]:
                    raise InputError(f"{path}:{line_number}: the {what} is empty")
            tokens.append((row[words_at], row[tags_at]))
            lines.append(line_number)
    if tokens:
        sentences.append(Sentence.from_rows(tokens, lines=lines))
    return sentences


def _short(name: str) -> str:
    return tables.shown([name])


def _separator(line: str) -> str:
    """Return the separator of columns that is most frequent in a header."""
    return max(_SEPARATORS, key=line.count)


def _names(line: str, separator: str) -> list[str]:
    return [name.strip().strip('"').lower() for name in line.split(separator)]


def _column(
    path: FilePath, line: int, header: Sequence[str], key: str, name: str | None, usual: Sequence[str]
) -> int | None:
    """Return the index of a column; None for a column of sentences that is not there."""
    names = [each.strip().lower() for each in header]
    if name is not None:
        if name not in header:
            raise InputError(
                f"{path}:{line}: no column {key}={name}; did you mean {nearest(name, map(_short, header))}?"
            )
        return list(header).index(name)
    found = next((each for each in usual if each in names), None)
    if found is None and key != "sentence":
        raise InputError(
            f"{path}:{line}: the first line names no column of {key}s, such as {', '.join(usual[:3])}; it has "
            f"{tables.shown(header)} (name it: data.reader.{key}=… or --{key} …)"
        )
    return None if found is None else names.index(found)


def write(file: TextIO, sentences: Iterable[Sentence]) -> None:
    """Write a table with the columns `sentence`, `word` and `tag`."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("sentence", "word", "tag"))
    for number, sentence in enumerate(sentences, 1):
        writer.writerows((number, token, tag) for token, tag in zip(sentence.tokens, sentence.tags, strict=True))
