"""Pooling: turn a sequence of states into one vector."""

from typing import Any, get_args

import keras
from keras import ops

from trellis.components import choices
from trellis.components.types import JSON, Mask, Shape, Tensor

KINDS = get_args(choices.Pooling)


@keras.saving.register_keras_serializable("trellis")
class Pooling(keras.layers.Layer):
    """The last state, or mean, maximum, sum or attention over the real time steps; or several of them, concatenated.

    Attention weighs each step by `softmax(v · tanh(W h))` (Lin et al. 2017, with one row). The last state of a
    `bidirectional` layer is the one after the last word and, for the half that reads backwards, after the first.

    Args:
        kind: one of `KINDS`, or several: `last+mean+max` (Howard and Ruder 2018).
        bidirectional: whether the second half of each state comes from a layer that reads backwards.

    Input: `(batch, time, dim)` and a mask `(batch, time)`. Output: `(batch, kinds × dim)`, zero for a sequence without
    real steps.
    """

    def __init__(self, kind: str, bidirectional: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kinds = kind.split("+")
        if set(self._kinds) - set(KINDS):
            raise ValueError(f"kind={kind!r}: must be one of {', '.join(KINDS)}, or several joined by +")
        self.kind, self.bidirectional, self.supports_masking = kind, bidirectional, True

    def build(self, shape: Shape) -> None:
        if "attention" in self._kinds:
            self.score = keras.layers.Dense(1, use_bias=False, dtype=self.dtype_policy, name="score")
            self.hidden = keras.layers.Dense(shape[-1], activation="tanh", dtype=self.dtype_policy, name="hidden")
            self.hidden.build(shape)
            self.score.build(shape)
        self.built = True

    def call(self, states: Tensor, mask: Mask) -> Tensor:
        pooled = [self._pool(kind, states, mask) for kind in self._kinds]
        return ops.concatenate(pooled, axis=-1) if len(pooled) > 1 else pooled[0]

    def _pool(self, kind: str, states: Tensor, mask: Mask) -> Tensor:
        weights = ops.cast(mask, states.dtype)[:, :, None]
        if kind == "last":
            last_step = ops.sum(ops.cast(mask, "int32"), axis=1) - 1
            at_end = ops.cast(ops.one_hot(last_step, ops.shape(states)[1]), states.dtype)
            last = ops.sum(states * at_end[:, :, None], axis=1)
            if not self.bidirectional:
                return last
            half = states.shape[-1] // 2
            return ops.concatenate([last[:, :half], (states * weights)[:, 0, half:]], axis=-1)
        if kind == "max":
            highest = ops.max(ops.where(weights > 0, states, -1e9), axis=1)
            return highest * ops.cast(ops.any(mask, axis=1, keepdims=True), states.dtype)
        if kind == "attention":
            scores = self.score(self.hidden(states))
            scores = ops.exp(scores - ops.max(ops.where(weights > 0, scores, -1e9), axis=1, keepdims=True))
            weights = ops.where(weights > 0, scores, 0.0)
        total = ops.sum(states * weights, axis=1)
        if kind == "sum":
            return total
        return total / ops.maximum(ops.sum(weights, axis=1), 1e-9)

    def compute_mask(self, states: Tensor, mask: Mask | None = None) -> None:
        return None

    def compute_output_shape(self, shape: Shape) -> Shape:
        return (shape[0], len(self._kinds) * shape[-1])

    def get_config(self) -> JSON:
        return {**super().get_config(), "kind": self.kind, "bidirectional": self.bidirectional}
