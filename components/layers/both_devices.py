"""Exports of recurrent layers that run well wherever they are served: plain operations on CPU, cuDNN kernels on GPU.

Keras chooses when it traces, which would tie an export to the kind of machine that wrote it. Here the graph contains
both implementations and chooses when it runs.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from trellis.components.types import Lengths, States, Tensor, TensorTree

_exporting = contextvars.ContextVar("exporting", default=False)


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """Trace both implementations within the block."""
    token = _exporting.set(True)
    try:
        yield
    finally:
        _exporting.reset(token)


def is_exporting() -> bool:
    """Return whether an export is being traced."""
    return _exporting.get()


def dispatch_by_device(
    plain: Callable[..., TensorTree], cudnn: Callable[..., TensorTree], inputs: Sequence[TensorTree]
) -> Any:
    """Return `plain(*inputs)`, computed on a GPU by `cudnn(*inputs)`.

    The operation `DeviceIndex` reports where the graph runs. The GPU branch stays a separate function: if it
    were inlined, a CPU could not load the graph, because one of its operations has no CPU kernel. (Functions with
    `api_implements` attributes, which Keras used for the same purpose, are exchanged by eager calls only; in a session,
    as TensorFlow Serving opens one, the plain function runs even on a GPU.)

    Args:
        plain, cudnn: functions that return tuples of tensors of the same types and shapes.
        inputs: their arguments: tensors, or structures of tensors and None.
    """
    on_gpu = tf.function(cudnn, autograph=False, experimental_attributes={"_noinline": True})
    device = tf.raw_ops.DeviceIndex(device_names=["GPU"])
    return tf.switch_case(device, [lambda: on_gpu(*inputs), lambda: plain(*inputs)])


# The mode of the cuDNN kernel, and cuDNN's order of the gates as indices into Keras's order.
_MODES = {"SimpleRNN": ("rnn_tanh", (0,)), "LSTM": ("lstm", (0, 1, 2, 3)), "GRU": ("gru", (1, 0, 2))}


def cudnn_parameters(
    kind: str, kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor | None, recurrent_bias: Tensor | None
) -> Tensor:
    """Pack the weights of a layer into the vector that cuDNN expects.

    Args:
        kind: `SimpleRNN`, `LSTM` or `GRU`.
        kernel: `(dim, gates × units)`.
        recurrent_kernel: `(units, gates × units)`.
        bias, recurrent_bias: `(gates × units,)`, or None.
    """
    _, order = _MODES[kind]

    def gates(values: Tensor) -> list[Tensor]:
        parts = tf.split(values, len(order), axis=-1)
        return [tf.reshape(tf.transpose(parts[gate]), [-1]) for gate in order]

    zeros = tf.zeros_like(kernel[0])
    biases = (zeros if values is None else values for values in (bias, recurrent_bias))
    return tf.concat([part for values in (kernel, recurrent_kernel, *biases) for part in gates(values)], axis=0)


def cudnn(
    kind: str,
    sequences: Tensor,
    parameters: Tensor,
    states: States,
    lengths: Lengths | None,
    backwards: bool,
    training: bool = False,
) -> tuple[Tensor, States]:
    """Run a recurrent layer by cuDNN's kernel.

    Args:
        kind: `SimpleRNN`, `LSTM` or `GRU`.
        sequences: `(time, batch, dim)`.
        parameters: from `cudnn_parameters`.
        states: initial states, `(batch, units)` each.
        lengths: `(batch,)` real time steps, at the start of each row; rows without any keep their states. None if all
            time steps are real.
        backwards: read from the last real step to the first.
        training: keep what the gradient needs.

    Returns:
        Outputs `(time, batch, units)` in the order of the inputs, 0 beyond the lengths; and the last states.
    """
    empty = None
    if lengths is not None:
        # cuDNN requires at least one step of every row.
        empty, lengths = lengths[:, tf.newaxis] == 0, tf.maximum(lengths, 1)
        # TensorFlow keeps cuDNN's description of a shape from the first batch that has it, and describes a batch whose
        # rows are all full as one without padding; the next batch of this shape would fail. One more time step gives
        # every row some padding.
        sequences = tf.pad(sequences, [[0, 1], [0, 0], [0, 0]])
    else:
        time, batch = tf.unstack(tf.shape(sequences)[:2])
        lengths = tf.fill([batch], time)
    if backwards:
        sequences = tf.reverse_sequence(sequences, lengths, seq_axis=0, batch_axis=1)
    cell = states[1][tf.newaxis] if kind == "LSTM" else tf.zeros([], sequences.dtype)
    outputs, hidden, last_cell, _, _ = tf.raw_ops.CudnnRNNV3(
        input=sequences,
        input_h=states[0][tf.newaxis],
        input_c=cell,
        params=parameters,
        sequence_lengths=lengths,
        rnn_mode=_MODES[kind][0],
        is_training=bool(training),
        time_major=True,
    )
    if backwards:
        outputs = tf.reverse_sequence(outputs, lengths, seq_axis=0, batch_axis=1)
    last = [hidden[0], last_cell[0]] if kind == "LSTM" else [hidden[0]]
    if empty is not None:
        last = [tf.where(empty, before, after) for before, after in zip(states, last, strict=True)]
        outputs = tf.where(empty, tf.zeros([], outputs.dtype), outputs[:-1])
    return outputs, last
