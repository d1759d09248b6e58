"""SimpleRNN, LSTM and GRU that compute what Keras's layers compute, faster.

Same arguments, weights and results as `keras.layers.SimpleRNN | LSTM | GRU`; a weight file of one loads into the
other. On the TensorFlow backend, the input products of all time steps are one matrix product before the loop, and the
gradient is a backward loop written by hand, with the weight gradients one matrix product after it. On a GPU, cuDNN's
kernels take the place of the loop, those of SimpleRNN included, and rows without any real time step are allowed. An
export has both, see `both_devices`. Elsewhere (other backends, unusual activations, `unroll`) Keras's own
implementation runs.
"""

import keras
import tensorflow as tf

from trellis.components.layers import both_devices

_MASK_FOR_CUDNN = "cuDNN wants masks whose padding is on the right alone; for other masks, use_cudnn=False"


class _SimpleCell:
    """Elman 1990."""

    @staticmethod
    def step(inputs, product, hidden):
        del hidden
        return (tf.tanh(inputs + product),)

    @staticmethod
    def slopes(inputs, products, before):
        del before
        return (1.0 - tf.square(tf.tanh(inputs + products)),), None, None

    @staticmethod
    def pull(slopes, hidden):
        return hidden * slopes[0], ()


class _LSTMCell:
    """Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000; gates in Keras's order i, f, c, o."""

    @staticmethod
    def step(inputs, product, hidden, carry):
        del hidden
        update, forget, candidate, output = tf.split(inputs + product, 4, axis=-1)
        carry = tf.sigmoid(forget) * carry + tf.sigmoid(update) * tf.tanh(candidate)
        return tf.sigmoid(output) * tf.tanh(carry), carry

    @staticmethod
    def slopes(inputs, products, before):
        update, forget, candidate, output = tf.split(inputs + products, 4, axis=-1)
        update, forget, output = map(tf.sigmoid, (update, forget, output))
        candidate = tf.tanh(candidate)
        squashed = tf.tanh(forget * before[1] + update * candidate)
        into_gates = tf.concat(
            [
                candidate * update * (1.0 - update),
                before[1] * forget * (1.0 - forget),
                update * (1.0 - tf.square(candidate)),
            ],
            axis=-1,
        )
        into_output = squashed * output * (1.0 - output)
        into_carry = output * (1.0 - tf.square(squashed))
        return (into_gates, into_output, into_carry), forget, None

    @staticmethod
    def pull(slopes, hidden, carry):
        into_gates, into_output, into_carry = slopes
        carry += hidden * into_carry
        gates = tf.concat([tf.tile(carry, [1, 3]) * into_gates, hidden * into_output], axis=-1)
        return gates, (carry,)


class _GRUCell:
    """Cho et al. 2014, reset gate after the recurrent product as in cuDNN; gates in Keras's order z, r, h."""

    @staticmethod
    def _gates(inputs, products):
        update_in, reset_in, candidate_in = tf.split(inputs, 3, axis=-1)
        update, reset, candidate = tf.split(products, 3, axis=-1)
        update, reset = tf.sigmoid(update_in + update), tf.sigmoid(reset_in + reset)
        return update, reset, tf.tanh(candidate_in + reset * candidate), candidate

    @staticmethod
    def step(inputs, product, hidden):
        update, _, candidate, _ = _GRUCell._gates(inputs, product)
        return (update * hidden + (1.0 - update) * candidate,)

    @staticmethod
    def slopes(inputs, products, before):
        update, reset, candidate, product = _GRUCell._gates(inputs, products)
        into_candidate = (1.0 - update) * (1.0 - tf.square(candidate))
        into_gates = tf.concat(
            [
                (before[0] - candidate) * update * (1.0 - update),
                into_candidate * product * reset * (1.0 - reset),
                into_candidate,
            ],
            axis=-1,
        )
        through = tf.concat([tf.ones_like(update), tf.ones_like(update), reset], axis=-1)
        return (into_gates,), update, through

    @staticmethod
    def pull(slopes, hidden):
        return tf.tile(hidden, [1, 3]) * slopes[0], ()


