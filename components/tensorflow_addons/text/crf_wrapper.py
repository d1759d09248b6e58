"""`tensorflow_addons.text.crf_wrapper` for Keras 3."""

from typing import Any

import keras
import tensorflow as tf

from trellis.components.layers.sequence_head import NegativeLogLikelihood
from trellis.components.tensorflow_addons.layers.crf import CRF
from trellis.components.types import JSON, Mask, Shape, Tensor, TensorTree

__all__ = ["CRFModelWrapper"]


@keras.saving.register_keras_serializable("trellis")
class CRFModelWrapper(keras.Model):
    """A model with a CRF on top of its outputs `(batch, time, features)`, compiled with the CRF's loss by default.

    `fit` and `evaluate` report that loss without regularization as `crf_loss`, beside `loss`.

    Args:
        base_model: the model below.
        units, chain_initializer, use_boundary, boundary_initializer, use_kernel: see `layers.CRF`.
    """

    def __init__(
        self,
        base_model: keras.Model,
        units: int,
        chain_initializer: Any = "orthogonal",
        use_boundary: bool = True,
        boundary_initializer: Any = "zeros",
        use_kernel: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.base_model = base_model
        self.crf_layer = CRF(units, chain_initializer, use_boundary, boundary_initializer, use_kernel, name="crf")
        self._crf_loss = keras.metrics.Mean(name="crf_loss")

    def build(self, input_shape: Shape) -> None:
        self.crf_layer.build(self.base_model.compute_output_shape(input_shape))
        self.built = True

    def call(
        self,
        inputs: Tensor,
        training: bool | None = None,
        mask: Mask | None = None,
        return_crf_internal: bool = False,
    ) -> TensorTree:
        tags, potentials, lengths, kernel = self.crf_layer(self.base_model(inputs, training=training, mask=mask))
        return ((potentials, lengths, kernel), tags) if return_crf_internal else tags

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, **kwargs: Any) -> None:
        super().compile(optimizer, loss=NegativeLogLikelihood() if loss is None else loss, **kwargs)

    def compile_from_config(self, config: JSON) -> None:
        # Keras leaves a loaded model uncompiled whose `compile` is overridden.
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        others = tf.add_n([tf.cast(each, loss.dtype) for each in self.losses]) if self.losses else 0.0
        self._crf_loss.update_state(loss - others, sample_weight=tf.shape(y_pred)[0])
        return loss

    def get_config(self) -> JSON:
        options = self.crf_layer.get_config()
        names = ("units", "chain_initializer", "use_boundary", "boundary_initializer", "use_kernel")
        return {
            "name": self.name,
            "base_model": keras.saving.serialize_keras_object(self.base_model),
            **{name: options[name] for name in names},
        }

    @classmethod
    def from_config(cls, config: JSON) -> "CRFModelWrapper":
        base_model = keras.saving.deserialize_keras_object(config.pop("base_model"))
        return cls(base_model, **config)
