"""The CRF functions of `tensorflow_addons.text.crf`, on top of `trellis.components.lattice`.

Shapes: `inputs` or `potentials` `(batch, time, tags)`, `sequence_lengths` `(batch,)`, `transition_params`
`(tags, tags)`, `tag_indices` `(batch, time)`, `tag_bitmap` `(batch, time, tags)` booleans. Scores `(batch,)` have the
type of the inputs. Corner cases are those of tensorflow-addons: a sequence of length 0 scores 0, except that decoding
treats it as one time step, and so does `crf_multitag_sequence_score` if there is only one.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trellis.components.lattice import linear_chain, paths
from trellis.components.lattice.operations import argmax
from trellis.components.lattice.recursion import scan
from trellis.components.types import JSON, Emissions, Lengths, Mask, TagIds, TagScores, Tensor, TensorTree

__all__ = [
    "CrfDecodeForwardRnnCell",
    "crf_binary_score",
    "crf_constrained_decode",
    "crf_decode",
    "crf_decode_backward",
    "crf_decode_forward",
    "crf_filtered_inputs",
    "crf_forward",
    "crf_log_likelihood",
    "crf_log_norm",
    "crf_multitag_sequence_score",
    "crf_sequence_score",
    "crf_unary_score",
    "viterbi_decode",
]


def crf_filtered_inputs(inputs: Emissions, tag_bitmap: Mask) -> Emissions:
    """Return the inputs with -inf where a tag is not allowed."""
    inputs = tf.convert_to_tensor(inputs)
    return tf.where(tf.cast(tag_bitmap, tf.bool), inputs, tf.constant(float("-inf"), inputs.dtype))


def crf_sequence_score(
    inputs: Emissions, tag_indices: TagIds, sequence_lengths: Lengths, transition_params: Tensor
) -> Tensor:
    """Return the unnormalised score of the tag sequences."""
    inputs = tf.convert_to_tensor(inputs)
    score = linear_chain.path_score(inputs, tag_indices, *_chain(inputs, sequence_lengths, transition_params))
    return tf.cast(score, inputs.dtype)


def crf_multitag_sequence_score(
    inputs: Emissions, tag_bitmap: Mask, sequence_lengths: Lengths, transition_params: Tensor
) -> Tensor:
    """Return the log of the summed exp-scores of all tag sequences that `tag_bitmap` allows."""
    inputs = tf.convert_to_tensor(inputs)
    lengths = tf.cast(sequence_lengths, tf.int32)
    lengths = tf.where(tf.shape(inputs)[1] == 1, tf.maximum(lengths, 1), lengths)
    return crf_log_norm(crf_filtered_inputs(inputs, tag_bitmap), lengths, transition_params)


def crf_log_norm(inputs: Emissions, sequence_lengths: Lengths, transition_params: Tensor) -> Tensor:
    """Return the log of the summed exp-scores of all tag sequences."""
    inputs = tf.convert_to_tensor(inputs)
    total = linear_chain.log_partition(inputs, *_chain(inputs, sequence_lengths, transition_params))
    return tf.cast(total, inputs.dtype)


def crf_log_likelihood(
    inputs: Emissions, tag_indices: TagIds, sequence_lengths: Lengths, transition_params: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the log-likelihood of the tag sequences, and the transitions: a new variable by default."""
    inputs = tf.convert_to_tensor(inputs)
    if transition_params is None:
        size = inputs.shape[2]
        transition_params = tf.Variable(keras.initializers.GlorotUniform()((size, size)), name="transitions")
    transition_params = tf.cast(transition_params, inputs.dtype)
    score = crf_sequence_score(inputs, tag_indices, sequence_lengths, transition_params)
    return score - crf_log_norm(inputs, sequence_lengths, transition_params), transition_params


def crf_unary_score(tag_indices: TagIds, sequence_lengths: Lengths, inputs: Emissions) -> Tensor:
    """Return the part of the score that comes from the inputs."""
    size = tf.shape(inputs)[-1]
    return crf_sequence_score(inputs, tag_indices, sequence_lengths, tf.zeros([size, size]))


def crf_binary_score(tag_indices: TagIds, sequence_lengths: Lengths, transition_params: Tensor) -> Tensor:
    """Return the part of the score that comes from the transitions."""
    transition_params = tf.convert_to_tensor(transition_params)
    shape = [*tf.unstack(tf.shape(tag_indices)), transition_params.shape[0]]
    inputs = tf.zeros(shape, transition_params.dtype)
    return crf_sequence_score(inputs, tag_indices, sequence_lengths, transition_params)


