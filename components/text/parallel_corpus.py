"""Sentence pairs as ids, in batches."""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import tensorflow as tf

from trellis.components.text.attention_guide import AttentionGuide
from trellis.components.text.batching import Corpus
from trellis.components.text.subwords import END, PAD
from trellis.components.types import Strings, Tensor, TokenIds

_CHUNK = 1024  # texts that are encoded at once


class EncodedTexts:
    """Texts as ids, each with its end.

    Args:
        ids: of all texts, one after another.
        lengths: the number of ids of each text, `(texts,)`.

    Attributes:
        lengths: as above.
    """

    def __init__(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        self.lengths = lengths.astype(np.int32)
        self._ids = ids
        self._lengths = tf.constant(self.lengths)
        self._starts = tf.constant(np.cumsum(self.lengths) - self.lengths, tf.int32)
        # One more entry, for padding.
        self._stream = tf.constant(np.append(ids, PAD), tf.int32)

    @classmethod
    def encode(cls, texts: Sequence[str | bytes], encode: Callable[[Strings], tf.RaggedTensor]) -> Self:
        """Encode texts.

        Args:
            texts: the texts.
            encode: returns ids `(batch, time)` of texts `(batch,)`, without their end.
        """
        ids, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        for start in range(0, len(texts), _CHUNK):
            encoded = encode(tf.constant(texts[start : start + _CHUNK]))
            encoded = tf.concat([encoded, tf.fill([encoded.nrows(), 1], END)], axis=1)
            ids.append(encoded.values.numpy())
            lengths.append(encoded.row_lengths().numpy())
        return cls(np.concatenate(ids), np.concatenate(lengths))

    def subset(self, kept: np.ndarray) -> Self:
        """Return the texts for which `kept (texts,)` is True."""
        return type(self)(self._ids[np.repeat(kept, self.lengths)], self.lengths[kept])

    def rows(self, rows: Tensor, time: Tensor | None = None) -> Tensor:
        """Return the ids of some texts, `(rows, time)`, 0 at padding.

        Args:
            rows: their indices; -1 for a row of padding.
            time: the width; None for that of the longest.
        """
        lengths = tf.where(rows >= 0, tf.gather(self._lengths, tf.maximum(rows, 0)), 0)
        time = tf.maximum(tf.reduce_max(lengths), 1) if time is None else time
        positions = tf.gather(self._starts, tf.maximum(rows, 0))[:, tf.newaxis] + tf.range(time)
        real = tf.sequence_mask(lengths, time)
        return tf.gather(self._stream, tf.where(real, positions, tf.size(self._stream) - 1))


class ParallelCorpus(Corpus):
    """Sentence pairs as tensors, in batches `{"source": (rows, source), "target": (rows, target)}`.

    Args:
        sources: of all pairs.
        targets: of all pairs.
        guide: what attention should be; batches have it as "guide" `(rows, target, source)` too.
        membership: of the words of each side, as `AttentionGuide.rows` takes it, from ids `(rows, time)`.
        by_source: whether the time steps of a batch are those of sources; otherwise those of targets. The other side is
            as wide as the longest of the batch.
    """

    def __init__(
        self,
        sources: EncodedTexts,
        targets: EncodedTexts,
        by_source: bool = False,
        guide: AttentionGuide | None = None,
        membership: Sequence[Callable[[TokenIds], Tensor]] = (),
    ) -> None:
        self.sources, self.targets, self._by_source = sources, targets, by_source
        self._guide, self._membership = guide, membership
        self.lengths = sources.lengths if by_source else targets.lengths
        self.tokens = int(targets.lengths.sum())

    def batch(self, rows: Tensor, time: Tensor) -> tuple[dict[str, Tensor]]:
        """Assemble a batch."""
        source = self.sources.rows(rows, time if self._by_source else None)
        target = self.targets.rows(rows, None if self._by_source else time)
        if self._guide is None:
            return ({"source": source, "target": target},)
        words = [of_side(ids) for of_side, ids in zip(self._membership, (source, target), strict=True)]
        return ({"source": source, "target": target, "guide": self._guide.rows(rows, *words)},)
