"""CoNLL column files: one token per line, columns separated by tabs or spaces, an empty line after each sentence."""

from collections.abc import Mapping

from trellis.components.errors import InputError
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.readers.sentence import Sentence
from trellis.components.types import FilePath

DOCUMENT = "-DOCSTART-"


def read(
    path: FilePath, word_column: int = 0, tag_column: int = -1, columns: Mapping[str, int] | None = None
) -> list[Sentence]:
    """Read the sentences of a CoNLL file.

    Columns are split at tabs if the line has any, else at runs of ASCII spaces, so a token may hold U+00A0, U+3000 or
    a control character (and, between tabs, a space). Lines that begin with `-DOCSTART-` end a sentence and are
    skipped.

    Args:
        path: the file.
        word_column: index of the column of words, from 0, or from the end with -1.
        tag_column: index of the column of tags.
        columns: further columns to keep, `{name: index}`.

    Raises:
        InputError: a line does not have as many columns as the file's first token; names the file and line.
    """
    if columns and not isinstance(columns, Mapping):
        raise InputError(f"data.reader.columns: {columns} has no names; expected {{name: index}}, such as {{pos: 1}}")
    sentences: list[Sentence] = []
    rows: list[list[str]] = []
    width = first_line = 0
    indices = {"word_column": word_column, "tag_column": tag_column}
    indices |= {f"columns.{name}": index for name, index in (columns or {}).items()}

    def end_sentence() -> None:
        if rows:
            sentences.append(Sentence.from_rows(rows, columns or ()))
            rows.clear()

    for line_number, line in read_lines(path):
        if is_blank(line):
            end_sentence()
            continue
        fields = line.split("\t") if "\t" in line else [field for field in line.split(" ") if field]
        if fields[0] == DOCUMENT:
            end_sentence()
            continue
        if not width:
            width, first_line = len(fields), line_number
            for name, index in indices.items():
                if not -width <= index < width:
                    raise InputError(f"{path}:{line_number}: {width} columns, but data.reader.{name} is {index}")
            if width < 2:
                raise InputError(f"{path}:{line_number}: 1 column, expected at least a word and a tag")
        if len(fields) != width:
            raise InputError(f"{path}:{line_number}: {len(fields)} columns, expected {width} (as in line {first_line})")
        if not fields[word_column] or not fields[tag_column]:
            raise InputError(f"{path}:{line_number}: the {'tag' if fields[word_column] else 'word'} is empty")
        rows.append([fields[index] for index in indices.values()])
    end_sentence()
    return sentences
