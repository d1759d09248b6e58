"""CoNLL column files: a token a line, columns by tabs or spaces, an empty line after each sentence."""

from components.errors import InputError
from components.readers.lines import is_blank, read_lines
from components.readers.sentence import Sentence

DOCUMENT = "-DOCSTART-"


def read(path, word_column=0, tag_column=-1):
    """Sentences of a CoNLL file.

    Columns are split at tabs if the line has any, else at runs of ASCII spaces, so a token may hold U+00A0, U+3000 or
    a control character (and, between tabs, a space). Lines that begin with `-DOCSTART-` end a sentence and are left
    out.

    Args:
        word_column, tag_column: from 0, or from the end with -1.

    Raises:
        InputError: `file:line` where the number of columns differs from that of the file's first token.
    """
    sentences, tokens, tags = [], [], []
    columns = first_line = None

    def finish():
        if tokens:
            sentences.append(Sentence(tuple(tokens), tuple(tags)))
            tokens.clear()
            tags.clear()

    for number, line in read_lines(path):
        if is_blank(line):
            finish()
            continue
        fields = line.split("\t") if "\t" in line else [field for field in line.split(" ") if field]
        if fields[0] == DOCUMENT:
            finish()
            continue
        if columns is None:
            columns, first_line = len(fields), number
            for name, column in (("word_column", word_column), ("tag_column", tag_column)):
                if not -columns <= column < columns:
                    raise InputError(f"{path}:{number}: {columns} columns, but data.reader.{name} is {column}")
            if columns < 2:
                raise InputError(f"{path}:{number}: 1 column, expected a word and a tag at least")
        if len(fields) != columns:
            raise InputError(f"{path}:{number}: {len(fields)} columns, expected {columns} (as in line {first_line})")
        if not fields[word_column] or not fields[tag_column]:
            raise InputError(f"{path}:{number}: the {'tag' if fields[word_column] else 'word'} is empty")
        tokens.append(fields[word_column])
        tags.append(fields[tag_column])
    finish()
    return sentences
