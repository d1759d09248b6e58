"""One sentence per line, each token with its tag after a bar: `New|B-LOC York|I-LOC`."""

from trellis.components.errors import InputError, quoted
from trellis.components.readers.lines import read_lines
from trellis.components.readers.sentence import Sentence
from trellis.components.types import FilePath


def read(path: FilePath, separator: str = "|") -> list[Sentence]:
    """Read the sentences of a `word|TAG` file; split tokens at ASCII spaces, and each token at its last separator.

    Raises:
        InputError: a token has no tag; names the file and line.
    """
    sentences = []
    for line_number, line in read_lines(path):
        rows = []
        for position, field in enumerate((field for field in line.split(" ") if field), 1):
            word, bar, tag = field.rpartition(separator)
            if not (bar and word and tag):
                raise InputError(
                    f"{path}:{line_number}: token {position} is {quoted(field)}, expected word{separator}TAG"
                )
            rows.append((word, tag))
        if rows:
            sentences.append(Sentence.from_rows(rows, lines=[line_number] * len(rows)))
    return sentences
