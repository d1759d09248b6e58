"""Schemas of optimizers and of learning-rate schedules."""

from pydantic import Field

from trellis.components.settings import Count, OpenSchema, Positive, PositiveOrZero, Rate, described, optional


class Optimizer(OpenSchema):
    """An optimizer and its arguments."""

    target: str = Field(alias="_target_", description="the class: a keras.optimizers.Optimizer")
    learning_rate: Positive = described("the highest learning rate; schedule says how it changes")
    momentum: Rate = optional("sgd: share of the last step that is kept")
    nesterov: bool = optional("sgd: look ahead before the gradient is taken")
    weight_decay: PositiveOrZero = optional("adamw: share of each weight that a step takes away")
    memory: Count = optional("lbfgs: pairs of steps and gradients, each as large as the weights")


class Schedule(OpenSchema):
    """How the learning rate changes."""

    target: str = Field(alias="_target_", description="the function that makes the schedule")
    warmup: Rate = described("share of the training steps over which the rate rises from 0")
    final: PositiveOrZero = optional("cosine, linear: the last rate, as a share of the first")
    decay: Positive = optional("exponential: factor on the rate each epoch")
