"""Posterior probabilities of links as a file: supervision for the attention of another model.

A NumPy archive: `shapes (pairs, 2)`, source and target words of each sentence pair (0 where there is none), and
`cells`, the probabilities `(source, target)` of all pairs in turn, float16.
"""

import contextlib
import shutil
import tempfile
import zipfile
from array import array

import numpy as np
import tensorflow as tf

from trellis.components.errors import InputError


@contextlib.contextmanager
def writer(path):
    """Gives a function that adds the `(source, target)` array of one pair after the other, None where there is none."""
    shapes = array("i")
    with tempfile.TemporaryFile(dir=path.parent) as cells:

        def add(posteriors):
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


def read(path):
    """The `(source, target)` float32 posteriors of each sentence pair, in order; None where there are none.

    Raises:
        InputError: the file is missing or none of ours.
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


def dataset(path):
    """The posteriors of each sentence pair as a `tf.data.Dataset` of `(source, target)` float32; empty for none."""
    empty = np.zeros((0, 0), np.float32)
    every = [empty if cells is None else cells for cells in read(path)]
    return tf.data.Dataset.from_generator(lambda: iter(every), output_signature=tf.TensorSpec([None, None], tf.float32))