def run(cell, inputs, kernel, bias, states, mask, dropout, backwards, training):
    """Runs a recurrent cell over time.

    The cell's `step(inputs, product, *states) -> states` is elementwise, its first state the output. Backwards in
    time a cell is linear in the gradients of its states, so `slopes` computes all the factors for all time steps
    at once and the backward loop only multiplies: `pull(slopes, *state gradients) -> gate gradients, rest`.

    Args:
        inputs: `(time, batch, gates)`, the input products with their bias.
        kernel: `(units, gates)`, the recurrent kernel; bias: `(gates,)` of the recurrent product, or None.
        states: initial states, each `(batch, units)`.
        mask: `(time, batch, 1)` booleans or None; where False the states stay as they are.
        dropout: `(batch, units)` factors on the hidden state inside the recurrent product, or None.
        backwards: from the last time step to the first.
        training: use the backward loop written here; without it, TensorFlow differentiates the forward loop should
            anyone ask, and an export carries no gradient functions.

    Returns:
        The states after each time step, each `(time, batch, units)`, in the order of the inputs.
    """
    biases = [] if bias is None else [bias]

    def loop(inputs, kernel, *rest):
        initial, biases = rest[: len(states)], rest[len(states) :]
        time = tf.shape(inputs)[0]
        steps = _array(inputs)
        masks = None if mask is None else _array(mask)

        def at(count):
            return time - 1 - count if backwards else count

        def forward(count, current, histories, products):
            t = at(count)
            hidden = current[0] if dropout is None else current[0] * dropout
            product = tf.matmul(hidden, kernel)
            if biases:
                product += biases[0]
            after = cell.step(steps.read(t), product, *current)
            if masks is not None:
                keep = masks.read(t)
                after = [tf.where(keep, new, old) for new, old in zip(after, current, strict=True)]
            after = _shaped_like(current, after)
            histories = [h.write(t, state) for h, state in zip(histories, after, strict=True)]
            return count + 1, tuple(after), tuple(histories), products.write(t, product)

        _, _, histories, products = tf.while_loop(
            lambda count, *_: count < time,
            forward,
            (
                tf.constant(0),
                tuple(initial),
                tuple(_empty(state, time) for state in initial),
                _empty(inputs, time),
            ),
            maximum_iterations=time,
        )
        histories = tuple(history.stack() for history in histories)
        products = products.stack()

        def backward(*upstream):
            befores = [
                tf.concat([history[1:], start[tf.newaxis]], 0)
                if backwards
                else tf.concat([start[tf.newaxis], history[:-1]], 0)
                for history, start in zip(histories, initial, strict=True)
            ]
            slopes, direct, through = cell.slopes(inputs, products, befores)
            if mask is not None:
                slopes = [tf.where(mask, slope, 0.0) for slope in slopes]
                direct = None if direct is None else tf.where(mask, direct, 1.0)
            slopes = [_array(slope) for slope in slopes]
            flowing = [_array(gradient) for gradient in upstream]
            directs = None if direct is None else _array(direct)
            throughs = None if through is None else _array(through)
            masks = None if mask is None else _array(mask)
            transposed = tf.transpose(kernel)

            def body(count, gradients, gates):
                t = at(time - 1 - count)
                gradients = [g + f.read(t) for g, f in zip(gradients, flowing, strict=True)]
                gate, rest = cell.pull([slope.read(t) for slope in slopes], *gradients)
                product = gate if throughs is None else gate * throughs.read(t)
                hidden = tf.matmul(product, transposed)
                if dropout is not None:
                    hidden *= dropout
                rest = [gradient * directs.read(t) for gradient in rest]
                if directs is not None and not rest:
                    hidden += gradients[0] * directs.read(t)
                elif masks is not None:
                    hidden += tf.where(masks.read(t), tf.zeros_like(gradients[0]), gradients[0])
                return count + 1, tuple(_shaped_like(initial, (hidden, *rest))), gates.write(t, gate)

            _, to_initial, gates = tf.while_loop(
                lambda count, *_: count < time,
                body,
                (
                    tf.constant(0),
                    tuple(tf.zeros_like(state) for state in initial),
                    _empty(inputs, time),
                ),
                maximum_iterations=time,
            )
            gates = gates.stack()
            products_gradient = gates if through is None else gates * through
            hidden = befores[0] if dropout is None else befores[0] * dropout
            to_kernel = tf.matmul(
                tf.reshape(hidden, [-1, kernel.shape[0]]),
                tf.reshape(products_gradient, [-1, kernel.shape[1]]),
                transpose_a=True,
            )
            to_bias = [tf.reduce_sum(products_gradient, axis=[0, 1])] if biases else []
            return gates, to_kernel, *to_initial, *to_bias

        return histories, backward

    if not training:
        histories, _ = loop(inputs, kernel, *states, *biases)
        return histories
    return tf.custom_gradient(loop)(inputs, kernel, *states, *biases)


