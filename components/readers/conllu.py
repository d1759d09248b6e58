"""CoNLL-U, the format of Universal Dependencies (https://universaldependencies.org/format.html)."""

from components.errors import InputError, nearest
from components.readers.lines import is_blank, read_lines
from components.readers.sentence import Sentence

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


def read(path, tag="upos"):
    """Sentences of a CoNLL-U file; multiword ranges (`5-6`) and empty nodes (`8.1`) are not words.

    Args:
        tag: the column that becomes the tag, by its name in the format.

    Raises:
        InputError: `file:line` where a line does not have ten columns, or `tag` is no column.
    """
    if tag not in COLUMNS:
        raise InputError(f"data.reader.tag: no column {tag!r} in CoNLL-U; did you mean {nearest(tag, COLUMNS)}?")
    column = COLUMNS.index(tag)
    sentences, words = [], []
    for number, line in read_lines(path):
        if is_blank(line):
            if words:
                sentences.append(Sentence(*zip(*words, strict=True)))
                words = []
        elif not line.startswith("#"):
            fields = line.split("\t")
            if len(fields) != len(COLUMNS):
                raise InputError(f"{path}:{number}: {len(fields)} columns, expected {len(COLUMNS)} (CoNLL-U)")
            if "-" not in fields[0] and "." not in fields[0]:
                words.append((fields[1], fields[column]))
    if words:
        sentences.append(Sentence(*zip(*words, strict=True)))
    return sentences
