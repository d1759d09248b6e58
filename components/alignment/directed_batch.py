"""A batch of sentence pairs, read in one direction of generation."""

from collections.abc import Mapping
from typing import Self

import tensorflow as tf

from trellis.components.types import Lengths, Tensor


class DirectedBatch:
    """A batch of a bitext as one direction sees it: which words are generated, and which words may generate them.

    Cells are `(tokens, source)` in both directions: one row per target word of all sentences in turn, then padding.
    Values of the generated words are `(tokens,)` forward and `(batch, source)` in reverse.

    Args:
        batch: a batch of `trellis.components.alignment.co_occurrence.CoOccurrence`.
        sizes: the number of word pairs, of source words and of target words.
        forward: True if source words generate target words, False for the reverse.
    """

    def __init__(self, batch: Mapping[str, Tensor], sizes: tuple[int, int, int], forward: bool = True) -> None:
        self.batch, self.sizes, self.forward = batch, sizes, forward
        self.pairs: Tensor = batch["pairs"]
        self.sentences: Tensor = batch["sentences"]
        self.source_lengths: Lengths = batch["source_lengths"]
        self.target_lengths: Lengths = batch["target_lengths"]
        self.real_rows: Tensor = batch["targets"] != sizes[2]

    @property
    def row_positions(self) -> Tensor:
        """The position of each row's word in its sentence, `(tokens,)`; padding repeats the last position."""
        starts = tf.cumsum(self.target_lengths, exclusive=True)
        positions = tf.range(tf.size(self.sentences)) - tf.gather(starts, self.sentences)
        return tf.minimum(positions, tf.gather(self.target_lengths, self.sentences) - 1)

    def cell_mask(self) -> Tensor:
        """Boolean mask of the real (non-padding) cells, `(tokens, source)`."""
        widths = tf.where(self.real_rows, tf.gather(self.source_lengths, self.sentences), 0)
        return tf.range(tf.shape(self.pairs)[1]) < widths[:, tf.newaxis]

    def reversed(self) -> Self:
        """The same batch in the other direction."""
        return type(self)(self.batch, self.sizes, not self.forward)

    @property
    def words(self) -> Tensor:
        """Ids of the generated words."""
        return self.batch["targets" if self.forward else "sources"]

    @property
    def real(self) -> Tensor:
        """1.0 for each real generated word, 0.0 at padding."""
        padding = self.sizes[2 if self.forward else 1]
        return tf.cast(self.words != padding, tf.float32)

    def lengths(self) -> tuple[Lengths, Lengths]:
        """The number of generating words and of generated words in each sentence pair, `(batch,)` each."""
        if self.forward:
            return self.source_lengths, self.target_lengths
        return self.target_lengths, self.source_lengths

    def choices(self) -> Tensor:
        """The number of words that may generate each word, in a shape that broadcasts to values of generated words."""
        if self.forward:
            return tf.cast(tf.gather(self.source_lengths, self.sentences), tf.float32)
        return tf.cast(self.target_lengths, tf.float32)[:, tf.newaxis]

    def sum_choices(self, cells: Tensor) -> Tensor:
        """Sum cells over the words that may generate each word."""
        return tf.reduce_sum(cells, axis=1) if self.forward else tf.math.segment_sum(cells, self.sentences)

    def broadcast_to_cells(self, values: Tensor) -> Tensor:
        """Repeat values of generated words for each of their cells, in a shape that broadcasts to cells."""
        return values[:, tf.newaxis] if self.forward else tf.gather(values, self.sentences)

    def dense(self, cells: Tensor) -> Tensor:
        """Arrange cells as `(batch, source, target)`, 0 at padding."""
        return tf.transpose(self.by_sentence(cells), [0, 2, 1])

    def by_sentence(self, values: Tensor) -> Tensor:
        """Arrange values of rows `(tokens, …)` as `(batch, target, …)`, 0 at padding."""
        longest = tf.reduce_max(self.target_lengths)
        rows = tf.cumsum(self.target_lengths, exclusive=True)[:, tf.newaxis] + tf.range(longest)
        # Padding reads one row past the last, which is zero.
        rows = tf.where(tf.sequence_mask(self.target_lengths, longest), rows, tf.size(self.sentences))
        return tf.gather(tf.concat([values, tf.zeros_like(values[:1])], axis=0), rows)

    def by_row(self, values: Tensor) -> Tensor:
        """Invert `by_sentence`: arrange values `(batch, target, …)` as `(tokens, …)`, 0 at padding."""
        values = tf.gather_nd(values, tf.stack([self.sentences, self.row_positions], axis=1))
        real = tf.reshape(self.real_rows, [-1, *[1] * (len(values.shape) - 1)])
        return tf.where(real, values, 0.0)
