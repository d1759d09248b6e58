"""The LSTM whose gates also see the cell (Gers and Schmidhuber 2000)."""

from typing import Any, Self

import keras
from keras import ops

from trellis.components.types import JSON, Shape, States, Tensor


@keras.saving.register_keras_serializable("trellis")
class PeepholeLSTMCell(keras.layers.LSTMCell):
    """`keras.layers.LSTMCell` with a weight from each unit's cell to each of its gates.

    Input and forget gates see the cell before the step, the output gate sees it after the step.
    """

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.peepholes = self.add_weight(shape=(3, self.units), initializer="zeros", name="peepholes")

    def call(self, inputs: Tensor, states: States, training: bool = False) -> tuple[Tensor, States]:
        hidden, cell = states
        if training and self.recurrent_dropout:
            hidden = hidden * self.get_recurrent_dropout_mask(hidden)
        if training and self.dropout:
            inputs = inputs * self.get_dropout_mask(inputs)
        gates = ops.matmul(inputs, self.kernel) + ops.matmul(hidden, self.recurrent_kernel)
        if self.use_bias:
            gates = gates + self.bias
        update, forget, candidate, output = ops.split(gates, 4, axis=-1)
        update_peephole, forget_peephole, output_peephole = ops.unstack(self.peepholes)
        update = self.recurrent_activation(update + cell * update_peephole)
        forget = self.recurrent_activation(forget + cell * forget_peephole)
        cell = forget * cell + update * self.activation(candidate)
        hidden = self.recurrent_activation(output + cell * output_peephole) * self.activation(cell)
        return hidden, [hidden, cell]


@keras.saving.register_keras_serializable("trellis")
class PeepholeLSTM(keras.layers.RNN):
    """A recurrent layer of `PeepholeLSTMCell`.

    Args:
        units: width of the layer.
        recurrent_dropout: dropout rate on the hidden state inside the recurrent product.
        **kwargs: arguments of `keras.layers.RNN`.
    """

    def __init__(self, units: int, recurrent_dropout: float = 0.0, **kwargs: Any) -> None:
        cell = PeepholeLSTMCell(units, recurrent_dropout=recurrent_dropout, dtype=kwargs.get("dtype"))
        super().__init__(cell, **kwargs)

    def get_config(self) -> JSON:
        config = super().get_config()
        del config["cell"]  # this layer makes its own
        return {**config, "units": self.cell.units, "recurrent_dropout": self.cell.recurrent_dropout}

    @classmethod
    def from_config(cls, config: JSON, custom_objects: Any = None) -> Self:
        del custom_objects
        return cls(**config)
