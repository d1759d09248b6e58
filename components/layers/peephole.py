"""The LSTM whose gates also see the cell (Gers and Schmidhuber 2000)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("trellis")
class PeepholeLSTMCell(keras.layers.LSTMCell):
    """`keras.layers.LSTMCell` with a weight from each unit's cell to each of its gates.

    Input and forget gates see the cell before the step, the output gate the one after it.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.peepholes = self.add_weight(shape=(3, self.units), initializer="zeros", name="peepholes")

    def call(self, inputs, states, training=False):
        hidden, cell = states
        if training and self.recurrent_dropout:
            hidden = hidden * self.get_recurrent_dropout_mask(hidden)
        if training and self.dropout:
            inputs = inputs * self.get_dropout_mask(inputs)
        gates = ops.matmul(inputs, self.kernel) + ops.matmul(hidden, self.recurrent_kernel)
        if self.use_bias:
            gates = gates + self.bias
        update, forget, candidate, output = ops.split(gates, 4, axis=-1)
        into_update, into_forget, into_output = ops.unstack(self.peepholes)
        update = self.recurrent_activation(update + cell * into_update)
        forget = self.recurrent_activation(forget + cell * into_forget)
        cell = forget * cell + update * self.activation(candidate)
        hidden = self.recurrent_activation(output + cell * into_output) * self.activation(cell)
        return hidden, [hidden, cell]


@keras.saving.register_keras_serializable("trellis")
class PeepholeLSTM(keras.layers.RNN):
    """A layer of `PeepholeLSTMCell`.

    Args:
        units: of the layer.
        recurrent_dropout: rate on the hidden state inside the recurrent product.
        **kwargs: of `keras.layers.RNN`.
    """

    def __init__(self, units, recurrent_dropout=0.0, **kwargs):
        kwargs.pop("cell", None)
        super().__init__(PeepholeLSTMCell(units, recurrent_dropout=recurrent_dropout), **kwargs)

    def get_config(self):
        config = super().get_config()
        return {**config, "units": self.cell.units, "recurrent_dropout": self.cell.recurrent_dropout}
