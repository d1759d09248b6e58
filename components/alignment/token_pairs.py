"""Sentence pairs as numbers of their tokens."""

from array import array
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from trellis.components.alignment.array_store import ArrayStore


class Chunk(NamedTuple):
    """Some of the sentence pairs.

    Attributes:
        rows: the number of each pair `(pairs,)`.
        source, target: its tokens, those of all pairs in turn `(tokens,)`.
        source_lengths, target_lengths: how many of them each pair has `(pairs,)`.
    """

    rows: np.ndarray
    source: np.ndarray
    target: np.ndarray
    source_lengths: np.ndarray
    target_lengths: np.ndarray


class TokenPairs:
    """Sentence pairs in the order in which they are added.

    Args:
        longest: pairs with a side of more tokens are counted and left out; None: none is.
        folder: see `ArrayStore`.
        size: pairs of a chunk.

    Attributes:
        count, left_out: numbers of pairs, and of those that are too long.
        words: numbers of tokens of both sides, of all pairs.
        tokens: `{token: number}` of both sides.
    """

    def __init__(self, longest=None, folder=None, size=2**16):
        self.longest, self.size = longest, size
        self.count, self.left_out, self.words = 0, 0, [0, 0]
        self.tokens = tuple(defaultdict() for _ in range(2))
        for numbers in self.tokens:
            numbers.default_factory = numbers.__len__
        self._shelf = ArrayStore(folder)
        self._clear()

    def _clear(self):
        self._rows, self._ids = array("q"), (array("i"), array("i"))
        self._lengths = array("i"), array("i")

    def add(self, source, target):
        """Both sides of a pair, tokens, not empty; returns whether it is kept."""
        row, sides = self.count, (source, target)
        self.count += 1
        for side, tokens in enumerate(sides):
            self.words[side] += len(tokens)
        if self.longest is not None and max(map(len, sides)) > self.longest:
            self.left_out += 1
            return False
        self._rows.append(row)
        for numbers, ids, lengths, tokens in zip(self.tokens, self._ids, self._lengths, sides, strict=True):
            lengths.append(len(tokens))
            ids.extend([numbers[token] for token in tokens])
        if len(self._rows) == self.size:
            self._put_away()
        return True

    def _put_away(self):
        if self._rows:
            self._shelf.append(Chunk(*map(np.asarray, (self._rows, *self._ids, *self._lengths))))
            self._clear()

    def chunks(self):
        """Yields the `Chunk`s."""
        self._put_away()
        yield from self._shelf
