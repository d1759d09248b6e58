"""CoNLL-U, the format of Universal Dependencies (https://universaldependencies.org/format.html)."""

import re
from collections.abc import Iterator, Sequence

from trellis.components.errors import InputError, nearest, quoted
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.readers.sentence import Sentence
from trellis.components.types import FilePath

_ID = re.compile(r"(?P<first>[0-9]+)(?P<last>-[0-9]+)?(?P<node>\.[0-9]+)?")
_NEW_DOCUMENT = re.compile(r"#\s*newdoc(?:\s|$)")
CATEGORIES = ("upos", "xpos", "deprel")  # where `_` means that nobody annotated it
COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


def read(path: FilePath, tag: str = "upos", columns: Sequence[str] | None = ()) -> list[Sentence]:
    """Read the sentences of a CoNLL-U file, without multiword ranges (`5-6`) and empty nodes (`8.1`).

    An empty line, a comment, and a token with the id 1 end a sentence. `# newdoc` begins a document.

    Args:
        path: the file.
        tag: the column to use as the tag, by its name in the format.
        columns: further columns to keep, by name.

    Raises:
        InputError: a line does not have ten columns, an id, a form or a tag (names the file and line), or a column has
            no such name.
    """
    return list(stream(path, tag, columns))


def stream(path: FilePath, tag: str = "upos", columns: Sequence[str] | None = ()) -> Iterator[Sentence]:
    """Yield what `read` returns, without keeping it in memory."""
    names = tuple(columns or ())
    for key, name in (("tag", tag), *(("columns", name) for name in names)):
        if name not in COLUMNS:
            raise InputError(
                f"data.reader.{key}: no column {name!r} in CoNLL-U; did you mean {nearest(name, COLUMNS)}?"
            )
    indices = [COLUMNS.index(name) for name in ("form", tag, *names)]
    rows: list[list[str]] = []
    lines: list[int] = []
    document = 0

    def complete() -> Iterator[Sentence]:
        if rows:
            yield Sentence.from_rows(rows, names, lines, document)
            rows.clear()
            lines.clear()

    for line_number, line in read_lines(path):
        if is_blank(line) or line.startswith("#"):
            yield from complete()
            document += bool(_NEW_DOCUMENT.match(line))
            continue
        fields = line.split("\t")
        if len(fields) != len(COLUMNS):
            raise InputError(f"{path}:{line_number}: {len(fields)} columns, expected {len(COLUMNS)} (CoNLL-U)")
        number = _ID.fullmatch(fields[0])
        if not number:
            raise InputError(f"{path}:{line_number}: {quoted(fields[0])} is not the id of a token (CoNLL-U)")
        if int(number["first"]) <= 1 and not number["node"]:
            yield from complete()
        if number["last"] or number["node"]:
            continue
        for name in ("form", tag):
            value = fields[COLUMNS.index(name)]
            if is_blank(value) or (value == "_" and name in CATEGORIES):
                raise InputError(f"{path}:{line_number}: {name} is {'_' if value == '_' else 'empty'}")
        rows.append([fields[index] for index in indices])
        lines.append(line_number)
    yield from complete()
