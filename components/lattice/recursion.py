"""The loop over time on which every recursion runs, for each Keras backend.

This module and `operations` hold everything in the lattice that is specific to a backend. A TensorFlow loop spends
more time on its bookkeeping than on the few small products of one step, so each turn of the loop unrolls several steps,
and inputs and outputs travel in blocks of as many steps.
"""

import functools
import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras
from keras import ops, tree

from trellis.components.lattice.operations import sizes
from trellis.components.types import Tensor, TensorTree

STEPS_A_TURN = 4

Step = Callable[[TensorTree, TensorTree], tuple[TensorTree, TensorTree]]


def use_xla(jit_compile: bool | None = None) -> bool:
    """Return whether to compile recursions with XLA: the argument, or whether TRELLIS_XLA is 1 if it is None.

    Compiled recursions run several times faster; each new shape takes about a second to compile.
    """
    if jit_compile is None:
        return os.environ.get("TRELLIS_XLA") == "1"
    return bool(jit_compile)


def scan(step: Step, initial: TensorTree, inputs: TensorTree, like: TensorTree) -> TensorTree:
    """Apply a function to each time step in turn, passing a carry from one step to the next.

    Args:
        step: `step(carry, inputs of one time step) -> (carry, outputs)`; each may be a tuple of tensors.
        initial: the carry before the first step.
        inputs: tensors `(time, ...)`.
        like: tensors with the types and shapes of the outputs of one step.

    Returns:
        The outputs of all steps, `(time, ...)`.
    """
    if keras.backend.backend() == "jax":
        import jax

        return jax.lax.scan(step, initial, inputs)[1]
    if keras.backend.backend() == "tensorflow":
        return _scan_in_tensorflow(step, initial, inputs, like)
    outputs, carry = [], initial
    for t in range(tree.flatten(inputs)[0].shape[0]):
        carry, output = step(carry, tree.map_structure(lambda values, t=t: values[t], inputs))
        outputs.append(output)
    return tree.map_structure(lambda *steps: ops.stack(steps), *outputs)


def _scan_in_tensorflow(step: Step, initial: TensorTree, inputs: TensorTree, like: TensorTree) -> TensorTree:
    import tensorflow as tf

    time = sizes(tree.flatten(inputs)[0])[0]
    # At least one turn: an empty TensorArray cannot be stacked.
    turns = tf.maximum((time + STEPS_A_TURN - 1) // STEPS_A_TURN, 1)

    def in_blocks(values: Tensor) -> Tensor:
        values = tf.pad(values, [[0, turns * STEPS_A_TURN - time]] + [[0, 0]] * (values.shape.rank - 1))
        shape = values.shape[1:]
        values = tf.reshape(values, [turns, STEPS_A_TURN, *sizes(values)[1:]])
        return tf.TensorArray(values.dtype, size=turns, element_shape=[STEPS_A_TURN, *shape]).unstack(values)

    def blocks_like(values: Tensor) -> Tensor:
        return tf.TensorArray(values.dtype, size=turns, element_shape=[STEPS_A_TURN, *values.shape])

    arrays = [in_blocks(values) for values in tree.flatten(inputs)]

    def body(turn: Tensor, carry: TensorTree, written: list[Tensor]) -> tuple[Tensor, TensorTree, list[Tensor]]:
        outputs = []
        for values in zip(*(tf.unstack(array.read(turn), STEPS_A_TURN) for array in arrays), strict=True):
            before = carry
            carry, output = step(carry, tree.pack_sequence_as(inputs, values))
            for old, new in zip(tree.flatten(before), tree.flatten(carry), strict=True):
                new.set_shape(old.shape)
            outputs.append(tree.flatten(output))
        blocks = [tf.stack(steps) for steps in zip(*outputs, strict=True)]
        return turn + 1, carry, [array.write(turn, block) for array, block in zip(written, blocks, strict=True)]

    written = [blocks_like(values) for values in tree.flatten(like)]
    _, _, written = tf.while_loop(lambda turn, *_: turn < turns, body, (tf.constant(0), initial, written))

    def concatenated(array: Tensor, values: Tensor) -> Tensor:
        blocks = array.stack()
        steps = tf.reshape(blocks, [turns * STEPS_A_TURN, *sizes(blocks)[2:]])[:time]
        steps.set_shape([None, *values.shape])
        return steps

    outputs = [concatenated(array, values) for array, values in zip(written, tree.flatten(like), strict=True)]
    return tree.pack_sequence_as(like, outputs)


def associative_scan(combine: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
    """Return the prefixes `values[0]`, `combine(values[0], values[1])`, …, in `2 log2(time)` rounds.

    `keras.ops.associative_scan` computes the same, but loses static shapes in a TensorFlow graph.

    Args:
        combine: an associative function of two tensors `(time, ...)`, applied along the first axis.
        values: `(time, ...)`; the number of time steps has to be known statically.
    """
    time = values.shape[0]
    if time < 2:
        return values
    odd = associative_scan(combine, combine(values[:-1:2], values[1::2]))
    even = combine(odd[: (time - 1) // 2], values[2::2])
    even = ops.concatenate([values[:1], even], axis=0)
    pairs = ops.stack([even[: time // 2], odd], axis=1)
    return ops.concatenate([ops.reshape(pairs, (-1, *sizes(values)[1:])), even[time // 2 :]], axis=0)


@functools.cache
def has_gpu() -> bool:
    """Return whether this process computes on a GPU."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_logical_devices("GPU"))
    if keras.backend.backend() == "jax":
        import jax

        return bool(jax.default_backend() == "gpu")
    import torch

    return bool(torch.cuda.is_available())


def compiled(
    function: Callable[..., Any], xla: bool, tags_axis: int = -1, fixed_time: bool = False
) -> Callable[..., Any]:
    """Return the function as a graph, traced once for all shapes; XLA compiles it once per shape.

    Args:
        function: a function of tensors.
        xla: compile with XLA (TensorFlow only; JAX always does).
        tags_axis: the tag axis of the first argument.
        fixed_time: whether the graph itself depends on the number of time steps.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return _in_jax(function)
    if backend != "tensorflow":
        return function
    if xla:

        def xla_key(arguments: Sequence[Tensor]) -> Hashable:
            time = arguments[0].shape[1] if fixed_time else None
            return arguments[0].shape[tags_axis], time, *(tensor.shape.rank for tensor in arguments)

        return lambda *arguments: _in_xla(function, xla_key(arguments))(*arguments)
    if fixed_time:
        return function

    def key(arguments: Sequence[Tensor]) -> tuple[tuple[int, Any], ...]:
        return tuple((tensor.shape.rank, tensor.dtype) for tensor in arguments)

    return lambda *arguments: _in_tensorflow(function, key(arguments))(*arguments)


@functools.cache
def _in_jax(function: Callable[..., Any]) -> Callable[..., Any]:
    import jax

    return jax.jit(function)


@functools.cache
def _in_xla(function: Callable[..., Any], key: Hashable) -> Callable[..., Any]:
    """Trace one graph per number of tags and set of ranks, whatever the batch and, unless it is fixed, the time."""
    import tensorflow as tf

    del key
    return tf.function(function, jit_compile=True, reduce_retracing=True, autograph=False)


@functools.cache
def _in_tensorflow(function: Callable[..., Any], ranks: tuple[tuple[int, Any], ...]) -> Callable[..., Any]:
    """Trace one graph for all shapes: each trace costs half a second and some megabytes."""
    import tensorflow as tf

    signature = [tf.TensorSpec([None] * rank, dtype) for rank, dtype in ranks]
    return tf.function(function, input_signature=signature, autograph=False)