def _array(values):
    array = tf.TensorArray(values.dtype, size=tf.shape(values)[0], element_shape=values.shape[1:])
    return array.unstack(values)


def _empty(like, time):
    return tf.TensorArray(like.dtype, size=time, element_shape=[None, like.shape[-1]])


def _shaped_like(before, after):
    """The states with the static shapes of those before: a loop may not forget a batch size that is known."""
    for old, new in zip(before, after, strict=True):
        new.set_shape(old.shape)
    return after


def _dropout_factors(like, rate, cell):
    return keras.random.dropout(tf.ones_like(like), rate, seed=cell.seed_generator)


class _FastLoop:
    """Overrides `inner_loop` of a Keras recurrent layer; `_cell` is what it computes."""

    _cell = _kind = None
    _activations = {"activation": "tanh"}

    def _runs_fast(self):
        cell = self.cell
        return (
            keras.backend.backend() == "tensorflow"
            and not self.unroll
            and getattr(cell, "reset_after", True)
            and all(
                getattr(cell, name) is keras.activations.get(function) for name, function in self._activations.items()
            )
        )

    def _finds_cudnn(self):
        """Whether cuDNN computes the layer where it is traced; an export decides where it runs."""
        return (
            not both_devices.is_exporting()
            and getattr(self, "use_cudnn", "auto") is not False
            and bool(tf.config.list_logical_devices("GPU"))
        )

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if not self._runs_fast():
            return super().inner_loop(sequences, initial_state, mask=mask, training=training)
        cell = self.cell
        if isinstance(mask, (list, tuple)):
            mask = mask[0]
        # One dropout mask a sequence, shared by its time steps and all gates (Gal and Ghahramani 2016).
        if training and cell.dropout:
            sequences *= _dropout_factors(sequences[:, 0], cell.dropout, cell)[:, tf.newaxis]
        states = list(initial_state) if isinstance(initial_state, (list, tuple)) else [initial_state]
        dropout = None
        if training and cell.recurrent_dropout:
            dropout = _dropout_factors(states[0], cell.recurrent_dropout, cell)
        kernel, recurrent_kernel = (tf.cast(w, sequences.dtype) for w in (cell.kernel, cell.recurrent_kernel))
        bias, recurrent_bias = self._biases(sequences.dtype)

        valid = None if mask is None else tf.transpose(tf.cast(mask, tf.bool))[:, :, tf.newaxis]

        inputs = tf.transpose(sequences, [1, 0, 2])
        given = {
            "sequences": inputs,
            "kernel": kernel,
            "recurrent_kernel": recurrent_kernel,
            "bias": bias,
            "recurrent_bias": recurrent_bias,
            "valid": valid,
            **{f"state_{number}": state for number, state in enumerate(states)},
        }
        names = [name for name, value in given.items() if value is not None]
        tensors = [given[name] for name in names]

        def plain(*tensors):
            histories = self._by_loop(dict(zip(names, tensors, strict=True)), dropout, training)
            return histories[0], *(history[0 if self.go_backwards else -1] for history in histories)

        def on_gpu(*tensors):
            outputs, last = self._by_cudnn(dict(zip(names, tensors, strict=True)), training)
            return outputs, *last

        if both_devices.is_exporting() and sequences.dtype == tf.float32:
            outputs, *final = both_devices.dispatch_by_device(plain, on_gpu, tensors)
        elif self._finds_cudnn() and dropout is None:
            if valid is not None:
                padded_on_the_right = tf.reduce_all(valid[:-1] | ~valid[1:])
                tf.debugging.Assert(padded_on_the_right, [_MASK_FOR_CUDNN])
            outputs, *final = on_gpu(*tensors)
        else:
            outputs, *final = plain(*tensors)
        if valid is not None and getattr(self, "zero_output_for_mask", False):
            outputs = tf.where(valid, outputs, 0.0)
        if self.go_backwards:
            outputs = outputs[::-1]
        return final[0], tf.transpose(outputs, [1, 0, 2]), final

    def _by_loop(self, given, dropout, training):
        """The states after each time step, `(time, batch, units)` each, from tensors by name."""
        sequences, kernel = given["sequences"], given["kernel"]
        time, batch = tf.unstack(tf.shape(sequences)[:2])
        flat = tf.matmul(tf.reshape(sequences, [-1, sequences.shape[-1]]), kernel)
        if "bias" in given:
            flat += given["bias"]
        return run(
            self._cell,
            tf.reshape(flat, [time, batch, kernel.shape[1]]),
            given["recurrent_kernel"],
            given.get("recurrent_bias"),
            [value for name, value in given.items() if name.startswith("state_")],
            given.get("valid"),
            dropout,
            self.go_backwards,
            training,
        )

    def _by_cudnn(self, given, training):
        """Outputs `(time, batch, units)` and last states, from tensors by name."""
        dtype = given["sequences"].dtype
        if dtype in (tf.bfloat16, tf.float16):
            # In bfloat16 the answers of TensorFlow's operation are wrong.
            given = {name: value if name == "valid" else tf.cast(value, tf.float32) for name, value in given.items()}
        weights = (given.get(name) for name in ("kernel", "recurrent_kernel", "bias", "recurrent_bias"))
        time, batch = tf.unstack(tf.shape(given["sequences"])[:2])
        lengths = tf.fill([batch], time)
        if "valid" in given:
            lengths = tf.reduce_sum(tf.cast(given["valid"][:, :, 0], tf.int32), axis=0)
        outputs, last = both_devices.cudnn(
            self._kind,
            given["sequences"],
            both_devices.cudnn_parameters(self._kind, *weights),
            [value for name, value in given.items() if name.startswith("state_")],
            lengths,
            self.go_backwards,
            training,
        )
        return tf.cast(outputs, dtype), [tf.cast(state, dtype) for state in last]

    def _biases(self, dtype):
        bias = self.cell.bias
        return (None if bias is None else tf.cast(bias, dtype)), None


@keras.saving.register_keras_serializable("trellis")
class SimpleRNN(_FastLoop, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` (Elman 1990), faster on CPU."""

    _cell, _kind = _SimpleCell, "SimpleRNN"


@keras.saving.register_keras_serializable("trellis")
class LSTM(_FastLoop, keras.layers.LSTM):
    """`keras.layers.LSTM` (Hochreiter and Schmidhuber 1997), faster on CPU."""

    _cell, _kind = _LSTMCell, "LSTM"
    _activations = {"activation": "tanh", "recurrent_activation": "sigmoid"}


@keras.saving.register_keras_serializable("trellis")
class GRU(_FastLoop, keras.layers.GRU):
    """`keras.layers.GRU` (Cho et al. 2014, `reset_after=True`), faster on CPU."""

    _cell, _kind = _GRUCell, "GRU"
    _activations = {"activation": "tanh", "recurrent_activation": "sigmoid"}

    def _biases(self, dtype):
        bias = self.cell.bias
        return (None, None) if bias is None else tuple(tf.unstack(tf.cast(bias, dtype)))
