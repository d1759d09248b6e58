"""Pretrained word vectors in the text formats of GloVe and word2vec."""

from collections.abc import Container, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from trellis.components.errors import InputError, quoted
from trellis.components.readers.lines import read_lines
from trellis.components.types import FilePath


def read(path: FilePath, dim: int, words: Container[str], keep: int = 0) -> dict[str, np.ndarray]:
    """Read the vectors of some words. The file is streamed, so its size does not matter.

    The header line of word2vec (`words width`) is skipped.

    Args:
        path: the file.
        dim: the width that every vector must have.
        words: the words to read, spelled as in the file.
        keep: also read that many words from the beginning of the file.

    Returns:
        `{word: vector (dim,) float32}`.

    Raises:
        InputError: a vector has another width or is not numeric (names the file and line), or the file has no vectors.
    """
    vectors: dict[str, np.ndarray] = {}
    seen = 0
    for line_number, line in read_lines(path):
        # Split from the right: in some files words contain spaces.
        fields = line.rstrip(" ").rsplit(" ", dim)
        if line_number == 1 and len(line.split()) == 2 and all(part.isdigit() for part in line.split()):
            width = int(line.split()[1])
            if width != dim:
                raise InputError(f"{path}:1: vectors of width {width}, but model.words.dim is {dim}")
            continue
        if not line.strip():
            continue
        width = len(line.rstrip(" ").split(" ")) - 1
        if len(fields) != dim + 1 or (seen == 0 and width != dim):
            raise InputError(f"{path}:{line_number}: a vector of width {width}, but model.words.dim is {dim}")
        seen += 1
        word = fields[0]
        if word in vectors or not (word in words or seen <= keep):
            continue
        try:
            vectors[word] = np.array(fields[1:], np.float32)
        except ValueError:
            raise InputError(f"{path}:{line_number}: {quoted(word)} has a component that is not a number") from None
    if not seen:
        raise InputError(f"{path}: no vectors in this file")
    return vectors


def matrix(
    vectors: Mapping[str, npt.ArrayLike], words: Sequence[str], rows: int, dim: int, generator: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Return an embedding matrix: the vector of each word, else of its lower-cased form, else small random numbers.

    Args:
        vectors: pretrained vectors by word.
        words: the vocabulary; the first word has id 2, after padding (0) and the unknown word (1).
        rows: number of ids.
        dim: width of the vectors.
        generator: source of the random numbers.

    Returns:
        the matrix `(rows, dim)` float32, and the number of words with a pretrained vector.
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
