"""Text from language models, in graph: sampling and beam search."""

from collections.abc import Iterable
from typing import Protocol

import tensorflow as tf

from trellis.components import beam_search
from trellis.components.beam_search import NEVER
from trellis.components.types import Lengths, States, Tensor, TokenIds


class Generator(Protocol):
    """What generation needs of a model; see `trellis.components.models.language_model.LanguageModel`.

    Attributes:
        vocabulary: number of ids; 0 is padding.
    """

    vocabulary: int

    def initial_states(self, batch: Tensor) -> States:
        """Return the states before anything was read."""

    def read(self, tokens: TokenIds, states: States, lengths: Lengths | None = None) -> tuple[Tensor, States]:
        """Read on; return features and states."""

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Return the log-probability of every id."""


def after(model: Generator, tokens: TokenIds, lengths: Lengths) -> tuple[Tensor, States]:
    """Read prompts.

    Args:
        tokens: `(batch, time)` ids, padded on the right.
        lengths: `(batch,)`, at least 1.

    Returns:
        The features after the last token of each prompt, `(batch, …)`, and the states.
    """
    features, states = model.read(tokens, model.initial_states(tf.shape(tokens)[0]), lengths)
    return tf.gather(features, lengths - 1, batch_dims=1), states


def sample(
    model: Generator,
    tokens: TokenIds,
    lengths: Lengths,
    seeds: Tensor,
    *,
    count: int | Tensor,
    temperature: float | Tensor = 1.0,
    top_k: int | Tensor = 0,
    top_p: float | Tensor = 1.0,
    repetition: float | Tensor = 0.0,
    banned: Iterable[int] = (),
    end: int | None = None,
) -> TokenIds:
    """Continue prompts, word by word drawn from the model.

    A row depends on its prompt and its seed only, not on the other rows of the batch.

    Args:
        tokens: `(batch, time)` ids of the prompts, padded on the right.
        lengths: `(batch,)`, at least 1.
        seeds: `(batch,)` integers.
        count: number of tokens to generate, at most.
        temperature: divisor of the log-probabilities; 0: always take the most probable word.
        top_k: draw from this many most probable words (Fan et al. 2018); 0: from all.
        top_p: draw from the most probable words that together reach this probability (Holtzman et al. 2020).
        repetition: nats that a word loses for having been generated before.
        banned: ids that are never generated.
        end: id after which a row is finished; None: no row finishes early.

    Returns:
        Ids `(batch, generated)`, the end included, 0 after it.
    """
    batch = tf.shape(tokens)[0]
    temperature, top_p, repetition = (tf.cast(value, tf.float32) for value in (temperature, top_p, repetition))
    top_k, count = tf.cast(top_k, tf.int32), tf.cast(count, tf.int32)
    # One uniform number per word: its position in the cumulative probabilities.
    pairs = tf.stack([tf.cast(seeds, tf.int64), tf.zeros_like(seeds, tf.int64)], axis=1)
    draws = tf.map_fn(
        lambda pair: tf.random.stateless_uniform([count], pair),
        pairs,
        fn_output_signature=tf.TensorSpec([None], tf.float32),
    )
    never = ruled_out(model.vocabulary, banned)

    def step(
        index: Tensor, features: Tensor, states: States, finished: Tensor, seen: Tensor, generated: Tensor
    ) -> tuple[Tensor, Tensor, States, Tensor, Tensor, Tensor]:
        scores = model.log_probabilities(features) + never - repetition * seen
        word = tf.cond(
            temperature > 0,
            lambda: _draw(_truncated(scores / temperature, top_k, top_p), draws[:, index]),
            lambda: tf.argmax(scores, axis=-1, output_type=tf.int32),
        )
        word = tf.where(finished, 0, word)
        if end is not None:
            finished |= word == end
        seen = tf.cond(repetition > 0, lambda: tf.maximum(seen, tf.one_hot(word, model.vocabulary)), lambda: seen)
        following, states = model.read(word[:, tf.newaxis], states)
        return index + 1, following[:, 0], states, finished, seen, generated.write(index, word)

    features, states = after(model, tokens, lengths)
    # Which words were generated; a single row of zeros if repetition costs nothing.
    seen = tf.zeros([tf.where(repetition > 0, batch, 1), model.vocabulary])
    *_, generated = tf.while_loop(
        lambda index, features, states, finished, *_: (index < count) & ~tf.reduce_all(finished),
        step,
        (
            0,
            features,
            states,
            tf.zeros([batch], tf.bool),
            seen,
            tf.TensorArray(tf.int32, 0, dynamic_size=True, element_shape=[None]),
        ),
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([None, *features.shape[1:]]),
            [tf.TensorShape([None, *state.shape[1:]]) for state in states],
            tf.TensorShape([None]),
            tf.TensorShape([None, model.vocabulary]),
            tf.TensorShape(None),
        ),
    )
    return tf.transpose(tf.reshape(generated.stack(), [-1, batch]))


def ruled_out(vocabulary: int, banned: Iterable[int]) -> Tensor:
    """Return what to add to scores `(batch, vocabulary)` to rule out padding and banned ids, `(vocabulary,)`."""
    return tf.reduce_sum(tf.one_hot([0, *banned], vocabulary, on_value=NEVER), axis=0)


def _truncated(scores: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Lower the scores `(batch, vocabulary)` of the words that top-k and top-p exclude."""

    def truncate() -> Tensor:
        ordered = tf.sort(scores, direction="DESCENDING")
        size = tf.shape(scores)[1]
        kth = tf.where(top_k > 0, tf.minimum(top_k, size), size) - 1
        lowest = ordered[:, kth]
        probabilities = tf.nn.softmax(ordered)
        # The words before which less than top_p was reached; always the first one.
        kept = tf.cumsum(probabilities, axis=1, exclusive=True) < top_p
        last = tf.maximum(tf.reduce_sum(tf.cast(kept, tf.int32), axis=1) - 1, 0)
        lowest = tf.maximum(lowest, tf.gather(ordered, last, batch_dims=1))
        return tf.where(scores >= lowest[:, tf.newaxis], scores, NEVER)

    return tf.cond((top_k > 0) | (top_p < 1), truncate, lambda: scores)


