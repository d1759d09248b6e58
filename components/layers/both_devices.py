"""Recurrent layers whose export runs well wherever it is served: plain operations on CPU, cuDNN's kernels on GPU.

Keras decides by the machine that traces; an export would be bound to the kind of machine that wrote it. Here both
implementations are in the graph, which chooses where it runs.
"""

import contextlib
import contextvars

import tensorflow as tf

_exporting = contextvars.ContextVar("exporting", default=False)


@contextlib.contextmanager
def exporting():
    """What is traced within it gets both implementations."""
    token = _exporting.set(True)
    try:
        yield
    finally:
        _exporting.reset(token)


def is_exporting():
    """Whether an export is being traced."""
    return _exporting.get()


def dispatch_by_device(plain, cudnn, inputs):
    """Return `plain(*inputs)`, computed on a GPU by `cudnn(*inputs)`.

    The operation `DeviceIndex` tells where it runs. The branch for the GPU stays a function of its own: inlined, its
    operation without a CPU kernel would keep a CPU from loading the graph. (Functions with `api_implements` attributes,
    which Keras had for the same purpose, are exchanged by eager calls alone; in a session, as TensorFlow Serving opens
    one, the plain one runs even on a GPU.)

    Args:
        plain, cudnn: functions of tensors that return tuples of tensors of the same types and shapes.
        inputs: tensors.
    """
    on_gpu = tf.function(cudnn, autograph=False, experimental_attributes={"_noinline": True})
    device = tf.raw_ops.DeviceIndex(device_names=["GPU"])
    return tf.switch_case(device, [lambda: on_gpu(*inputs), lambda: plain(*inputs)])


# cuDNN's order of the gates among Keras's
_MODES = {"SimpleRNN": ("rnn_tanh", (0,)), "LSTM": ("lstm", (0, 1, 2, 3)), "GRU": ("gru", (1, 0, 2))}


def cudnn_parameters(kind, kernel, recurrent_kernel, bias, recurrent_bias):
    """The weights of a layer in cuDNN's one vector.

    Args:
        kind: `SimpleRNN`, `LSTM` or `GRU`.
        kernel: `(dim, gates × units)`. recurrent_kernel: `(units, gates × units)`.
        bias, recurrent_bias: `(gates × units,)`, or None.
    """
    _, order = _MODES[kind]

    def gates(values):
        parts = tf.split(values, len(order), axis=-1)
        return [tf.reshape(tf.transpose(parts[gate]), [-1]) for gate in order]

    nothing = tf.zeros_like(kernel[0])
    biases = (nothing if each is None else each for each in (bias, recurrent_bias))
    return tf.concat([part for values in (kernel, recurrent_kernel, *biases) for part in gates(values)], axis=0)


def cudnn(kind, sequences, parameters, states, lengths, backwards, training=False):
    """A recurrent layer by cuDNN's kernel.

    Args:
        kind: as of `cudnn_parameters`, which gives the parameters.
        sequences: `(time, batch, dim)`. states: initial, each `(batch, units)`.
        lengths: `(batch,)` real time steps; the states of rows without any stay as they are.
        backwards: from the last real step to the first.
        training: keep what the gradient needs.

    Returns:
        outputs `(time, batch, units)`, in the order of the inputs, 0 beyond the lengths; the last states.
    """
    # cuDNN wants one step at least of every row.
    empty, lengths = lengths[:, tf.newaxis] == 0, tf.maximum(lengths, 1)
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
    last = [tf.where(empty, before, after) for before, after in zip(states, last, strict=True)]
    return tf.where(empty, tf.zeros([], outputs.dtype), outputs), last
