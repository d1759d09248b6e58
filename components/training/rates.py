"""Learning rates of pretrained weights: lower than those of new weights, or zero at first."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from trellis.components.types import JSON, Tensor


class PretrainedRates(keras.callbacks.Callback):
    """Scale the learning rate of groups of weights, with any Keras optimizer.

    Args:
        groups: lists of variables, from the output downwards.
        frozen: never train them.
        rate: the first group trains at this share of the learning rate, the next at its square, … (Howard and Ruder
            2018).
        every: start the first group after this many epochs, the next after as many more; 0: start all at once.
    """

    def __init__(
        self, groups: Sequence[Iterable[Any]], frozen: bool = False, rate: float = 1.0, every: int = 0
    ) -> None:
        super().__init__()
        self.groups, self.frozen, self.rate, self.every = groups, frozen, rate, every
        self.is_installed = False
        self.factors = [tf.Variable(0.0, trainable=False) for _ in groups]

    def on_train_begin(self, logs: JSON | None = None) -> None:
        """Wrap the optimizer's update, once; called before the training step is traced."""
        if self.is_installed:
            return
        self.is_installed = True
        # Optimizers receive Keras variables on some backends, and their values on TensorFlow.
        factors = {
            identity: factor
            for group, factor in zip(self.groups, self.factors, strict=True)
            for variable in group
            for identity in (id(variable), id(variable.value))
        }
        optimizer = self.model.optimizer
        update = optimizer.update_step

        def update_step(gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
            factor = factors.get(id(variable))
            update(gradient, variable, learning_rate if factor is None else learning_rate * factor)

        # On this optimizer only, not in its class, so that it is saved and loaded as what it is.
        optimizer.update_step = update_step

    def on_epoch_begin(self, epoch: int, logs: JSON | None = None) -> None:
        for depth, factor in enumerate(self.factors, 1):
            start = self.every * depth
            factor.assign(0.0 if self.frozen or epoch < start else self.rate**depth)
