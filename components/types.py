"""Names for what flows through the functions and layers of Trellis; axes are those of the docstrings.

Tensors belong to the Keras backend (`tf.Tensor`, `jax.Array`, `torch.Tensor`), none of which is typed: to a type
checker a `Tensor` is anything, and the aliases tell a reader which one it is.
"""

import os
from typing import Any, TypeAlias

Tensor: TypeAlias = Any

Emissions: TypeAlias = Tensor  # (batch, time, tags) floats: the score of each tag at each time step
Transitions: TypeAlias = Tensor  # (tags, tags), or (time - 1, tags, tags), or (batch, time - 1, tags, tags) floats
TagScores: TypeAlias = Tensor  # (tags,) floats: of the first or of the last tag
Lengths: TypeAlias = Tensor  # (batch,) int32: real time steps of each sequence
Mask: TypeAlias = Tensor  # (batch, time) booleans: True at real time steps
TagIds: TypeAlias = Tensor  # (batch, time) int32
TokenIds: TypeAlias = Tensor  # (batch, time) int32, 0 at padding
Strings: TypeAlias = Tensor  # of tf.string
States: TypeAlias = list[Tensor]  # (batch, units) each
TensorTree: TypeAlias = Any  # a tensor, or a (nested) tuple of tensors
Seed: TypeAlias = Any  # an integer, a keras.random.SeedGenerator, or None
Shape: TypeAlias = tuple[Any, ...]  # of integers, None where a size is unknown

JSON: TypeAlias = dict[str, Any]

Link: TypeAlias = tuple[int, int]  # (source position, target position), from 0
FilePath: TypeAlias = str | os.PathLike[str]
Dataset: TypeAlias = Any  # a tf.data.Dataset
