"""Pretrained word vectors in the text formats of GloVe and word2vec."""

import numpy as np

from trellis.components.errors import InputError
from trellis.components.readers.lines import read_lines


def read(path, dim, wanted, keep=0):
    """Vectors of the words that are wanted; the file is streamed, so its size does not matter.

    The header line of word2vec (`words width`) is skipped.

    Args:
        dim: the width that every line must have.
        wanted: set of words as the file may have them.
        keep: that many first words of the file are taken too.

    Returns:
        `{word: vector (dim,) float32}`.

    Raises:
        InputError: `file:line` where the width differs or a number cannot be read, or no vectors at all.
    """
    found, seen = {}, 0
    for number, line in read_lines(path):
        # From the right: a word of some files holds spaces.
        fields = line.rstrip(" ").rsplit(" ", dim)
        if number == 1 and len(line.split()) == 2 and all(part.isdigit() for part in line.split()):
            width = int(line.split()[1])
            if width != dim:
                raise InputError(f"{path}:1: vectors of width {width}, but model.words.dim is {dim}")
            continue
        if not line.strip():
            continue
        width = len(line.rstrip(" ").split(" ")) - 1
        if len(fields) != dim + 1 or (seen == 0 and width != dim):
            raise InputError(f"{path}:{number}: a vector of width {width}, but model.words.dim is {dim}")
        seen += 1
        word = fields[0]
        if word in found or not (word in wanted or seen <= keep):
            continue
        try:
            found[word] = np.array(fields[1:], np.float32)
        except ValueError:
            raise InputError(f"{path}:{number}: {word!r} has a component that is not a number") from None
    if not seen:
        raise InputError(f"{path}: no vectors in this file")
    return found


def matrix(vectors, words, rows, dim, generator):
    """Embeddings for a vocabulary: the vector of a word, else of its lower-cased form, else random small numbers.

    Args:
        words: by id from 2 on; 0 is padding and 1 unknown words.
        rows: number of ids.

    Returns:
        `(rows, dim)` float32, and how many words have a vector.
    """
    table = generator.uniform(-0.15, 0.15, (rows, dim)).astype(np.float32)
    matched = 0
    for index, word in enumerate(words, 2):
        vector = vectors.get(word)
        if vector is None:
            vector = vectors.get(word.lower())
        if vector is not None:
            table[index] = vector
            matched += 1
    return table, matched
