"""Schemas of optimizers and of learning-rate schedules."""

from pydantic import Field

from trellis.components.settings import Count, OpenSchema, Positive, PositiveOrZero, Rate, described, optional


class Optimizer(OpenSchema):
    """An optimizer and its arguments."""

    target: str = Field(alias="_target_", description="a subclass of keras.optimizers.Optimizer")
    learning_rate: Positive = described("peak learning rate; schedule defines how it changes")
    momentum: Rate = optional("sgd: momentum")
    nesterov: bool = optional("sgd: Nesterov momentum")
    weight_decay: PositiveOrZero = optional("adamw: weight decay per step")
    memory: Count = optional(
        "lbfgs: number of step and gradient pairs to keep; each takes as much memory as the weights"
    )


class Schedule(OpenSchema):
    """How the learning rate changes."""

    target: str = Field(alias="_target_", description="function that returns the schedule")
    warmup: Rate = described("share of the training steps in which the rate rises from 0")
    final: PositiveOrZero = optional("cosine, linear: final rate as a share of the peak")
    decay: Positive = optional("exponential: factor per epoch")
