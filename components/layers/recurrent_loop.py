"""The loop of a recurrent layer in TensorFlow, with a backward loop written by hand.

`docs/explanation/recurrent_gradient.md` derives the gradient. In short: the input products of all time steps are one
matrix product before the loop. Backwards in time a cell is linear in the gradients of its states, so all of its factors
are computed for all time steps at once, the backward loop only multiplies, and the weight gradients are one matrix
product after it.
"""

import abc
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from trellis.components.types import Mask, States, Tensor


class Slopes(NamedTuple):
    """The factors by which a cell passes gradients back, for all time steps: `(time, batch, …)` each.

    Attributes:
        factors: the cell's own, for `Cell.pull`.
        direct: from the last of the states to the same state one step earlier, elementwise; None without such a path.
        through: from the gates to the recurrent product; None if the factor is 1.
    """

    factors: tuple[Tensor, ...]
    direct: Tensor | None
    through: Tensor | None


class Cell(abc.ABC):
    """The elementwise part of a recurrent cell: everything but the products with the two kernels.

    The first state is the output of the cell and the factor of the recurrent product.
    """

    @abc.abstractmethod
    def step(self, inputs: Tensor, product: Tensor, states: States) -> States:
        """Return the states after one time step.

        Args:
            inputs: `(batch, gates × units)`, the input product with its bias.
            product: `(batch, gates × units)`, the recurrent product.
            states: `(batch, units)` each.
        """

    @abc.abstractmethod
    def slopes(self, inputs: Tensor, products: Tensor, before: States) -> Slopes:
        """Return the factors of the backward loop for all time steps at once.

        Args:
            inputs, products: as of `step`, `(time, batch, gates × units)`.
            before: the states before each time step, `(time, batch, units)` each.
        """

    @abc.abstractmethod
    def pull(self, factors: Sequence[Tensor], gradients: States) -> tuple[Tensor, States]:
        """Pass the gradients of the states back through one time step.

        Args:
            factors: `Slopes.factors` of the time step.
            gradients: of the states after the step, `(batch, units)` each.

        Returns:
            The gradient of the gates before their activations, `(batch, gates × units)`; and those of the states after
            the first, before their `direct` factor.
        """


class SimpleCell(Cell):
    """Elman 1990."""

    def step(self, inputs: Tensor, product: Tensor, states: States) -> States:
        return [tf.tanh(inputs + product)]

    def slopes(self, inputs: Tensor, products: Tensor, before: States) -> Slopes:
        return Slopes((1.0 - tf.square(tf.tanh(inputs + products)),), None, None)

    def pull(self, factors: Sequence[Tensor], gradients: States) -> tuple[Tensor, States]:
        return gradients[0] * factors[0], []


class LSTMCell(Cell):
    """Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000; gates in Keras's order i, f, c, o."""

    def step(self, inputs: Tensor, product: Tensor, states: States) -> States:
        update, forget, candidate, output = tf.split(inputs + product, 4, axis=-1)
        carry = tf.sigmoid(forget) * states[1] + tf.sigmoid(update) * tf.tanh(candidate)
        return [tf.sigmoid(output) * tf.tanh(carry), carry]

    def slopes(self, inputs: Tensor, products: Tensor, before: States) -> Slopes:
        update, forget, candidate, output = tf.split(inputs + products, 4, axis=-1)
        update, forget, output = map(tf.sigmoid, (update, forget, output))
        candidate = tf.tanh(candidate)
        squashed = tf.tanh(forget * before[1] + update * candidate)
        carry_to_gates = tf.concat(
            [
                candidate * update * (1.0 - update),
                before[1] * forget * (1.0 - forget),
                update * (1.0 - tf.square(candidate)),
            ],
            axis=-1,
        )
        hidden_to_output = squashed * output * (1.0 - output)
        hidden_to_carry = output * (1.0 - tf.square(squashed))
        return Slopes((carry_to_gates, hidden_to_output, hidden_to_carry), forget, None)

    def pull(self, factors: Sequence[Tensor], gradients: States) -> tuple[Tensor, States]:
        carry_to_gates, hidden_to_output, hidden_to_carry = factors
        hidden, carry = gradients
        carry += hidden * hidden_to_carry
        gates = tf.concat([tf.tile(carry, [1, 3]) * carry_to_gates, hidden * hidden_to_output], axis=-1)
        return gates, [carry]


