"""Beam search, in graph, over any model that reads one token after another."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from trellis.components.types import States, Tensor, TokenIds

NEVER = -1e9
_IMPOSSIBLE = NEVER / 2  # log-probabilities below it are those of hypotheses that do not exist
_UNFINISHED = -1e6  # puts hypotheses that were cut off behind all that reached the end

# Reads one token of each row, `(rows,)`; returns scores of all tokens `(rows, vocabulary)`, which need not be
# normalized, and the states of the rows.
Step = Callable[[Tensor, States], tuple[Tensor, States]]


class Hypotheses(NamedTuple):
    """The best hypotheses of each row of a batch, best first.

    Attributes:
        ids: `(batch, best, time)` int32, the end included, 0 after it.
        scores: what they are ordered by, `(batch, best)`.
        log_probabilities: `(batch, best)`, in nats.
    """

    ids: TokenIds
    scores: Tensor
    log_probabilities: Tensor


def beam_search(
    step: Step,
    scores: Tensor,
    states: States,
    *,
    count: int | Tensor,
    width: int | Tensor = 4,
    best: int | Tensor = 1,
    end: int | None = None,
    banned: Tensor | float = 0.0,
    alpha: float | Tensor = 1.0,
    minimum: int | Tensor = 0,
    no_repeat: int | Tensor = 0,
    penalty: Callable[[States], Tensor] | None = None,
) -> Hypotheses:
    """Return the most probable sequences that a beam finds.

    A hypothesis whose next token is the end is finished and set aside: it no longer takes a place in the beam. Finished
    hypotheses are ordered by `log-probability / length^alpha + penalty`, where the length counts the end. A row is done
    when `width` hypotheses are finished and no open one can overtake the last of the `best`, whatever comes, or at
    `count` tokens; hypotheses that are cut off there come after all finished ones. What a row gets does not depend on
    the other rows.

    Args:
        step: reads on; its rows are `width` hypotheses for each row of the batch.
        scores: scores of the first token, `(batch, vocabulary)`.
        states: of the rows before it, `(batch, …)` each.
        count: maximum tokens of a hypothesis, the end included; of all rows or `(batch,)`.
        width: number of open hypotheses.
        best: number of hypotheses to return, at most `width`.
        end: the id that ends a sequence; None: none does.
        banned: what to add to log-probabilities, `(vocabulary,)`, to rule out tokens.
        alpha: exponent of the length normalization; 0: none, which favours short sequences.
        minimum: minimum tokens before the end.
        no_repeat: no sequence of this many tokens occurs twice in a hypothesis; 0: anything may.
        penalty: of hypotheses, from their states: `(rows,)`, at most 0.
    """
    batch, vocabulary = tf.shape(scores)[0], scores.shape[-1]
    count = tf.broadcast_to(tf.cast(count, tf.int32), [batch])
    width, best, minimum, no_repeat = (tf.cast(value, tf.int32) for value in (width, best, minimum, no_repeat))
    alpha = tf.cast(alpha, tf.float32)
    candidates = tf.minimum(2 * width, vocabulary)
    horizon = tf.pow(tf.cast(count, tf.float32), alpha)[:, tf.newaxis]

    def following(scores: Tensor, words: TokenIds) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and ids of the best continuations of each hypothesis, `(rows, candidates)`."""
        scores = tf.cast(scores, tf.float32)
        total = tf.reduce_logsumexp(scores, axis=-1, keepdims=True)
        # Most tokens are never looked at: the largest scores are found before they are normalized.
        scores += banned
        if end is not None:
            scores += tf.where(tf.shape(words)[2] < minimum, NEVER, 0.0) * tf.one_hot(end, vocabulary)
        scores = tf.cond(
            (no_repeat > 0) & (tf.shape(words)[2] >= no_repeat),
            lambda: _no_repeats(scores, words, no_repeat),
            lambda: scores,
        )
        values, ids = tf.math.top_k(scores, candidates)
        return values - total, ids

    def body(
        index: Tensor,
        scores: Tensor,
        states: States,
        totals: Tensor,
        words: TokenIds,
        finished: tuple[Tensor, Tensor, Tensor, TokenIds],
        done: Tensor,
    ) -> tuple[Tensor, Tensor, States, Tensor, TokenIds, tuple[Tensor, Tensor, Tensor, TokenIds], Tensor]:
        length = index + 1
        values, ids = following(scores, words)
        values = tf.reshape(totals, [-1, 1]) + values
        totals, chosen = tf.math.top_k(tf.reshape(values, [batch, -1]), 2 * width)
        parents, word = chosen // candidates, tf.gather(tf.reshape(ids, [batch, -1]), chosen, batch_dims=1)
        ends = tf.fill(tf.shape(word), False) if end is None else word == end

        # Those that end, or are cut off, among the best `width`.
        last = length >= count
        leaves = (ends | last[:, tf.newaxis])[:, :width] & (totals[:, :width] > _IMPOSSIBLE) & ~done[:, tf.newaxis]
        normalized = totals[:, :width] / tf.pow(tf.cast(length, tf.float32), alpha)
        if penalty is not None:
            of_parents = tf.reshape(penalty(states), [batch, width])
            normalized += tf.gather(of_parents, parents[:, :width], batch_dims=1)
        rank = tf.where(leaves, normalized + tf.where(ends[:, :width], 0.0, _UNFINISHED), NEVER)
        grown = tf.concat([tf.gather(words, parents, batch_dims=1), word[:, :, tf.newaxis]], axis=2)
        ranks, *facts = finished
        ranks, order = tf.math.top_k(tf.concat([ranks, rank], 1), width)
        facts[2] = tf.pad(facts[2], [[0, 0], [0, 0], [0, 1]])
        added = (normalized, totals[:, :width], grown[:, :width])
        facts = [
            tf.gather(tf.concat([old, new], 1), order, batch_dims=1) for old, new in zip(facts, added, strict=True)
        ]

        # The best `width` of the others stay open.
        totals, order = tf.math.top_k(tf.where(ends, NEVER, totals), width)
        parents, word, words = (tf.gather(part, order, batch_dims=1) for part in (parents, word, grown))
        rows = tf.reshape(tf.range(batch)[:, tf.newaxis] * width + parents, [-1])
        # No hypothesis gains by growing, but for its normalization.
        reachable = tf.maximum(totals[:, :1], totals[:, :1] / horizon)[:, 0]
        worst = tf.gather(ranks, tf.fill([batch], best - 1), batch_dims=1)
        done |= last | ((ranks[:, -1] > _IMPOSSIBLE) & (reachable <= worst))
        scores, states = step(tf.reshape(word, [-1]), [tf.gather(state, rows) for state in states])
        return length, scores, states, totals, words, (ranks, *facts), done

    def repeated(values: Tensor) -> Tensor:
        return tf.repeat(values, width, axis=0)

    nothing = tf.fill([batch, width], NEVER)
    # All hypotheses of a row are the same at first: only one may count.
    totals = tf.tile(tf.concat([[0.0], tf.fill([width - 1], NEVER)], 0)[tf.newaxis], [batch, 1])
    words = tf.zeros([batch, width, 0], tf.int32)
    start = (0, repeated(scores), [repeated(state) for state in states], totals, words)
    flat, matrix, cube = tf.TensorShape([None]), tf.TensorShape([None, None]), tf.TensorShape([None, None, None])
    *_, (_, normalized, log_probabilities, words), _ = tf.while_loop(
        lambda *values: ~tf.reduce_all(values[-1]),
        body,
        (*start, (nothing, nothing, nothing, words), tf.zeros([batch], tf.bool)),
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([None, vocabulary]),
            [tf.TensorShape([None, *state.shape[1:]]) for state in states],
            matrix,
            cube,
            (matrix, matrix, matrix, cube),
            flat,
        ),
    )
    return Hypotheses(words[:, :best], normalized[:, :best], log_probabilities[:, :best])


def _no_repeats(scores: Tensor, words: TokenIds, size: Tensor) -> Tensor:
    """Rule out the tokens that would complete a sequence of `size` tokens for the second time.

    Args:
        scores: `(batch × width, vocabulary)`.
        words: `(batch, width, time)`.
    """
    words = tf.reshape(words, [-1, tf.shape(words)[2]])
    starts = tf.shape(words)[1] - size + 1  # positions at which such a sequence begins

    def compare(offset: Tensor, equal: Tensor) -> tuple[Tensor, Tensor]:
        last = words[:, tf.shape(words)[1] - size + 1 + offset]
        return offset + 1, equal & (words[:, offset : offset + starts] == last[:, tf.newaxis])

    _, equal = tf.while_loop(
        lambda offset, _: offset < size - 1,
        compare,
        (0, tf.ones([tf.shape(words)[0], starts], tf.bool)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
    )
    places = tf.cast(tf.where(equal), tf.int32)
    completes = tf.gather_nd(words, tf.stack([places[:, 0], places[:, 1] + size - 1], axis=1))
    return tf.tensor_scatter_nd_min(
        scores, tf.stack([places[:, 0], completes], axis=1), tf.fill([tf.shape(places)[0]], NEVER)
    )