def crf_forward(inputs: Emissions, state: Tensor, transition_params: Tensor, sequence_lengths: Lengths) -> Tensor:
    """Return the alpha values `(batch, tags)` at the last time step.

    Args:
        inputs: `(batch, time - 1, tags)`, from the second time step on.
        state: `(batch, tags)`, the inputs of the first time step.
    """
    transition_params = tf.convert_to_tensor(transition_params)

    def step(alphas: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        alphas = inputs + tf.reduce_logsumexp(alphas[:, :, tf.newaxis] + transition_params, axis=1)
        return alphas, alphas

    state = tf.convert_to_tensor(state)
    later = scan(step, state, tf.transpose(inputs, [1, 0, 2]), like=state)
    alphas = tf.transpose(tf.concat([state[tf.newaxis], later], axis=0), [1, 0, 2])
    last = tf.maximum(tf.cast(sequence_lengths, tf.int32) - 1, 0)
    return tf.gather(alphas, last, batch_dims=1)


def viterbi_decode(score: Tensor, transition_params: Tensor) -> tuple[list[int], Any]:
    """Return the best tags of one sequence, a list, and their score.

    Args:
        score: `(time, tags)`.
    """
    score = tf.convert_to_tensor(score)
    tags, best = crf_decode(score[tf.newaxis], transition_params, tf.shape(score)[:1])
    return tags.numpy()[0].tolist(), best.numpy()[0]


@keras.saving.register_keras_serializable("trellis_addons")
class CrfDecodeForwardRnnCell(keras.layers.Layer):
    """One step of `crf_decode_forward`, as a cell for `keras.layers.RNN`.

    Args:
        transition_params: `(tags, tags)`.

    Input: `(batch, tags)`, and the scores of the step before `(batch, tags)`. Output: backpointers `(batch, tags)`,
    int32, and the scores of this step.
    """

    def __init__(self, transition_params: Tensor, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._transition_params = tf.convert_to_tensor(transition_params)
        self._num_tags = int(self._transition_params.shape[0])

    @property
    def state_size(self) -> int:
        """The number of tags."""
        return self._num_tags

    @property
    def output_size(self) -> int:
        """The number of tags."""
        return self._num_tags

    def call(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        before = state[0] if isinstance(state, list | tuple) else state
        scores = tf.expand_dims(before, 2) + tf.cast(self._transition_params, before.dtype)
        after = tf.cast(inputs, before.dtype) + tf.reduce_max(scores, axis=1)
        pointers = tf.argmax(scores, axis=1, output_type=tf.int32)
        return pointers, [after] if isinstance(state, list | tuple) else after

    def get_config(self) -> JSON:
        return {**super().get_config(), "transition_params": self._transition_params.numpy().tolist()}

    @classmethod
    def from_config(cls, config: JSON) -> "CrfDecodeForwardRnnCell":
        config = dict(config)
        return cls(np.asarray(config.pop("transition_params"), np.float32), **config)


def crf_decode_forward(
    inputs: Emissions, state: Tensor, transition_params: Tensor, sequence_lengths: Lengths
) -> tuple[Tensor, Tensor]:
    """Return backpointers `(batch, time, tags)`, 0 at padding, and the last scores `(batch, tags)`.

    Args:
        inputs: `(batch, time, tags)`, from the second time step on; the lengths are counted from there.
        state: `(batch, tags)`, the inputs of the first time step.
    """
    state, transition_params = tf.convert_to_tensor(state), tf.convert_to_tensor(transition_params)
    valid = tf.transpose(tf.sequence_mask(sequence_lengths, tf.shape(inputs)[1]))[..., tf.newaxis]

    def step(state: Tensor, values: TensorTree) -> tuple[Tensor, TensorTree]:
        inputs, valid = values
        scores = state[:, tf.newaxis, :] + tf.transpose(transition_params)
        pointers = tf.where(valid, argmax(scores), 0)
        state = tf.where(valid, inputs + tf.reduce_max(scores, axis=-1), state)
        return state, (pointers, state)

    like = (tf.cast(state, tf.int32), state)
    pointers, states = scan(step, state, (tf.transpose(inputs, [1, 0, 2]), valid), like=like)
    return tf.transpose(pointers, [1, 0, 2]), tf.concat([state[tf.newaxis], states], axis=0)[-1]


def crf_decode_backward(inputs: Tensor, state: Tensor) -> Tensor:
    """Return tags `(batch, time, 1)` from backpointers.

    Args:
        inputs: backpointers `(batch, time, tags)`, the last time step first.
        state: `(batch, 1)`, the last tag.
    """

    def step(tag: Tensor, pointers: Tensor) -> tuple[Tensor, Tensor]:
        tag = tf.gather(pointers, tag, batch_dims=1)
        return tag, tag

    state = tf.cast(state, tf.int32)
    pointers = tf.cast(tf.transpose(inputs, [1, 0, 2]), tf.int32)
    return tf.transpose(scan(step, state, pointers, like=state), [1, 0, 2])


def crf_decode(potentials: Emissions, transition_params: Tensor, sequence_length: Lengths) -> tuple[TagIds, Tensor]:
    """Return the best tags `(batch, time)` int32 and their scores `(batch,)`."""
    potentials = tf.convert_to_tensor(potentials)
    lengths = tf.maximum(tf.cast(sequence_length, tf.int32), 1)
    tags, score = paths.viterbi(potentials, *_chain(potentials, lengths, transition_params))
    return tags, tf.cast(score, potentials.dtype)


def crf_constrained_decode(
    potentials: Emissions, tag_bitmap: Mask, transition_params: Tensor, sequence_length: Lengths
) -> tuple[TagIds, Tensor]:
    """Return the best tags and their scores among the sequences that `tag_bitmap` allows."""
    return crf_decode(crf_filtered_inputs(potentials, tag_bitmap), transition_params, sequence_length)


def _chain(
    inputs: Emissions, sequence_lengths: Lengths, transition_params: Tensor
) -> tuple[Lengths, Tensor, TagScores, TagScores]:
    """Return lengths, transitions and (zero) boundaries as the lattice expects them."""
    zeros = tf.zeros(tf.shape(inputs)[-1:], inputs.dtype)
    return tf.cast(sequence_lengths, tf.int32), transition_params, zeros, zeros
