"""Attention of a decoder to the states of an encoder."""

from typing import Any, get_args

import keras
import tensorflow as tf

from trellis.components import choices
from trellis.components.types import JSON, Mask, Shape, Tensor

KINDS = get_args(choices.Attention)
_NEVER = -1e9  # score of padding


@keras.saving.register_keras_serializable("trellis")
class Attention(keras.layers.Layer):
    """Weigh the positions of a memory for each query, and return the weighted sums.

    The score of query `q` and memory `m` is, by `kind`:

    - `additive`: `v · tanh(W q + U m + b)` (Bahdanau et al. 2015).
    - `general`: `q · U m` (Luong et al. 2015).
    - `dot`: `q · m` (Luong et al. 2015), for queries and memory of the same width.

    With a `window`, attention is local (Luong et al. 2015, local-p): each query predicts the position it attends to,
    and a Gaussian around that position, of standard deviation `window / 2`, scales the weights; positions further
    away than `window` have none.

    Args:
        kind: one of `KINDS`.
        units: width of the hidden layer of `additive`.
        window: positions on each side that local attention sees; None for global attention.

    Example:
        >>> attention = Attention("general")
        >>> context, weights = attention(tf.ones([2, 3, 8]), tf.ones([2, 5, 16]))
        >>> context.shape, weights.shape
        (TensorShape([2, 3, 16]), TensorShape([2, 3, 5]))
    """

    def __init__(self, kind: str = "additive", units: int = 256, window: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r}: must be one of {', '.join(KINDS)}")
        self.kind, self.units, self.window = kind, units, window
        self.supports_masking = True

    def build(self, query_shape: Shape, memory_shape: Shape) -> None:
        query, memory = query_shape[-1], memory_shape[-1]
        if self.kind == "dot" and query != memory:
            raise ValueError(f"dot attention needs queries as wide as the memory, not {query} and {memory}")
        if self.kind == "additive":
            self.query_kernel = self.add_weight(shape=(query, self.units), name="query_kernel")
            self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
            self.score_kernel = self.add_weight(shape=(self.units, 1), name="score_kernel")
        if self.kind != "dot":
            width = self.units if self.kind == "additive" else query
            self.memory_kernel = self.add_weight(shape=(memory, width), name="memory_kernel")
        if self.window is not None:
            self.position_kernel = self.add_weight(shape=(query, self.units), name="position_kernel")
            self.position_score = self.add_weight(shape=(self.units, 1), name="position_score")
        self.built = True

    def keys(self, memory: Tensor) -> Tensor:
        """Return the part of the scores that does not depend on queries, `(batch, source, width)`.

        Args:
            memory: `(batch, source, dim)`.
        """
        return memory if self.kind == "dot" else memory @ tf.cast(self.memory_kernel, memory.dtype)

    def call(
        self, query: Tensor, memory: Tensor, keys: Tensor | None = None, memory_mask: Mask | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend to a memory.

        Args:
            query: `(batch, time, units)`.
            memory: `(batch, source, dim)`.
            keys: `self.keys(memory)`, if it is known already.
            memory_mask: `(batch, source)`, True at real positions; None if all are real.

        Returns:
            Contexts `(batch, time, dim)`, and weights `(batch, time, source)`, which sum to 1.
        """
        if keys is None:
            keys = self.keys(memory)
        if self.kind == "additive":
            query_part = query @ tf.cast(self.query_kernel, query.dtype) + tf.cast(self.bias, query.dtype)
            hidden = tf.tanh(query_part[:, :, tf.newaxis] + keys[:, tf.newaxis])
            scores = tf.tensordot(hidden, tf.cast(self.score_kernel, hidden.dtype), 1)[..., 0]
        else:
            scores = tf.matmul(query, keys, transpose_b=True)
        scores = tf.cast(scores, tf.float32)
        if memory_mask is not None:
            scores += tf.where(memory_mask, 0.0, _NEVER)[:, tf.newaxis]
        if self.window is None:
            weights = tf.nn.softmax(scores)
        else:
            weights = self._local(query, scores, memory_mask, self.window)
        weights = tf.cast(weights, memory.dtype)
        return tf.matmul(weights, memory), weights

    def _local(self, query: Tensor, scores: Tensor, mask: Mask | None, window: int) -> Tensor:
        """Return the weights of local attention, `(batch, time, source)`."""
        hidden = tf.tanh(query @ tf.cast(self.position_kernel, query.dtype))
        share = tf.sigmoid(tf.cast(hidden @ tf.cast(self.position_score, hidden.dtype), tf.float32))
        source = tf.shape(scores)[2]
        lengths = (
            tf.fill([tf.shape(scores)[0]], source)
            if mask is None
            else tf.math.count_nonzero(mask, axis=1, dtype=tf.int32)
        )
        center = share * tf.cast(lengths - 1, tf.float32)[:, tf.newaxis, tf.newaxis]
        distance = tf.range(source, dtype=tf.float32) - center
        inside = tf.abs(distance) <= window
        weights = tf.nn.softmax(tf.where(inside, scores, scores + _NEVER))
        weights *= tf.exp(-tf.square(distance) / (window**2 / 2))
        return weights / tf.maximum(tf.reduce_sum(weights, axis=-1, keepdims=True), 1e-9)

    def compute_mask(self, *arguments: Any, **keywords: Any) -> tuple[None, None]:
        """Return no masks."""
        return None, None

    def get_config(self) -> JSON:
        return {**super().get_config(), "kind": self.kind, "units": self.units, "window": self.window}
