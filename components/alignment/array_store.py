"""A list of arrays, in memory or on disk."""

import os
import pickle
import tempfile
from array import array
from collections.abc import Iterator
from typing import Generic, TypeVar

from trellis.components.types import FilePath

Item = TypeVar("Item")


class ArrayStore(Generic[Item]):
    """An append-only list of arrays, or of tuples or dictionaries of arrays.

    Args:
        folder: a folder for a temporary file that holds the items and is deleted with the store; None keeps them in
            memory.
    """

    def __init__(self, folder: FilePath | None = None) -> None:
        self._items: list[Item] = []
        self._file = None if folder is None else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with the store
        self._ends = array("q", [0])  # where each item ends in the file

    def append(self, item: Item) -> None:
        """Add an item at the end."""
        if self._file is None:
            self._items.append(item)
            return
        self._ends.append(self._ends[-1] + self._file.write(pickle.dumps(item, protocol=5)))
        self._file.flush()  # `pread` bypasses the buffer

    def __len__(self) -> int:
        return len(self._items) if self._file is None else len(self._ends) - 1

    def __getitem__(self, index: int) -> Item:
        if self._file is None:
            return self._items[index]
        start, end = self._ends[index : index + 2]
        item: Item = pickle.loads(os.pread(self._file.fileno(), end - start, start))
        return item

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(len(self)))

    def drain(self) -> Iterator[Item]:
        """Yield all items and release the memory of each; afterwards a store in memory is empty."""
        if self._file is not None:
            yield from self
        self._items.reverse()
        while self._items:
            yield self._items.pop()
