"""Posterior probabilities of links as a file: supervision for the attention of another model.

A NumPy archive: `shapes (pairs, 2)`, source and target words of each sentence pair (0 where there is none), and
`cells`, the probabilities `(source, target)` of all pairs in turn, float16.
"""

import zipfile

import numpy as np
import tensorflow as tf

from components.errors import InputError


def write(path, posteriors):
    """Writes `{row: (source, target) array}`, rows counted from 0; rows that are not there have no cells."""
    shapes = np.zeros((max(posteriors, default=-1) + 1, 2), np.int32)
    for row, cells in posteriors.items():
        shapes[row] = cells.shape
    every = [posteriors[row].astype(np.float16).ravel() for row in sorted(posteriors)]
    np.savez_compressed(path, shapes=shapes, cells=np.concatenate([np.zeros(0, np.float16), *every]))


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
