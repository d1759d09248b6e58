"""A one-dimensional array in a file, read through the page cache without filling the memory of the process."""

import mmap
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from trellis.components.types import FilePath

CHUNK = 1 << 21  # elements of a chunk
_RELEASE_AFTER = 1 << 23  # elements


class MappedArray:
    """A memory-mapped array of integers.

    Pages that were read count as memory of the process until the system needs them elsewhere; after some millions of
    elements they are given back, so that the size of the process does not grow with the file.

    Args:
        path: the file, not empty.
        dtype: the type of the elements.
    """

    def __init__(self, path: FilePath, dtype: npt.DTypeLike) -> None:
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._array = np.frombuffer(self._map, dtype)
        self._read = 0

    def __len__(self) -> int:
        return len(self._array)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return the elements at indices, in their shape, as a copy."""
        found = self._array[indices]
        self._count(found.size)
        return found

    def range(self, start: int, stop: int) -> np.ndarray:
        """Return the elements from `start` up to `stop`, as a copy."""
        found = self._array[start:stop].copy()
        self._count(found.size)
        return found

    def chunks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the elements from `start` up to `stop` in pieces."""
        for first in range(start, stop, CHUNK):
            yield self.range(first, min(first + CHUNK, stop))

    def search(self, values: npt.ArrayLike, side: str = "left") -> np.ndarray:
        """Return where values would be inserted into a sorted array, see `numpy.searchsorted`."""
        return np.asarray(np.searchsorted(self._array, values, "right" if side == "right" else "left"))

    def _count(self, elements: int) -> None:
        self._read += elements
        if self._read > _RELEASE_AFTER and hasattr(self._map, "madvise"):  # not on Windows
            self._read = 0
            self._map.madvise(mmap.MADV_DONTNEED)
