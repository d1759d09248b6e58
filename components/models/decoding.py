"""Sequences from an `EncoderDecoder`, in graph: beam search, sampling, and the attention of given targets."""

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import tensorflow as tf

from trellis.components import beam_search, generation
from trellis.components.beam_search import Hypotheses
from trellis.components.models.encoder_decoder import EncoderDecoder, Memory
from trellis.components.text.subwords import BEGIN, END, PAD
from trellis.components.types import Lengths, States, Tensor, TokenIds


class Forced(NamedTuple):
    """What a model computes for given targets.

    Attributes:
        log_probabilities: of each target token, `(batch, time)`, 0 at padding.
        weights: attention when each token is generated, `(batch, time, source)`, or None.
        weights_after: attention of the step after it, `(batch, time, source)`, or None.
    """

    log_probabilities: Tensor
    weights: Any
    weights_after: Any


class Prompted:
    """An encoder-decoder that has read a source, as a language model of its targets.

    Args:
        model: the model.
        memory: of the source.
        first: the states of the decoder before the first token.
    """

    def __init__(self, model: EncoderDecoder, memory: Memory, first: States) -> None:
        self._model, self._memory, self._first = model, memory, first
        self.vocabulary = model.vocabulary

    def initial_states(self, batch: Tensor) -> States:
        """Return the states before the first token."""
        del batch
        return self._first

    def read(self, tokens: TokenIds, states: States, lengths: Lengths | None = None) -> tuple[Tensor, States]:
        """Read one token of each row, `(rows, 1)`; return its features `(rows, 1, dim)` and the states after it."""
        del lengths
        decoded = self._model.decode(tokens, self._memory, states)
        return decoded.features, decoded.states

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Return the log-probability of every id."""
        return self._model.log_probabilities(features)


def longest(source: TokenIds, count: int | Tensor) -> Lengths:
    """Return the maximum tokens of the translation of each source: `count`, or 1.5 × its own + 10 if that is less."""
    lengths = tf.math.count_nonzero(source, axis=1, dtype=tf.float32)
    return tf.minimum(count, tf.cast(1.5 * lengths, tf.int32) + 10)


def translate(
    model: EncoderDecoder,
    encoded: tuple[Memory, States],
    *,
    count: int | Tensor,
    width: int | Tensor = 5,
    best: int | Tensor = 1,
    alpha: float | Tensor = 1.0,
    minimum: int | Tensor = 0,
    no_repeat: int | Tensor = 0,
    banned: Iterable[int] = (),
    **weights: float | Tensor,
) -> Hypotheses:
    """Return the best sequences that a beam finds.

    Args:
        encoded: the sources, from `EncoderDecoder.encode`.
        count: maximum tokens, the end included; of all rows or `(batch,)`.
        width, best, alpha, minimum, no_repeat: see `beam_search`.
        banned: ids that are never generated.
        weights: of `EncoderDecoder.penalties`: `coverage`, and what other models have.
    """
    memory, states = encoded
    penalties = model.penalties(memory, **weights)
    first = [penalty.first() for penalty in penalties]
    sizes = [len(states), *map(len, first)]

    def split(states: States) -> list[States]:
        """Return the states of the model and those of each penalty."""
        ends = itertools.accumulate(sizes)
        return [states[end - size : end] for size, end in zip(sizes, ends, strict=True)]

    def read(tokens: Tensor, states: States) -> tuple[Tensor, States]:
        of_model, *of_penalties = split(states)
        decoded = model.decode(tokens[:, tf.newaxis], memory, of_model)
        attention = None if decoded.weights is None else decoded.weights[:, 0]
        after = [
            penalty.after(tokens, attention, before) for penalty, before in zip(penalties, of_penalties, strict=True)
        ]
        return model.softmax.scores(decoded.features[:, 0]), [*decoded.states, *itertools.chain(*after)]

    def penalize(states: States) -> Tensor:
        _, *of_penalties = split(states)
        return tf.add_n([penalty.of(own) for penalty, own in zip(penalties, of_penalties, strict=True)])

    begin = tf.fill([tf.shape(memory.mask)[0]], BEGIN)
    scores, states = read(begin, [*states, *itertools.chain(*first)])
    return beam_search.beam_search(
        read,
        scores,
        states,
        count=count,
        width=width,
        best=best,
        end=END,
        banned=generation.ruled_out(model.vocabulary, (BEGIN, *banned)),
        alpha=alpha,
        minimum=minimum,
        no_repeat=no_repeat,
        penalty=penalize if penalties else None,
    )


def sample(
    model: EncoderDecoder,
    encoded: tuple[Memory, States],
    seeds: Tensor,
    *,
    count: int | Tensor,
    temperature: float | Tensor = 1.0,
    top_k: int | Tensor = 0,
    top_p: float | Tensor = 1.0,
    banned: Iterable[int] = (),
) -> TokenIds:
    """Sample sequences from the model, `(batch, time)`; see `generation.sample`.

    Args:
        encoded: the sources, from `EncoderDecoder.encode`.
    """
    begin = tf.fill([tf.shape(seeds)[0], 1], BEGIN)
    prompted = Prompted(model, *encoded)
    return generation.sample(
        prompted,
        begin,
        tf.ones_like(begin[:, 0]),
        seeds,
        count=count,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        banned=(BEGIN, *banned),
        end=END,
    )


def force(model: EncoderDecoder, encoded: tuple[Memory, States], target: TokenIds) -> Forced:
    """Return what a model computes for given targets.

    Args:
        encoded: the sources, from `EncoderDecoder.encode`.
        target: `(batch, time)`, the end included, 0 after it; or `(batch, best, time)`, several of each source.
    """
    memory, states = encoded
    flat = tf.reshape(target, [-1, tf.shape(target)[-1]])
    several = tf.shape(flat)[0] // tf.shape(memory.mask)[0]
    memory = Memory(*(tf.repeat(part, several, axis=0) for part in memory))
    states = [tf.repeat(state, several, axis=0) for state in states]
    before = tf.pad(flat[:, :-1], [[0, 0], [1, 0]], constant_values=BEGIN)
    # One more step, after the last token.
    before = tf.concat([before, flat[:, -1:]], axis=1)
    decoded = model.decode(before, memory, states)
    scores = model.softmax.token_log_probabilities(decoded.features[:, :-1], flat)
    scores = tf.reshape(tf.where(flat == PAD, 0.0, scores), tf.shape(target))
    if decoded.weights is None:
        return Forced(scores, None, None)
    shape = tf.concat([tf.shape(target), tf.shape(memory.mask)[1:]], axis=0)
    weights = tf.cast(decoded.weights, tf.float32)
    return Forced(scores, tf.reshape(weights[:, :-1], shape), tf.reshape(weights[:, 1:], shape))
