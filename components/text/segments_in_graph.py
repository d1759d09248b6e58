"""Segments of tag sequences, such as entities, in graph."""

from typing import NamedTuple

import tensorflow as tf

from trellis.components.text.tag_schemes import Segments
from trellis.components.types import Lengths, TagIds, Tensor


class FoundSegments(NamedTuple):
    """The segments of a batch, in the order of rows and time steps; all are `(found,)` int32.

    Attributes:
        rows: the row of each.
        starts, stops: its first time step, and the one after its last.
        kinds: its kind, see `Segments`.
        counts: the number of segments in each row, `(batch,)`.
    """

    rows: Tensor
    starts: Tensor
    stops: Tensor
    kinds: Tensor
    counts: Tensor

    def padded(self, values: Tensor) -> Tensor:
        """Return values `(found,)` as `(batch, segments)`, padded with 0 or `""`, at least one column wide."""
        rows = tf.RaggedTensor.from_row_lengths(values, self.counts, validate=False).to_tensor(shape=[None, None])
        return tf.pad(
            rows, [[0, 0], [0, tf.cast(tf.shape(rows)[1] == 0, tf.int32)]], constant_values=tf.zeros((), values.dtype)
        )

    def flat(self, values: Tensor) -> Tensor:
        """Return values `(batch, segments)`, as `padded` returns them, as `(found,)`."""
        return tf.boolean_mask(values, tf.sequence_mask(self.counts, tf.shape(values)[1]))

    def only(self, kept: Tensor) -> "FoundSegments":
        """Return those segments for which booleans `(found,)` are True."""
        rows, starts, stops, kinds = (tf.boolean_mask(values, kept) for values in self[:4])
        counts = tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, tf.shape(self.counts)[0])
        return FoundSegments(rows, starts, stops, kinds, counts)


def find_segments(tags: TagIds, lengths: Lengths, segments: Segments) -> FoundSegments:
    """Return the segments of tag sequences.

    Args:
        tags: `(batch, time)`.
        lengths: `(batch,)`.
        segments: what neighbouring tags form.
    """
    size, time = len(segments.kinds), tf.shape(tags)[1]
    real = tf.sequence_mask(lengths, time)
    kinds = tf.where(real, tf.gather(tf.constant(segments.kinds), tags), -1)
    pairs = tags[:, :-1] * size + tags[:, 1:]
    continued = tf.gather(tf.reshape(tf.constant(segments.continues), [-1]), pairs) & real[:, 1:]
    nothing = tf.zeros_like(real[:, :1])
    first = tf.cast(tf.where((kinds >= 0) & ~tf.concat([nothing, continued], axis=1)), tf.int32)
    last = tf.cast(tf.where((kinds >= 0) & ~tf.concat([continued, nothing], axis=1)), tf.int32)
    rows, starts = first[:, 0], first[:, 1]
    counts = tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, tf.shape(tags)[0])
    return FoundSegments(rows, starts, last[:, 1] + 1, tf.gather_nd(kinds, first), counts)
