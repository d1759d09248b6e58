"""CoNLL-U, the format of Universal Dependencies (https://universaldependencies.org/format.html)."""

from trellis.components.errors import InputError, nearest
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.readers.sentence import Sentence

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


def read(path, tag="upos", columns=()):
    """Sentences of a CoNLL-U file; multiword ranges (`5-6`) and empty nodes (`8.1`) are not words.

    Args:
        tag: the column that becomes the tag, by its name in the format.
        columns: others that sentences are to have.

    Raises:
        InputError: `file:line` where a line does not have ten columns, or `tag` or one of `columns` is no column.
    """
    for key, name in (("tag", tag), *(("columns", name) for name in columns or ())):
        if name not in COLUMNS:
            raise InputError(
                f"data.reader.{key}: no column {name!r} in CoNLL-U; did you mean {nearest(name, COLUMNS)}?"
            )
    wanted = [COLUMNS.index(name) for name in ("form", tag, *(columns or ()))]
    sentences, words = [], []

    def finish():
        if words:
            sentences.append(Sentence.of_rows(words, columns))
            words.clear()

    for number, line in read_lines(path):
        if is_blank(line):
            finish()
        elif not line.startswith("#"):
            fields = line.split("\t")
            if len(fields) != len(COLUMNS):
                raise InputError(f"{path}:{number}: {len(fields)} columns, expected {len(COLUMNS)} (CoNLL-U)")
            if "-" not in fields[0] and "." not in fields[0]:
                words.append([fields[column] for column in wanted])
    finish()
    return sentences
