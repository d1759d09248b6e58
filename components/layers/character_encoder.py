"""Word vectors from characters, computed once for each distinct word of the batch."""

from typing import Any

import keras
import tensorflow as tf

from trellis.components.layers.recurrent import LSTM
from trellis.components.types import JSON, Mask, Shape, Tensor

KINDS = ("cnn", "lstm")


@keras.saving.register_keras_serializable("trellis")
class CharacterEncoder(keras.layers.Layer):
    """Encode the characters of each word as one vector.

    `cnn`: convolution and maximum over the word (Ma and Hovy 2016); `lstm`: last states of both directions (Lample et
    al. 2016). The same word occurs many times in a batch, so the layer finds the distinct words (by a 64-bit
    fingerprint of their character ids) and encodes each once. Padding does not influence the result.

    Args:
        vocabulary: number of character ids, 0 being padding.
        kind: `"cnn"` or `"lstm"`.
        dim: width of the character embeddings.
        units: width of the result (for `lstm`, half of it in each direction: it must be even).
        window: number of characters that one convolution sees.
        dropout: dropout rate on the character embeddings.

    Input: character ids `(batch, time, characters)`, 0 after the end of a word.
    Output: `(batch, time, units)`, zero where there is no word.
    """

    def __init__(
        self,
        vocabulary: int,
        kind: str = "cnn",
        dim: int = 30,
        units: int = 50,
        window: int = 3,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        if kind == "lstm" and units % 2:
            raise ValueError(f"units must be even for kind='lstm', not {units}")
        self.vocabulary, self.kind, self.dim = vocabulary, kind, dim
        self.units, self.window, self.dropout = units, window, dropout
        self.embedding = keras.layers.Embedding(
            vocabulary,
            dim,
            embeddings_initializer=keras.initializers.RandomUniform(-0.15, 0.15),
            dtype=self.dtype_policy,
        )
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        if kind == "cnn":
            self.encoder = keras.layers.Conv1D(units, window, padding="same", dtype=self.dtype_policy)
        else:
            self.encoder = keras.layers.Bidirectional(LSTM(units // 2), dtype=self.dtype_policy)

    def build(self, shape: Shape) -> None:
        self.embedding.build((None, None))
        self.encoder.build((None, None, self.dim))

    def call(self, characters: Tensor, training: bool | None = None) -> Tensor:
        shape = tf.shape(characters)
        words = tf.reshape(characters, [-1, shape[2]])
        distinct, index = self._distinct(words)
        mask = tf.not_equal(distinct, 0)
        if self.kind == "cnn" and not (training and self.dropout):
            vectors = self._convolve_by_table(distinct, mask)
        else:
            vectors = self.drop(self.embedding(distinct), training=training)
            if self.kind == "cnn":
                vectors = self.encoder(vectors * tf.cast(mask, vectors.dtype)[:, :, tf.newaxis])
                vectors = tf.where(mask[:, :, tf.newaxis], vectors, tf.constant(vectors.dtype.min, vectors.dtype))
                vectors = tf.reduce_max(vectors, axis=1)
            else:
                vectors = self.encoder(vectors, mask=mask, training=training)
        vectors = tf.where(mask[:, :1], vectors, tf.zeros([], vectors.dtype))
        return tf.reshape(tf.gather(vectors, index), [shape[0], shape[1], self.units])

    def _convolve_by_table(self, distinct: Tensor, mask: Mask) -> Tensor:
        """Return the maximum over the real characters of the convolution, `(words, units)`.

        What a character contributes at an offset of the window depends on nothing else, so a table holds it for each
        character of the vocabulary and each offset.
        """
        embeddings, kernel = (
            tf.cast(weight, self.compute_dtype) for weight in (self.embedding.embeddings, self.encoder.kernel)
        )
        table = tf.einsum("vd,kdu->kvu", embeddings, kernel)
        table = tf.concat([tf.zeros_like(table[:, :1]), table[:, 1:]], axis=1)
        table = tf.reshape(table, [self.window * self.vocabulary, self.units])
        before = (self.window - 1) // 2
        padded = tf.pad(distinct, [[0, 0], [before, self.window - 1 - before]])
        positions, length = tf.where(mask), tf.shape(distinct)[1]
        contributions = [
            tf.gather(table, tf.gather_nd(padded[:, offset : offset + length], positions) + offset * self.vocabulary)
            for offset in range(self.window)
        ]
        words = tf.cast(positions[:, 0], tf.int32)
        largest = tf.math.unsorted_segment_max(tf.add_n(contributions), words, tf.shape(distinct)[0])
        return largest + tf.cast(self.encoder.bias, self.compute_dtype)

    @staticmethod
    def _distinct(words: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distinct rows of `words (words, characters)` and the index of each word among them."""
        # The fingerprint sums a random-looking number for each (character, position): splitmix64.
        codes = tf.cast(words, tf.uint64) + tf.bitwise.left_shift(
            tf.cast(tf.range(1, tf.shape(words)[1] + 1), tf.uint64), tf.constant(32, tf.uint64)
        )
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            codes = tf.bitwise.bitwise_xor(codes, tf.bitwise.right_shift(codes, tf.constant(shift, tf.uint64))) * factor
        fingerprints = tf.bitcast(tf.reduce_sum(tf.where(words != 0, codes, 0), axis=1), tf.int64)
        _, index = tf.unique(fingerprints)
        count = tf.reduce_max(tf.concat([index, [-1]], 0)) + 1
        first = tf.math.unsorted_segment_min(tf.range(tf.shape(words)[0]), index, count)
        return tf.gather(words, first), index

    def compute_output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.units)

    def get_config(self) -> JSON:
        return {
            **super().get_config(),
            "vocabulary": self.vocabulary,
            "kind": self.kind,
            "dim": self.dim,
            "units": self.units,
            "window": self.window,
            "dropout": self.dropout,
        }
