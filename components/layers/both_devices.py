"""Recurrent layers whose export runs well wherever it is served: plain operations on CPU, cuDNN's kernels on GPU.

Keras decides by the machine that traces; an export would be bound to the kind of machine that wrote it. Here both
implementations are in the graph, as functions that say which interface they implement and which device they prefer, and
TensorFlow's graph optimizer puts the right one in place when it knows where the operation runs.
"""

import contextlib
import contextvars
import uuid

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


def either(plain, cudnn, inputs):
    """`plain(*inputs)`, which on a GPU is computed by `cudnn(*inputs)`.

    Args:
        plain, cudnn: functions of tensors that give tensors of the same types and shapes.
        inputs: tensors.
    """
    name = f"trellis_rnn_{uuid.uuid4()}"

    def implementation(function, device):
        attributes = {"api_implements": name, "api_preferred_device": device}
        return tf.function(function, autograph=False, experimental_attributes=attributes)

    on_gpu = implementation(cudnn, "GPU").get_concrete_function(*inputs)
    # Called by nobody yet, it has to be put into the graph's library by hand.
    on_gpu.add_to_graph(tf.compat.v1.get_default_graph())
    return implementation(plain, "CPU")(*inputs)


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