class GRUCell(Cell):
    """Cho et al. 2014, reset gate after the recurrent product as in cuDNN; gates in Keras's order z, r, h."""

    @staticmethod
    def _gates(inputs: Tensor, products: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return update, reset and candidate, and the candidate's part of the recurrent product."""
        update_in, reset_in, candidate_in = tf.split(inputs, 3, axis=-1)
        update, reset, candidate = tf.split(products, 3, axis=-1)
        update, reset = tf.sigmoid(update_in + update), tf.sigmoid(reset_in + reset)
        return update, reset, tf.tanh(candidate_in + reset * candidate), candidate

    def step(self, inputs: Tensor, product: Tensor, states: States) -> States:
        update, _, candidate, _ = self._gates(inputs, product)
        return [update * states[0] + (1.0 - update) * candidate]

    def slopes(self, inputs: Tensor, products: Tensor, before: States) -> Slopes:
        update, reset, candidate, product = self._gates(inputs, products)
        to_candidate = (1.0 - update) * (1.0 - tf.square(candidate))
        to_gates = tf.concat(
            [
                (before[0] - candidate) * update * (1.0 - update),
                to_candidate * product * reset * (1.0 - reset),
                to_candidate,
            ],
            axis=-1,
        )
        through = tf.concat([tf.ones_like(update), tf.ones_like(update), reset], axis=-1)
        return Slopes((to_gates,), update, through)

    def pull(self, factors: Sequence[Tensor], gradients: States) -> tuple[Tensor, States]:
        return tf.tile(gradients[0], [1, 3]) * factors[0], []


def run(
    cell: Cell,
    inputs: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    states: States,
    mask: Mask | None,
    dropout: Tensor | None,
    backwards: bool,
    training: bool,
) -> Sequence[Tensor]:
    """Run a recurrent cell over time.

    Args:
        inputs: `(time, batch, gates × units)`, the input products with their bias.
        kernel: `(units, gates × units)`, the recurrent kernel.
        bias: `(gates × units,)` of the recurrent product, or None.
        states: initial states, `(batch, units)` each.
        mask: `(time, batch, 1)` booleans, or None; where False the states stay as they are.
        dropout: `(batch, units)` factors on the hidden state inside the recurrent product, or None.
        backwards: read from the last time step to the first.
        training: use the backward loop of this module. Without it TensorFlow differentiates the forward loop if needed,
            and an export contains no gradient functions.

    Returns:
        The states after each time step, `(time, batch, units)` each, in the order of the inputs.
    """
    biases = [] if bias is None else [bias]

    def loop(inputs: Tensor, kernel: Tensor, *rest: Tensor) -> tuple[tuple[Tensor, ...], object]:
        initial, biases = rest[: len(states)], rest[len(states) :]
        histories, products = _forward(cell, inputs, kernel, biases, initial, mask, dropout, backwards)

        def gradient(*upstream: Tensor) -> tuple[Tensor, ...]:
            befores = [
                tf.concat([history[1:], start[tf.newaxis]], 0)
                if backwards
                else tf.concat([start[tf.newaxis], history[:-1]], 0)
                for history, start in zip(histories, initial, strict=True)
            ]
            slopes = cell.slopes(inputs, products, befores)
            gates, to_initial = _backward(cell, slopes, kernel, upstream, initial, mask, dropout, backwards)
            to_products = gates if slopes.through is None else gates * slopes.through
            hidden = befores[0] if dropout is None else befores[0] * dropout
            to_kernel = tf.matmul(
                tf.reshape(hidden, [-1, kernel.shape[0]]),
                tf.reshape(to_products, [-1, kernel.shape[1]]),
                transpose_a=True,
            )
            to_bias = [tf.reduce_sum(to_products, axis=[0, 1])] if biases else []
            return gates, to_kernel, *to_initial, *to_bias

        return histories, gradient

    if not training:
        histories, _ = loop(inputs, kernel, *states, *biases)
        return histories
    return tf.custom_gradient(loop)(inputs, kernel, *states, *biases)


def _forward(
    cell: Cell,
    inputs: Tensor,
    kernel: Tensor,
    biases: Sequence[Tensor],
    initial: Sequence[Tensor],
    mask: Mask | None,
    dropout: Tensor | None,
    backwards: bool,
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the states after each time step, and the recurrent products."""
    time = tf.shape(inputs)[0]
    steps = _array(inputs)
    masks = None if mask is None else _array(mask)

    def body(
        count: Tensor, current: Sequence[Tensor], histories: Sequence[Tensor], products: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        t = time - 1 - count if backwards else count
        hidden = current[0] if dropout is None else current[0] * dropout
        product = tf.matmul(hidden, kernel)
        if biases:
            product += biases[0]
        after = cell.step(steps.read(t), product, list(current))
        if masks is not None:
            keep = masks.read(t)
            after = [tf.where(keep, new, old) for new, old in zip(after, current, strict=True)]
        after = _with_shapes_of(current, after)
        histories = [history.write(t, state) for history, state in zip(histories, after, strict=True)]
        return count + 1, tuple(after), tuple(histories), products.write(t, product)

    _, _, histories, products = tf.while_loop(
        lambda count, *_: count < time,
        body,
        (
            tf.constant(0),
            tuple(initial),
            tuple(_empty_array(state, time) for state in initial),
            _empty_array(inputs, time),
        ),
        maximum_iterations=time,
    )
    return tuple(history.stack() for history in histories), products.stack()


def _backward(
    cell: Cell,
    slopes: Slopes,
    kernel: Tensor,
    upstream: Sequence[Tensor],
    initial: Sequence[Tensor],
    mask: Mask | None,
    dropout: Tensor | None,
    backwards: bool,
) -> tuple[Tensor, Sequence[Tensor]]:
    """Return the gradients of the gates `(time, batch, gates × units)` and of the initial states.

    Args:
        upstream: gradients of the states after each time step, `(time, batch, units)` each.
    """
    time = tf.shape(upstream[0])[0]
    factors, direct = list(slopes.factors), slopes.direct
    if mask is not None:
        # A masked step passes the gradients of its states on unchanged.
        factors = [tf.where(mask, factor, 0.0) for factor in factors]
        direct = None if direct is None else tf.where(mask, direct, 1.0)
    factor_arrays = [_array(factor) for factor in factors]
    upstream_arrays = [_array(gradient) for gradient in upstream]
    directs = None if direct is None else _array(direct)
    throughs = None if slopes.through is None else _array(slopes.through)
    masks = None if mask is None else _array(mask)
    transposed = tf.transpose(kernel)

    def body(count: Tensor, gradients: Sequence[Tensor], gates: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        t = count if backwards else time - 1 - count
        gradients = [gradient + array.read(t) for gradient, array in zip(gradients, upstream_arrays, strict=True)]
        gate, rest = cell.pull([array.read(t) for array in factor_arrays], gradients)
        product = gate if throughs is None else gate * throughs.read(t)
        hidden = tf.matmul(product, transposed)
        if dropout is not None:
            hidden *= dropout
        if directs is not None:
            rest = [gradient * directs.read(t) for gradient in rest]
        if directs is not None and not rest:
            hidden += gradients[0] * directs.read(t)
        elif masks is not None:
            hidden += tf.where(masks.read(t), tf.zeros_like(gradients[0]), gradients[0])
        return count + 1, tuple(_with_shapes_of(initial, [hidden, *rest])), gates.write(t, gate)

    _, to_initial, gates = tf.while_loop(
        lambda count, *_: count < time,
        body,
        (
            tf.constant(0),
            tuple(tf.zeros_like(state) for state in initial),
            _empty_array(kernel, time),
        ),
        maximum_iterations=time,
    )
    return gates.stack(), to_initial


def _array(values: Tensor) -> Tensor:
    """Unstack values `(time, …)` into a TensorArray."""
    array = tf.TensorArray(values.dtype, size=tf.shape(values)[0], element_shape=values.shape[1:])
    return array.unstack(values)


def _empty_array(like: Tensor, time: Tensor) -> Tensor:
    """Make a TensorArray for values `(batch, width)` of the type and width of another tensor."""
    return tf.TensorArray(like.dtype, size=time, element_shape=[None, like.shape[-1]])


def _with_shapes_of(before: Sequence[Tensor], after: States) -> States:
    """Give states the static shapes of those before: a loop may not lose a batch size that is known."""
    for old, new in zip(before, after, strict=True):
        new.set_shape(old.shape)
    return after
