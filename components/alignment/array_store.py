"""Arrays put away by number, in memory or on disk."""

import os
import pickle
import tempfile
from array import array


class ArrayStore:
    """Arrays, or tuples or dictionaries of them, in the order in which they were appended.

    Args:
        folder: where a file is to hold them, which nobody else sees and which goes with the shelf; None: in memory.
    """

    def __init__(self, folder=None):
        self._kept = [] if folder is None else None
        self._file = None
        if folder is not None:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._ends = array("q", [0])

    def append(self, arrays):
        if self._file is None:
            self._kept.append(arrays)
            return
        self._ends.append(self._ends[-1] + self._file.write(pickle.dumps(arrays, protocol=5)))
        self._file.flush()  # reading goes past the buffer

    def __len__(self):
        return len(self._ends) - 1 if self._file else len(self._kept)

    def __getitem__(self, number):
        if self._file is None:
            return self._kept[number]
        begin, end = self._ends[number : number + 2]
        return pickle.loads(os.pread(self._file.fileno(), end - begin, begin))

    def __iter__(self):
        return (self[number] for number in range(len(self)))

    def emptied(self):
        """Yields every one and, in memory, lets go of it."""
        for number in range(len(self)):
            arrays = self[number]
            if self._file is None:
                self._kept[number] = None
            yield arrays
