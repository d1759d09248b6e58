"""Learning rates of pretrained weights: lower than those of new ones, or zero at first."""

import keras
import tensorflow as tf


class PretrainedRates(keras.callbacks.Callback):
    """Multiplies the learning rate of groups of weights; any Keras optimizer.

    Args:
        groups: lists of variables, from the output downwards.
        frozen: they are never trained.
        rate: the first group trains at this share of the learning rate, the next at its square, … (Howard and
            Ruder 2018).
        every: the first group starts after that many epochs, the next after as many more; 0: all at once.
    """

    def __init__(self, groups, frozen=False, rate=1.0, every=0):
        super().__init__()
        self.groups, self.frozen, self.rate, self.every = groups, frozen, rate, every
        self.factors = [tf.Variable(0.0, trainable=False) for _ in groups]

    def on_train_begin(self, logs=None):
        """Comes before the training step is traced."""
        # Optimizers are given Keras's variables on some backends, and what is in them on TensorFlow.
        factor_of = {
            number: factor
            for group, factor in zip(self.groups, self.factors, strict=True)
            for each in group
            for number in (id(each), id(each.value))
        }
        optimizer = self.model.optimizer
        update = optimizer.update_step

        def update_step(gradient, variable, learning_rate):
            factor = factor_of.get(id(variable))
            update(gradient, variable, learning_rate if factor is None else learning_rate * factor)

        # On this optimizer alone, not in its class: it is saved and loaded as what it is.
        optimizer.update_step = update_step

    def on_epoch_begin(self, epoch, logs=None):
        for depth, factor in enumerate(self.factors, 1):
            starts = self.every * depth
            factor.assign(0.0 if self.frozen or epoch < starts else self.rate**depth)
