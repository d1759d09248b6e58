"""The stack of recurrent layers of taggers and classifiers."""

from collections.abc import Mapping

import keras

from trellis.components.layers.recurrent import GRU, LSTM, SimpleRNN
from trellis.components.types import Mask, Tensor

CELLS = {"rnn": SimpleRNN, "lstm": LSTM, "gru": GRU}


def recurrent_stack(
    x: Tensor,
    mask: Mask,
    cell: str,
    bidirectional: bool,
    layers: int,
    units: int,
    dropout: Mapping[str, float],
) -> Tensor:
    """Add recurrent layers to a functional model; they are named `lstm_1` or `bilstm_1`, and so on.

    Args:
        x: `(batch, time, dim)`.
        mask: `(batch, time)`.
        cell: one of `CELLS`.
        bidirectional: read in both directions.
        layers: number of layers.
        units: width in each direction.
        dropout: rates `{"input", "recurrent"}`.

    Returns:
        States `(batch, time, units)`, or twice as wide if bidirectional.
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