def _draw(scores: Tensor, draws: Tensor) -> Tensor:
    """Return an id for each row: the one whose share of the cumulative probabilities contains the draw, in [0, 1)."""
    cumulative = tf.cumsum(tf.nn.softmax(scores), axis=1)
    below = tf.cast(cumulative <= draws[:, tf.newaxis] * cumulative[:, -1:], tf.int32)
    # Rounding may leave the last share slightly too small; then take the last word that has any probability.
    possible = tf.cast(scores > NEVER / 2, tf.int32)
    last = tf.reduce_max(possible * tf.range(tf.shape(scores)[1]), axis=1)
    return tf.minimum(tf.reduce_sum(below, axis=1), last)


def best_continuation(
    model: Generator,
    tokens: TokenIds,
    lengths: Lengths,
    *,
    count: int | Tensor,
    width: int | Tensor = 4,
    banned: Iterable[int] = (),
    end: int | None = None,
) -> tuple[TokenIds, Tensor]:
    """Return the most probable continuation that a beam finds.

    With an `end`, hypotheses that have reached it compete by log-probability per word, so that length is no handicap.
    See `trellis.components.beam_search`.

    Args:
        model, tokens, lengths, count, banned, end: as for `sample`.
        width: number of hypotheses to keep.

    Returns:
        Ids `(batch, time)`, at most `count` wide, 0 after the end; and log-probabilities `(batch,)`, in nats.
    """
    features, states = after(model, tokens, lengths)

    def step(words: Tensor, states: States) -> tuple[Tensor, States]:
        features, states = model.read(words[:, tf.newaxis], states)
        return model.log_probabilities(features[:, 0]), states

    found = beam_search.beam_search(
        step,
        model.log_probabilities(features),
        states,
        count=count,
        width=width,
        end=end,
        banned=ruled_out(model.vocabulary, banned),
        # Without an end all continuations are equally long.
        alpha=0.0 if end is None else 1.0,
    )
    return found.ids[:, 0], found.log_probabilities[:, 0]
