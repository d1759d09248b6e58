"""CoNLL column files: one token per line, columns separated by tabs or spaces, an empty line after each sentence."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from trellis.components.errors import InputError
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.readers.sentence import Sentence
from trellis.components.types import FilePath

DOCUMENT = "-DOCSTART-"
_HASHTAG = re.compile(r"#[^\s#]")
_DOCUMENT_COMMENT = re.compile(r"#(begin|end) document|#\w+\s*=")  # CoNLL-2012; `#sent_id = 1`
_KEY_AND_VALUE = re.compile(r"# \w+ = ")  # ends a sentence without an empty line too
_LIKE_A_TAG = re.compile(r"[Oo#]|[BIESLUMW][-_].+|.+[-_][BIESLUMW]", re.IGNORECASE)


class _Row(NamedTuple):
    """A line with columns.

    Attributes:
        line_number: from 1.
        fields: the columns.
        may_be_comment: whether it begins with `#` where a sentence begins.
        document: the number of its document.
    """

    line_number: int
    fields: list[str]
    may_be_comment: bool
    document: int


def read(
    path: FilePath, word_column: int = 0, tag_column: int = -1, columns: Mapping[str, int] | None = None
) -> list[Sentence]:
    """Read the sentences of a CoNLL file.

    Columns are split at tabs if the line has any, else at runs of ASCII spaces, so a token may hold U+00A0, U+3000 or
    a control character (and, between tabs, a space). Lines that begin with `-DOCSTART-` begin a document and are
    skipped.

    A line before a sentence that begins with `#` is a comment unless it has the columns of a token: as many as the
    file's other lines, with a tag that other lines have too or that looks like one.

    Args:
        path: the file.
        word_column: index of the column of words, from 0, or from the end with -1.
        tag_column: index of the column of tags.
        columns: further columns to keep, `{name: index}`.

    Raises:
        InputError: a line does not have as many columns as the file's first token; names the file and line.
    """
    return list(_sentences(path, list(_blocks(path)), word_column, tag_column, columns))


def stream(
    path: FilePath, word_column: int = 0, tag_column: int = -1, columns: Mapping[str, int] | None = None
) -> Iterator[Sentence]:
    """Yield what `read` returns, without keeping the file in memory: it is read twice."""
    return _sentences(path, _Blocks(path), word_column, tag_column, columns)


def _sentences(
    path: FilePath,
    blocks: Iterable[list[_Row]],
    word_column: int,
    tag_column: int,
    columns: Mapping[str, int] | None,
) -> Iterator[Sentence]:
    """Yield the sentences of blocks, which are iterated over twice: other lines tell what is a comment."""
    if columns and not isinstance(columns, Mapping):
        raise InputError(f"data.reader.columns: {columns} has no names; expected {{name: index}}, such as {{pos: 1}}")
    indices = {"word_column": word_column, "tag_column": tag_column}
    indices |= {f"columns.{name}": index for name, index in (columns or {}).items()}
    first = next((row for rows in blocks for row in rows if not row.may_be_comment), None)
    first = first or next((row for rows in blocks for row in rows), None)
    if first is None:
        return
    width = len(first.fields)
    if width < 2:
        raise InputError(f"{path}:{first.line_number}: 1 column, expected at least a word and a tag")
    for name, index in indices.items():
        if not -width <= index < width:
            raise InputError(f"{path}:{first.line_number}: {width} columns, but data.reader.{name} is {index}")
    tags = {
        row.fields[tag_column]
        for rows in blocks
        for row in rows
        if not row.may_be_comment and len(row.fields) == width
    }  # fmt: skip

    def is_comment(row: _Row) -> bool:
        if not row.may_be_comment or len(row.fields) != width:
            return row.may_be_comment
        line = " ".join(row.fields)
        if _HASHTAG.match(line):
            return bool(_DOCUMENT_COMMENT.match(line))
        tag = row.fields[tag_column]
        return tag not in tags and not _LIKE_A_TAG.fullmatch(tag)

    for rows in blocks:
        rows = [row for row in rows if not is_comment(row)]
        for line_number, fields, *_ in rows:
            if len(fields) != width:
                raise InputError(
                    f"{path}:{line_number}: {len(fields)} columns, expected {width} (as in line {first.line_number})"
                )
            for name, index in (("word", word_column), ("tag", tag_column)):
                if not fields[index]:
                    raise InputError(f"{path}:{line_number}: the {name} is empty")
        if rows:
            chosen = ([row.fields[index] for index in indices.values()] for row in rows)
            lines = [row.line_number for row in rows]
            yield Sentence.from_rows(chosen, columns or (), lines, rows[0].document)


class _Blocks:
    """The blocks of a file, read anew at each iteration."""

    def __init__(self, path: FilePath) -> None:
        self._path = path

    def __iter__(self) -> Iterator[list[_Row]]:
        return _blocks(self._path)


def _blocks(path: FilePath) -> Iterator[list[_Row]]:
    """Yield the lines between empty lines, document marks and comments such as `# id = 5`."""
    rows: list[_Row] = []
    document = 0
    for line_number, line in read_lines(path):
        fields = line.split("\t") if "\t" in line else [field for field in line.split(" ") if field]
        if is_blank(line) or fields[0] == DOCUMENT:
            if rows:
                yield rows
            rows = []
            document += not is_blank(line)
            continue
        if line.startswith("#") and rows and not rows[-1].may_be_comment and _KEY_AND_VALUE.match(line):
            yield rows
            rows = []
        begins = not rows or rows[-1].may_be_comment
        rows.append(_Row(line_number, fields, begins and line.startswith("#"), document))
    if rows:
        yield rows
