"""A sentence a line, each token with its tag behind a bar: `New|B-LOC York|I-LOC`."""

from trellis.components.errors import InputError
from trellis.components.readers.lines import read_lines
from trellis.components.readers.sentence import Sentence


def read(path, separator="|"):
    """Sentences of a `word|TAG` file; tokens are split at ASCII spaces, each at its last separator.

    Raises:
        InputError: `file:line` of a token without a tag.
    """
    sentences = []
    for number, line in read_lines(path):
        words = []
        for place, field in enumerate((field for field in line.split(" ") if field), 1):
            word, found, tag = field.rpartition(separator)
            if not (found and word and tag):
                raise InputError(f"{path}:{number}: token {place} is {field!r}, expected word{separator}TAG")
            words.append((word, tag))
        if words:
            sentences.append(Sentence.of_rows(words))
    return sentences
