"""CoNLL-U, the format of Universal Dependencies (https://universaldependencies.org/format.html)."""

from collections.abc import Sequence

from trellis.components.errors import InputError, nearest
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.readers.sentence import Sentence
from trellis.components.types import FilePath

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


def read(path: FilePath, tag: str = "upos", columns: Sequence[str] | None = ()) -> list[Sentence]:
    """Read the sentences of a CoNLL-U file, without multiword ranges (`5-6`) and empty nodes (`8.1`).

    Args:
        path: the file.
        tag: the column to use as the tag, by its name in the format.
        columns: further columns to keep, by name.

    Raises:
        InputError: a line does not have ten columns (names the file and line), or a column has no such name.
    """
    names = tuple(columns or ())
    for key, name in (("tag", tag), *(("columns", name) for name in names)):
        if name not in COLUMNS:
            raise InputError(
                f"data.reader.{key}: no column {name!r} in CoNLL-U; did you mean {nearest(name, COLUMNS)}?"
            )
    indices = [COLUMNS.index(name) for name in ("form", tag, *names)]
    sentences: list[Sentence] = []
    rows: list[list[str]] = []

    def end_sentence() -> None:
        if rows:
            sentences.append(Sentence.from_rows(rows, names))
            rows.clear()

    for line_number, line in read_lines(path):
        if is_blank(line):
            end_sentence()
        elif not line.startswith("#"):
            fields = line.split("\t")
            if len(fields) != len(COLUMNS):
                raise InputError(f"{path}:{line_number}: {len(fields)} columns, expected {len(COLUMNS)} (CoNLL-U)")
            if "-" not in fields[0] and "." not in fields[0]:
                rows.append([fields[index] for index in indices])
    end_sentence()
    return sentences
