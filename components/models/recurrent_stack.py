"""Recurrent layers one above the other, as taggers and classifiers have them."""

import keras

from trellis.components.layers.recurrent import GRU, LSTM, SimpleRNN

CELLS = {"rnn": SimpleRNN, "lstm": LSTM, "gru": GRU}


def recurrent_stack(x, mask, cell, bidirectional, layers, units, dropout):
    """States `(batch, time, units)`, or twice as wide, of a functional model.

    Layers are named `lstm_1` or `bilstm_1`, and so on.

    Args:
        x: `(batch, time, dim)`. mask: `(batch, time)`.
        cell: one of `CELLS`; layers: how many; units: width in each direction.
        dropout: rates `{"input", "recurrent"}`.
    """
    for depth in range(layers):
        x = keras.layers.Dropout(dropout["input"], name=f"input_dropout_{depth + 1}")(x)
        recurrent = CELLS[cell](
            units,
            return_sequences=True,
            recurrent_dropout=dropout["recurrent"],
            name=f"{cell}_{depth + 1}",
        )
        if bidirectional:
            recurrent = keras.layers.Bidirectional(recurrent, name=f"bi{cell}_{depth + 1}")
        x = recurrent(x, mask=mask)
    return x
