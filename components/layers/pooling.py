"""One vector of many: how a sentence of states becomes a sentence representation."""

import keras
from keras import ops

KINDS = ("last", "mean", "max", "sum", "attention")


@keras.saving.register_keras_serializable("trellis")
class Pooling(keras.layers.Layer):
    """The last state, or mean, maximum, sum or attention over the real time steps; or several of them, side by side.

    Args:
        kind: one of `KINDS`, or several: `last+mean+max` (Howard and Ruder 2018).
        bidirectional: whether half of each state comes from a layer that reads backwards.

    Attention weighs each step by `softmax(v · tanh(W h))` (Lin et al. 2017, with one row). The last state of a
    `bidirectional` layer is that after the last word and, for the half that reads backwards, after the first.

    Input: `(batch, time, dim)` and a mask `(batch, time)`. Output: `(batch, kinds × dim)`; zeros where no step is real.
    """

    def __init__(self, kind, bidirectional=False, **kwargs):
        super().__init__(**kwargs)
        self._kinds = kind.split("+")
        if set(self._kinds) - set(KINDS):
            raise ValueError(f"kind={kind!r}: must be one of {', '.join(KINDS)}, or several with + between them")
        self.kind, self.bidirectional, self.supports_masking = kind, bidirectional, True

    def build(self, shape):
        if "attention" in self._kinds:
            self.score = keras.layers.Dense(1, use_bias=False, name="score")
            self.hidden = keras.layers.Dense(shape[-1], activation="tanh", name="hidden")
            self.hidden.build(shape)
            self.score.build(shape)
        self.built = True

    def call(self, states, mask):
        pooled = [self._pooled(kind, states, mask) for kind in self._kinds]
        return ops.concatenate(pooled, axis=-1) if len(pooled) > 1 else pooled[0]

    def _pooled(self, kind, states, mask):
        real = ops.cast(mask, states.dtype)[:, :, None]
        if kind == "last":
            place = ops.sum(ops.cast(mask, "int32"), axis=1) - 1
            at_end = ops.cast(ops.one_hot(place, ops.shape(states)[1]), states.dtype)
            last = ops.sum(states * at_end[:, :, None], axis=1)
            if not self.bidirectional:
                return last
            half = states.shape[-1] // 2
            return ops.concatenate([last[:, :half], (states * real)[:, 0, half:]], axis=-1)
        if kind == "max":
            highest = ops.max(ops.where(real > 0, states, -1e9), axis=1)
            return highest * ops.cast(ops.any(mask, axis=1, keepdims=True), states.dtype)
        if kind == "attention":
            scores = self.score(self.hidden(states))
            scores = ops.exp(scores - ops.max(ops.where(real > 0, scores, -1e9), axis=1, keepdims=True))
            real = ops.where(real > 0, scores, 0.0)
        total = ops.sum(states * real, axis=1)
        if kind == "sum":
            return total
        return total / ops.maximum(ops.sum(real, axis=1), 1e-9)

    def compute_mask(self, states, mask=None):
        return None

    def compute_output_shape(self, shape):
        return (shape[0], len(self._kinds) * shape[-1])

    def get_config(self):
        return {**super().get_config(), "kind": self.kind, "bidirectional": self.bidirectional}
