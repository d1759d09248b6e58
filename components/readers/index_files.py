"""Files of indices into lists of distinct strings."""

import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from trellis.components.readers.mapped_array import CHUNK

SMALL, LARGE = np.dtype("<u2"), np.dtype("<i4")
DTYPES = {each.name: each for each in (SMALL, LARGE)}


class Types(dict[str, int]):
    """The index of each distinct string; a new one gets the next index.

    Args:
        first: the index of the first one.
    """

    def __init__(self, first: int = 0) -> None:
        super().__init__()
        self._first = first

    def __missing__(self, string: str) -> int:
        index = self[string] = self._first + len(self)
        return index


class IndexWriter:
    """Writes indices to a file, in the smaller type as long as they fit.

    Attributes:
        count: the number of indices in the file.
        dtype: their type.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = open(path, "wb")  # noqa: SIM115
        self.count = 0
        self.dtype: np.dtype[Any] = SMALL

    def write(self, indices: list[int], largest: int) -> None:
        """Append indices, none above `largest`."""
        if self.dtype == SMALL and largest > np.iinfo(SMALL).max:
            self._widen()
        np.array(indices, self.dtype).tofile(self._file)
        self.count += len(indices)

    def truncate(self, count: int) -> None:
        """Remove the indices after the first `count`."""
        self._file.flush()
        self._file.truncate(count * self.dtype.itemsize)
        self._file.seek(0, os.SEEK_END)
        self.count = count

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _widen(self) -> None:
        self._file.close()
        wide = self._path.with_suffix(".wide")
        with open(self._path, "rb") as narrow, open(wide, "wb") as file:
            while len(indices := np.fromfile(narrow, SMALL, CHUNK)):
                indices.astype(LARGE).tofile(file)
        os.replace(wide, self._path)
        self._file, self.dtype = open(self._path, "ab"), LARGE  # noqa: SIM115
