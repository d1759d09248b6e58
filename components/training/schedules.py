"""Learning rates over the steps of a training run; each function returns a rate or a Keras schedule."""

import math

import keras
from keras import ops

from trellis.components.types import JSON, Tensor


@keras.saving.register_keras_serializable("trellis")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises from 0 during the warm-up and then falls along a curve.

    Args:
        rate: the highest rate.
        steps: training steps of the run, at which the curve ends.
        warmup: share of the steps that the rise takes.
        shape: `constant`, `linear`, `cosine` or `exponential`.
        final: the last rate, as a share of the highest.
    """

    def __init__(
        self, rate: float, steps: int, warmup: float = 0.0, shape: str = "constant", final: float = 1.0
    ) -> None:
        self.rate, self.steps, self.warmup, self.shape, self.final = rate, steps, warmup, shape, final

    def __call__(self, step: Tensor) -> Tensor:
        step = ops.cast(step, "float32")
        rising = max(self.warmup * self.steps, 1e-9)
        done = ops.clip((step - self.warmup * self.steps) / max(self.steps - rising, 1.0), 0.0, 1.0)
        if self.shape == "cosine":
            factor = self.final + (1 - self.final) * 0.5 * (1 + ops.cos(math.pi * done))
        elif self.shape == "linear":
            factor = 1 - (1 - self.final) * done
        elif self.shape == "exponential":
            factor = ops.exp(math.log(self.final) * done)
        else:
            factor = ops.ones_like(done)
        if self.warmup:
            factor *= ops.minimum((step + 1) / rising, 1.0)
        return self.rate * factor

    def get_config(self) -> JSON:
        return {
            "rate": self.rate,
            "steps": self.steps,
            "warmup": self.warmup,
            "shape": self.shape,
            "final": self.final,
        }


def constant(rate: float, steps_per_epoch: int, epochs: int, warmup: float = 0.0) -> float | Schedule:
    """Keep the same rate after the warm-up."""
    return Schedule(rate, steps_per_epoch * epochs, warmup) if warmup else rate


def cosine(rate: float, steps_per_epoch: int, epochs: int, warmup: float = 0.0, final: float = 0.0) -> Schedule:
    """Follow half a cosine down to `final` × the rate (Loshchilov and Hutter 2017)."""
    return Schedule(rate, steps_per_epoch * epochs, warmup, "cosine", final)


def linear(rate: float, steps_per_epoch: int, epochs: int, warmup: float = 0.0, final: float = 0.0) -> Schedule:
    """Follow a straight line down to `final` × the rate."""
    return Schedule(rate, steps_per_epoch * epochs, warmup, "linear", final)


def exponential(rate: float, steps_per_epoch: int, epochs: int, warmup: float = 0.0, decay: float = 0.95) -> Schedule:
    """Multiply the rate by `decay` each epoch."""
    return Schedule(rate, steps_per_epoch * epochs, warmup, "exponential", decay**epochs)
