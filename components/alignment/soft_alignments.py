"""Posterior probabilities of links as a file, for instance to supervise the attention of another model.

The file is a NumPy archive: `shapes (pairs, 2)`, the numbers of source and target words of each sentence pair (0 if it
has no posteriors), and `cells`, the posteriors `(source, target)` of all pairs, concatenated, float16.
"""

import contextlib
import shutil
import tempfile
import zipfile
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from trellis.components.errors import InputError
from trellis.components.types import Dataset, FilePath


@contextlib.contextmanager
def writer(path: Path) -> Iterator[Callable[[np.ndarray | None], None]]:
    """Yield a function that appends the `(source, target)` posteriors of a sentence pair, None if it has none.

    The file is written when the block ends.
    """
    shapes = array("i")
    with tempfile.TemporaryFile(dir=path.parent) as cells:

        def add(posteriors: np.ndarray | None) -> None:
            shapes.extend((0, 0) if posteriors is None else posteriors.shape)
            if posteriors is not None:
                cells.write(posteriors.astype(np.float16).tobytes())

        yield add
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
            with archive.open("shapes.npy", "w") as file:
                np.save(file, np.asarray(shapes, np.int32).reshape(-1, 2))
            with archive.open("cells.npy", "w", force_zip64=True) as file:
                shape = (cells.tell() // np.float16().itemsize,)
                np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
                cells.seek(0)
                shutil.copyfileobj(cells, file)


def read(path: FilePath) -> list[np.ndarray | None]:
    """Read the `(source, target)` float32 posteriors of each sentence pair, in order; None if a pair has none.

    Raises:
        InputError: the file is missing or was not written by `writer`.
    """
    try:
        with np.load(path) as saved:
            shapes, cells = saved["shapes"], saved["cells"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: no soft alignments can be read from it ({error})") from None
    ends = np.cumsum(shapes.prod(axis=1))
    return [
        cells[end - rows * columns : end].reshape(rows, columns) if rows * columns else None
        for (rows, columns), end in zip(shapes.tolist(), ends.tolist(), strict=True)
    ]


def dataset(path: FilePath) -> Dataset:
    """Return a dataset of the `(source, target)` float32 posteriors of each sentence pair; `(0, 0)` if it has none."""
    empty = np.zeros((0, 0), np.float32)
    arrays = [empty if posteriors is None else posteriors for posteriors in read(path)]
    return tf.data.Dataset.from_generator(
        lambda: iter(arrays), output_signature=tf.TensorSpec([None, None], tf.float32)
    )
