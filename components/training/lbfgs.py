"""Limited-memory BFGS (Liu and Nocedal 1989) as a Keras optimizer: one evaluation of the whole gradient per epoch."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from trellis.components.types import JSON, Tensor

# A step may end where the slope is upwards by at most this share of the downward slope at its start.
CURVATURE = 0.5


@keras.saving.register_keras_serializable("trellis")
class LBFGS(keras.optimizers.Optimizer):
    """For smooth convex losses without noise, such as those of log-linear models: no dropout, no absolute values.

    Each epoch is one evaluation of loss and gradient. A step that went too far is shortened by the secant rule, which
    needs only slopes: where the slope at its end is downwards, a convex loss has fallen.

    Args:
        steps: number of batches in an epoch; the mean of their gradients is the gradient of the loss.
        learning_rate: length of the first attempt at each step, 1 being Newton's.
        memory: number of pairs of steps and gradient differences to keep, each as large as the weights.
    """

    def __init__(
        self, steps: int, learning_rate: float = 1.0, memory: int = 6, name: str = "lbfgs", **kwargs: Any
    ) -> None:
        if kwargs.get("clipnorm") or kwargs.get("global_clipnorm") or kwargs.get("clipvalue"):
            raise ValueError("L-BFGS needs unclipped gradients; set trainer.clip_norm=null")
        if kwargs.get("use_ema"):
            raise ValueError("L-BFGS has nothing to average; set trainer.average=null")
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.steps, self.memory = steps, memory

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self.sums = [self.add_variable_from_reference(variable, name="sum") for variable in variables]
        size = sum(math.prod(variable.shape) for variable in variables)

        def vector(name: str, *shape: int) -> Any:
            return self.add_variable(shape=(*shape, size), initializer="zeros", name=name)

        self.point, self.gradient, self.direction = map(vector, ("point", "gradient", "direction"))
        self.moves, self.changes = vector("moves", self.memory), vector("changes", self.memory)
        self.length = self.add_variable(shape=(), initializer="ones", name="length")
        self.kept = self.add_variable(shape=(), initializer="zeros", dtype="int32", name="kept")

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        """Add the gradient of a batch to that of the epoch."""
        self.assign_add(self.sums[self._get_variable_index(variable)], gradient)

    def apply(self, grads: Sequence[Tensor], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take the gradient of a batch; after the last batch of an epoch, move the weights."""
        super().apply(grads, trainable_variables)
        done = tf.convert_to_tensor(self.iterations)
        tf.cond(done % self.steps == 0, lambda: self._move(done == self.steps), lambda: tf.constant(0))

    def _move(self, first: Tensor) -> Tensor:
        """End an epoch: shorten the step, or accept it and choose the next direction."""
        gradient = self._flat(self.sums) / self.steps
        for total in self.sums:
            total.assign(tf.zeros_like(total))
        before, direction = tf.convert_to_tensor(self.gradient), tf.convert_to_tensor(self.direction)
        slope, start = _dot(gradient, direction), _dot(before, direction)

        def shorten() -> Tensor:
            share = tf.clip_by_value(tf.math.divide_no_nan(start, start - slope), 0.1, 0.7)
            self.length.assign(self.length * share)
            return self._step()

        def accept() -> Tensor:
            point = self._flat(self._trainable_variables)
            move, change = point - self.point, gradient - before
            # A step without curvature says nothing about the Hessian.
            tf.cond(
                ~first & (_dot(move, change) > 1e-10 * _dot(change, change)),
                lambda: self._remember(move, change),
                lambda: tf.constant(0),
            )
            downwards = self._newton(gradient)
            downwards = tf.where(_dot(downwards, gradient) < 0, downwards, -gradient)
            self.point.assign(point)
            self.gradient.assign(gradient)
            self.direction.assign(downwards)
            unit = tf.minimum(1.0, tf.math.divide_no_nan(1.0, tf.norm(gradient)))
            self.length.assign(tf.where(first, unit, 1.0) * tf.cast(self.learning_rate, "float32"))
            return self._step()

        return tf.cond(~first & (slope > -CURVATURE * start), shorten, accept)

    def _remember(self, move: Tensor, change: Tensor) -> Tensor:
        """Replace the oldest pair."""
        for table, row in ((self.moves, move), (self.changes, change)):
            table.value.scatter_nd_update([[self.kept % self.memory]], row[tf.newaxis])
        self.kept.assign(self.kept + 1)
        return tf.constant(0)

    def _newton(self, gradient: Tensor) -> Tensor:
        """Return minus the inverse Hessian that the kept pairs imply, times the gradient, by the two-loop recursion."""
        rows = [(self.kept - 1 - age) % self.memory for age in range(self.memory)]
        pairs = [(tf.gather(self.moves, row), tf.gather(self.changes, row)) for row in rows]
        shares, rest = [], -gradient
        for move, change in pairs:  # the newest first; a pair that is not there yet is zero and changes nothing
            shares.append(tf.math.divide_no_nan(_dot(move, rest), _dot(move, change)))
            rest -= shares[-1] * change
        move, change = pairs[0]
        scale = tf.math.divide_no_nan(_dot(move, change), _dot(change, change))
        rest *= tf.where(scale > 0, scale, 1.0)
        for share, (move, change) in zip(reversed(shares), reversed(pairs), strict=True):
            rest += (share - tf.math.divide_no_nan(_dot(change, rest), _dot(move, change))) * move
        return rest

    def _step(self) -> Tensor:
        """Set the weights to the point that the next epoch evaluates."""
        point = self.point + self.length * self.direction
        sizes = [math.prod(variable.shape) for variable in self._trainable_variables]
        for variable, part in zip(self._trainable_variables, tf.split(point, sizes), strict=True):
            variable.assign(tf.reshape(part, variable.shape))
        return tf.constant(0)

    @staticmethod
    def _flat(variables: Iterable[Any]) -> Tensor:
        return tf.concat([tf.reshape(tf.convert_to_tensor(variable), [-1]) for variable in variables], axis=0)

    def get_config(self) -> JSON:
        return {**super().get_config(), "steps": self.steps, "memory": self.memory}


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return tf.reduce_sum(first * second)
