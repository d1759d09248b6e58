"""Word alignments as the attention that pieces of words should have."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from trellis.components.types import Tensor

_CONFIDENT = 0.5  # posterior of all links of a target word, below which it teaches nothing


class AttentionGuide:
    """Posteriors of the links of sentence pairs, in batches of pieces.

    A piece of a target word should attend to the pieces of the source words that its word is linked to: the posteriors
    of a target word are scaled to sum to 1, and those of a source word are divided evenly among its pieces.

    Args:
        posteriors: `(source words, target words)` of each pair; None for a pair that teaches nothing.
    """

    def __init__(self, posteriors: Sequence[np.ndarray | None]) -> None:
        empty = np.zeros((0, 0), np.float32)
        cells = [empty if pair is None else _conditional(pair) for pair in posteriors]
        shapes = np.array([pair.shape for pair in cells], np.int32).reshape(-1, 2)
        sizes = shapes.prod(axis=1)
        self._shapes = tf.constant(shapes)
        self._starts = tf.constant(np.cumsum(sizes) - sizes, tf.int32)
        # One more entry, for padding.
        self._cells = tf.constant(np.concatenate([*(pair.ravel() for pair in cells), [0.0]]), tf.float32)

    def rows(self, rows: Tensor, source_words: Tensor, target_words: Tensor) -> Tensor:
        """Return the attention of some pairs, `(rows, time, source)`; zeros where a piece learns nothing.

        Args:
            rows: the indices of the pairs; -1 for a row of padding.
            source_words: which word each source piece belongs to, `(rows, source, words)`, 1 or 0.
            target_words: which word each target piece belongs to, `(rows, time, words)`.
        """
        shapes = tf.where(rows[:, tf.newaxis] >= 0, tf.gather(self._shapes, tf.maximum(rows, 0)), 0)
        starts = tf.gather(self._starts, tf.maximum(rows, 0))[:, tf.newaxis, tf.newaxis]
        source = tf.range(tf.shape(source_words)[2])[:, tf.newaxis]
        target = tf.range(tf.shape(target_words)[2])
        lengths = shapes[:, :, tf.newaxis, tf.newaxis]
        real = (source < lengths[:, 0]) & (target < lengths[:, 1])
        positions = tf.where(real, starts + source * lengths[:, 1] + target, tf.size(self._cells) - 1)
        of_words = tf.gather(self._cells, positions)
        shares = tf.math.divide_no_nan(source_words, tf.reduce_sum(source_words, axis=1, keepdims=True))
        return tf.einsum("btj,bij,bsi->bts", target_words, of_words, shares)


def _conditional(posteriors: np.ndarray) -> np.ndarray:
    """Return the probability of each source word given a target word; 0 for words without confident links."""
    totals = posteriors.sum(axis=0)
    return np.where(totals >= _CONFIDENT, posteriors / np.maximum(totals, 1e-9), 0.0).astype(np.float32)
