"""Sentence pairs as ids of their tokens."""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from trellis.components.alignment.array_store import ArrayStore
from trellis.components.types import FilePath


class Chunk(NamedTuple):
    """Consecutive sentence pairs.

    Attributes:
        rows: the index of each pair in the bitext, `(pairs,)`.
        source: ids of the source tokens of all pairs, concatenated, `(tokens,)`.
        target: ids of the target tokens of all pairs, concatenated, `(tokens,)`.
        source_lengths: the number of source tokens of each pair, `(pairs,)`.
        target_lengths: the number of target tokens of each pair, `(pairs,)`.
    """

    rows: np.ndarray
    source: np.ndarray
    target: np.ndarray
    source_lengths: np.ndarray
    target_lengths: np.ndarray


class TokenPairs:
    """Sentence pairs in the order in which they were added.

    Args:
        longest: skip (but count) pairs with more tokens on a side; None keeps all pairs but those with an empty side.
        folder: where to store the ids, see `ArrayStore`.
        size: the number of pairs of a chunk.

    Attributes:
        count: the number of pairs added, including skipped ones.
        skipped: the number of pairs that were too long.
        empty: the number of pairs with an empty side, which are skipped too.
        words: the numbers of source and target tokens of all pairs.
        tokens: `{token: id}` of the source side and of the target side, in the order of first occurrence.
    """

    def __init__(self, longest: int | None = None, folder: FilePath | None = None, size: int = 2**16) -> None:
        self.longest, self.size = longest, size
        self.count, self.skipped, self.empty, self.words = 0, 0, 0, [0, 0]
        self.tokens: tuple[defaultdict[str, int], ...] = (defaultdict(), defaultdict())
        for ids in self.tokens:
            ids.default_factory = ids.__len__
        self._chunks: ArrayStore[Chunk] = ArrayStore(folder)
        self._start_chunk()

    def _start_chunk(self) -> None:
        self._rows = array("q")
        self._ids = array("i"), array("i")
        self._lengths = array("i"), array("i")

    def add(self, source: Sequence[str], target: Sequence[str]) -> bool:
        """Add the tokens of both sides of a pair; return whether the pair is kept."""
        row, sides = self.count, (source, target)
        self.count += 1
        if not all(sides):
            self.empty += 1
            return False
        for side, tokens in enumerate(sides):
            self.words[side] += len(tokens)
        if self.longest is not None and max(map(len, sides)) > self.longest:
            self.skipped += 1
            return False
        self._rows.append(row)
        for id_of, ids, lengths, tokens in zip(self.tokens, self._ids, self._lengths, sides, strict=True):
            lengths.append(len(tokens))
            ids.extend([id_of[token] for token in tokens])
        if len(self._rows) == self.size:
            self._end_chunk()
        return True

    def _end_chunk(self) -> None:
        if self._rows:
            self._chunks.append(Chunk(*map(np.asarray, (self._rows, *self._ids, *self._lengths))))
            self._start_chunk()

    def chunks(self) -> Iterator[Chunk]:
        """Yield the pairs in chunks."""
        self._end_chunk()
        yield from self._chunks
