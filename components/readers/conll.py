"""CoNLL column files: a token a line, columns by tabs or spaces, an empty line after each sentence."""

from trellis.components.errors import InputError
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.readers.sentence import Sentence

DOCUMENT = "-DOCSTART-"


def read(path, word_column=0, tag_column=-1, columns=None):
    """Sentences of a CoNLL file.

    Columns are split at tabs if the line has any, else at runs of ASCII spaces, so a token may hold U+00A0, U+3000 or
    a control character (and, between tabs, a space). Lines that begin with `-DOCSTART-` end a sentence and are left
    out.

    Args:
        word_column, tag_column: from 0, or from the end with -1.
        columns: others that sentences are to have, `{name: number}`.

    Raises:
        InputError: `file:line` where the number of columns differs from that of the file's first token.
    """
    if columns and not isinstance(columns, dict):
        raise InputError(f"data.reader.columns: {columns} has no names; expected {{name: number}}, such as {{pos: 1}}")
    sentences, words = [], []
    width = first_line = None
    wanted = {"word_column": word_column, "tag_column": tag_column}
    wanted |= {f"columns.{name}": column for name, column in (columns or {}).items()}

    def finish():
        if words:
            sentences.append(Sentence.of_rows(words, columns))
            words.clear()

    for number, line in read_lines(path):
        if is_blank(line):
            finish()
            continue
        fields = line.split("\t") if "\t" in line else [field for field in line.split(" ") if field]
        if fields[0] == DOCUMENT:
            finish()
            continue
        if width is None:
            width, first_line = len(fields), number
            for name, column in wanted.items():
                if not -width <= column < width:
                    raise InputError(f"{path}:{number}: {width} columns, but data.reader.{name} is {column}")
            if width < 2:
                raise InputError(f"{path}:{number}: 1 column, expected a word and a tag at least")
        if len(fields) != width:
            raise InputError(f"{path}:{number}: {len(fields)} columns, expected {width} (as in line {first_line})")
        if not fields[word_column] or not fields[tag_column]:
            raise InputError(f"{path}:{number}: the {'tag' if fields[word_column] else 'word'} is empty")
        words.append([fields[column] for column in wanted.values()])
    finish()
    return sentences
