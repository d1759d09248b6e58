"""SimpleRNN, LSTM and GRU that compute what Keras's layers compute, faster.

Same arguments, weights and results as `keras.layers.SimpleRNN | LSTM | GRU`; a weight file of one loads into the other.
On the TensorFlow backend they run the loop of `trellis.components.layers.recurrent_loop`, whose gradient is written by
hand (`docs/explanation/recurrent_gradient.md`). On a GPU, cuDNN's kernels replace the loop, including those of
SimpleRNN, and rows without any real time step are allowed. An export contains both, see
`trellis.components.layers.both_devices`. Elsewhere (other backends, unusual activations, `unroll`) Keras's own
implementation runs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trellis.components.layers import both_devices
from trellis.components.layers.recurrent_loop import Cell, GRUCell, LSTMCell, SimpleCell, run
from trellis.components.types import Mask, States, Tensor

_MASK_FOR_CUDNN = "cuDNN needs masks with padding on the right only; for other masks, use_cudnn=False"


class _Operands(NamedTuple):
    """The tensors that a recurrent layer computes with.

    Attributes:
        sequences: `(time, batch, dim)`.
        kernel: `(dim, gates × units)`.
        recurrent_kernel: `(units, gates × units)`.
        bias, recurrent_bias: `(gates × units,)`, or None.
        mask: `(time, batch, 1)`, or None.
        states: initial states, `(batch, units)` each.
    """

    sequences: Tensor
    kernel: Tensor
    recurrent_kernel: Tensor
    bias: Tensor | None
    recurrent_bias: Tensor | None
    mask: Mask | None
    states: States


class _FastLoop(keras.layers.RNN):
    """Override `inner_loop` of a Keras recurrent layer.

    Attributes:
        kind: the layer's name in `both_devices`.
        loop_cell: the cell of the loop.
    """

    kind: str
    loop_cell: Cell

    def _has_standard_cell(self) -> bool:
        """Return whether `loop_cell` and cuDNN compute what the Keras cell does."""
        return bool(self.cell.activation is keras.activations.tanh)

    def _allows_cudnn(self) -> bool:
        """Return whether the user has not ruled out cuDNN."""
        return True

    def _biases(self, dtype: Any) -> tuple[Tensor | None, Tensor | None]:
        """Return the biases of the input products and of the recurrent products, or None for each that is missing."""
        bias = self.cell.bias
        return (None if bias is None else tf.cast(bias, dtype)), None

    def _runs_fast(self) -> bool:
        return keras.backend.backend() == "tensorflow" and not self.unroll and self._has_standard_cell()

    def _uses_cudnn(self) -> bool:
        """Return whether cuDNN computes the layer where it is traced; an export decides when it runs."""
        return not both_devices.is_exporting() and self._allows_cudnn() and bool(tf.config.list_logical_devices("GPU"))

    def inner_loop(
        self, sequences: Tensor, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Tensor, Tensor, States]:
        if not self._runs_fast():
            return super().inner_loop(sequences, initial_state, mask=mask, training=training)
        cell = self.cell
        if isinstance(mask, (list, tuple)):
            mask = mask[0]
        # One dropout mask per sequence, shared by its time steps and all gates (Gal and Ghahramani 2016).
        if training and cell.dropout:
            sequences *= _dropout_factors(sequences[:, 0], cell.dropout, cell)[:, tf.newaxis]
        states = list(initial_state) if isinstance(initial_state, (list, tuple)) else [initial_state]
        dropout = None
        if training and cell.recurrent_dropout:
            dropout = _dropout_factors(states[0], cell.recurrent_dropout, cell)
        kernel, recurrent_kernel = (tf.cast(weight, sequences.dtype) for weight in (cell.kernel, cell.recurrent_kernel))
        bias, recurrent_bias = self._biases(sequences.dtype)
        valid = None if mask is None else tf.transpose(tf.cast(mask, tf.bool))[:, :, tf.newaxis]
        inputs = tf.transpose(sequences, [1, 0, 2])
        operands = _Operands(inputs, kernel, recurrent_kernel, bias, recurrent_bias, valid, states)

        def plain(operands: _Operands) -> tuple[Tensor, ...]:
            histories = self._by_loop(operands, dropout, training)
            return histories[0], *(history[0 if self.go_backwards else -1] for history in histories)

        def on_gpu(operands: _Operands) -> tuple[Tensor, ...]:
            outputs, last = self._by_cudnn(operands, training)
            return outputs, *last

        if both_devices.is_exporting() and sequences.dtype == tf.float32:
            outputs, *final = both_devices.dispatch_by_device(plain, on_gpu, [operands])
        elif self._uses_cudnn() and dropout is None:
            if valid is not None:
                padded_on_the_right = tf.reduce_all(valid[:-1] | ~valid[1:])
                tf.debugging.Assert(padded_on_the_right, [_MASK_FOR_CUDNN])
            outputs, *final = on_gpu(operands)
        else:
            outputs, *final = plain(operands)
        if valid is not None and self.zero_output_for_mask:
            outputs = tf.where(valid, outputs, 0.0)
        if self.go_backwards:
            outputs = outputs[::-1]
        return final[0], tf.transpose(outputs, [1, 0, 2]), final

    def _by_loop(self, operands: _Operands, dropout: Tensor | None, training: bool) -> Sequence[Tensor]:
        """Return the states after each time step, `(time, batch, units)` each."""
        sequences, kernel = operands.sequences, operands.kernel
        time, batch = tf.unstack(tf.shape(sequences)[:2])
        flat = tf.matmul(tf.reshape(sequences, [-1, sequences.shape[-1]]), kernel)
        if operands.bias is not None:
            flat += operands.bias
        return run(
            self.loop_cell,
            tf.reshape(flat, [time, batch, kernel.shape[1]]),
            operands.recurrent_kernel,
            operands.recurrent_bias,
            operands.states,
            operands.mask,
            dropout,
            self.go_backwards,
            training,
        )

    def _by_cudnn(self, operands: _Operands, training: bool) -> tuple[Tensor, States]:
        """Return outputs `(time, batch, units)` and last states."""
        dtype = operands.sequences.dtype
        lengths = None
        if operands.mask is not None:
            lengths = tf.reduce_sum(tf.cast(operands.mask[:, :, 0], tf.int32), axis=0)

        def in_float32(values: Tensor | None) -> Tensor | None:
            # In bfloat16 the results of TensorFlow's cuDNN operation are wrong.
            return tf.cast(values, tf.float32) if values is not None and dtype in (tf.bfloat16, tf.float16) else values

        weights = (operands.kernel, operands.recurrent_kernel, operands.bias, operands.recurrent_bias)
        kernel, recurrent_kernel, bias, recurrent_bias = map(in_float32, weights)
        outputs, last = both_devices.cudnn(
            self.kind,
            in_float32(operands.sequences),
            both_devices.cudnn_parameters(self.kind, kernel, recurrent_kernel, bias, recurrent_bias),
            [in_float32(state) for state in operands.states],
            lengths,
            self.go_backwards,
            training,
        )
        return tf.cast(outputs, dtype), [tf.cast(state, dtype) for state in last]


class _FastGatedLoop(_FastLoop):
    """What LSTM and GRU have beyond SimpleRNN."""

    def _has_standard_cell(self) -> bool:
        return super()._has_standard_cell() and self.cell.recurrent_activation is keras.activations.sigmoid

    def _allows_cudnn(self) -> bool:
        return self.use_cudnn is not False


def _dropout_factors(like: Tensor, rate: float, cell: Any) -> Tensor:
    return keras.random.dropout(tf.ones_like(like), rate, seed=cell.seed_generator)


@keras.saving.register_keras_serializable("trellis")
class SimpleRNN(_FastLoop, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` (Elman 1990), faster on CPU."""

    kind, loop_cell = "SimpleRNN", SimpleCell()


@keras.saving.register_keras_serializable("trellis")
class LSTM(_FastGatedLoop, keras.layers.LSTM):
    """`keras.layers.LSTM` (Hochreiter and Schmidhuber 1997), faster on CPU."""

    kind, loop_cell = "LSTM", LSTMCell()


@keras.saving.register_keras_serializable("trellis")
class GRU(_FastGatedLoop, keras.layers.GRU):
    """`keras.layers.GRU` (Cho et al. 2014, `reset_after=True`), faster on CPU."""

    kind, loop_cell = "GRU", GRUCell()

    def _has_standard_cell(self) -> bool:
        return super()._has_standard_cell() and self.cell.reset_after

    def _biases(self, dtype: Any) -> tuple[Tensor | None, Tensor | None]:
        bias = self.cell.bias
        if bias is None:
            return None, None
        input_bias, recurrent_bias = tf.unstack(tf.cast(bias, dtype))
        return input_bias, recurrent_bias
