"""`tensorflow_addons.layers.crf` for Keras 3: the same arguments, outputs and weights, in the same order."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from trellis.components.layers.crf import CRF as Head
from trellis.components.types import JSON, Mask, Shape, Tensor


@keras.saving.register_keras_serializable("trellis_addons")
class CRF(keras.layers.Layer):
    """A dense layer and a linear-chain CRF in one.

    Weights saved by `tensorflow_addons` load into this layer: `set_weights(theirs.get_weights())`, or `load_weights` of
    an `.h5` file into a model with the same layers. `NegativeLogLikelihood` takes the first output; code that called
    `crf_log_likelihood` with the other outputs still works.

    Args:
        units: number of tags.
        chain_initializer: initializer of the transitions.
        use_boundary: whether the first and the last tag have scores.
        boundary_initializer: initializer of these.
        use_kernel: whether to apply the dense layer.

    Input: `(batch, time, features)` and mask `(batch, time)`.

    Padding is on the right: a mask with padding on the left raises NotImplementedError, in a graph
    `tf.errors.InvalidArgumentError`. `trellis.layers.CRF` takes either.

    Output: tags `(batch, time)` int32, potentials `(batch, time, tags)` that include the boundary scores, lengths
    `(batch,)` and transitions `(tags, tags)`.
    """

    def __init__(
        self,
        units: int,
        chain_initializer: Any = "orthogonal",
        use_boundary: bool = True,
        boundary_initializer: Any = "zeros",
        use_kernel: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.units, self.use_boundary, self.use_kernel = units, use_boundary, use_kernel
        self.chain_initializer = keras.initializers.get(chain_initializer)
        self.boundary_initializer = keras.initializers.get(boundary_initializer)
        self._head = Head(boundaries=use_boundary, dtype="float32")
        self._dense_layer = keras.layers.Dense(units, dtype=self.dtype_policy) if use_kernel else None

    def build(self, input_shape: Shape) -> None:
        self._head.build((*input_shape[:-1], self.units))
        self._head.transitions.assign(self.chain_initializer((self.units, self.units)))
        for boundary in (self._head.start, self._head.end):
            if boundary is not None:
                boundary.assign(self.boundary_initializer((self.units,)))
        if self._dense_layer is not None:
            self._dense_layer.build(input_shape)
        self.built = True

    def call(self, inputs: Tensor, mask: Mask | None = None) -> list[Tensor]:
        if mask is not None:
            _refuse_left_padding(mask)
        emissions = inputs if self._dense_layer is None else self._dense_layer(inputs)
        emissions = ops.cast(emissions, "float32")
        tags = self._head(emissions, mask=mask)
        batch, time = ops.shape(emissions)[:2]
        valid = ops.ones((batch, time), dtype="bool") if mask is None else ops.cast(mask, "bool")
        edge = ops.zeros_like(valid[:, :1])
        first = valid & ~ops.concatenate([edge, valid[:, :-1]], axis=1)
        last = valid & ~ops.concatenate([valid[:, 1:], edge], axis=1)
        transitions, start, end = self._head.scores(constrained=False)
        potentials = emissions + ops.where(first[..., None], start, 0.0) + ops.where(last[..., None], end, 0.0)
        return [tags, potentials, ops.sum(ops.cast(valid, "int64"), axis=1), transitions]

    def compute_output_spec(self, inputs: Tensor, mask: Mask | None = None) -> list[Tensor]:
        batch, time, _ = inputs.shape
        return [
            keras.KerasTensor((batch, time), "int32"),
            keras.KerasTensor((batch, time, self.units), "float32"),
            keras.KerasTensor((batch,), "int64"),
            keras.KerasTensor((self.units, self.units), "float32"),
        ]

    def compute_mask(self, inputs: Tensor, mask: Mask | None = None) -> list[Mask | None]:
        return [mask, mask, None, None]

    def get_config(self) -> JSON:
        return {
            **super().get_config(),
            "units": self.units,
            "chain_initializer": keras.initializers.serialize(self.chain_initializer),
            "use_boundary": self.use_boundary,
            "boundary_initializer": keras.initializers.serialize(self.boundary_initializer),
            "use_kernel": self.use_kernel,
        }


def _refuse_left_padding(mask: Mask) -> None:
    """Raise an error for real time steps after padding, as the functions of `text.crf` count steps from the left."""
    if len(mask.shape) != 2:
        raise ValueError("Input mask to CRF must have dim 2 if not None")
    if isinstance(mask, keras.KerasTensor):
        return
    mask = tf.cast(mask, tf.bool)
    padded = tf.reduce_any(tf.reduce_any(mask, axis=1) & ~mask[:, 0]) if mask.shape[1] != 0 else tf.constant(False)
    message = "Currently, CRF layer do not support left padding"
    if tf.executing_eagerly():
        if padded:
            raise NotImplementedError(message)
    else:
        tf.debugging.Assert(~padded, [message])
