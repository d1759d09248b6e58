"""`tensorflow_addons.layers.CRF` for Keras 3: the same arguments, outputs and weights, in the same order."""

import keras
from keras import ops

from trellis.components.layers.crf import CRF as Head


@keras.saving.register_keras_serializable("trellis_addons")
class CRF(keras.layers.Layer):
    """A dense layer and a linear-chain CRF in one.

    Weights saved by `tensorflow_addons` load into this layer: `set_weights(theirs.get_weights())`, or `load_weights`
    of an `.h5` file into a model with the same layers. `NegativeLogLikelihood` takes the first output, and so does the
    loss of those who called `crf_log_likelihood` with the others.

    Args:
        units: number of tags.
        chain_initializer: of the transitions.
        use_boundary: whether there are scores for the first and the last tag.
        boundary_initializer: of these.
        use_kernel: whether the dense layer is there.

    Input: `(batch, time, features)` and mask `(batch, time)`.

    Output: tags `(batch, time)` int32, potentials `(batch, time, tags)` with the boundary scores in them, lengths
    `(batch,)` and transitions `(tags, tags)`.
    """

    def __init__(
        self,
        units,
        chain_initializer="orthogonal",
        use_boundary=True,
        boundary_initializer="zeros",
        use_kernel=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.units, self.use_boundary, self.use_kernel = units, use_boundary, use_kernel
        self.chain_initializer = keras.initializers.get(chain_initializer)
        self.boundary_initializer = keras.initializers.get(boundary_initializer)
        self._head = Head(boundaries=use_boundary, dtype="float32")
        self._dense_layer = keras.layers.Dense(units, dtype=self.dtype_policy) if use_kernel else None

    def build(self, input_shape):
        self._head.build((*input_shape[:-1], self.units))
        self._head.transitions.assign(self.chain_initializer((self.units, self.units)))
        if self.use_boundary:
            for boundary in (self._head.start, self._head.end):
                boundary.assign(self.boundary_initializer((self.units,)))
        if self.use_kernel:
            self._dense_layer.build(input_shape)
        self.built = True

    def call(self, inputs, mask=None):
        emissions = self._dense_layer(inputs) if self.use_kernel else inputs
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

    def compute_output_spec(self, inputs, mask=None):
        batch, time, _ = inputs.shape
        return [
            keras.KerasTensor((batch, time), "int32"),
            keras.KerasTensor((batch, time, self.units), "float32"),
            keras.KerasTensor((batch,), "int64"),
            keras.KerasTensor((self.units, self.units), "float32"),
        ]

    def compute_mask(self, inputs, mask=None):
        return [mask, mask, None, None]

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "chain_initializer": keras.initializers.serialize(self.chain_initializer),
            "use_boundary": self.use_boundary,
            "boundary_initializer": keras.initializers.serialize(self.boundary_initializer),
            "use_kernel": self.use_kernel,
        }
