"""Text from language models, in graph: sampling and beam search over any reader of `trellis.components.models`.

A reader has `initial_states(batch)`, `read(tokens, states, lengths) -> features, states` and
`log_probabilities(features)`; see `trellis.components.models.language_model`.
"""

import tensorflow as tf

_NEVER = -1e9


def after(reader, tokens, lengths):
    """Reads prompts: the features after their last token `(batch, …)`, and the states.

    Args:
        tokens: `(batch, time)` ids, padded on the right; lengths: `(batch,)`, at least 1.
    """
    features, states = reader.read(tokens, reader.initial_states(tf.shape(tokens)[0]), lengths)
    return tf.gather(features, lengths - 1, batch_dims=1), states


def sample(
    reader, tokens, lengths, seeds, *, count, temperature=1.0, top_k=0, top_p=1.0, repetition=0.0, banned=(), end=None
):
    """Goes on with prompts, word by word drawn from the model.

    A row depends on its prompt and its seed alone, not on the rows beside it.

    Args:
        reader: the model. tokens: `(batch, time)` ids; lengths: `(batch,)`, at least 1.
        seeds: `(batch,)` whole numbers.
        count: tokens to generate, at most.
        temperature: what log-probabilities are divided by; 0: always the most probable word.
        top_k: draw from that many most probable words (Fan et al. 2018); 0: from all.
        top_p: draw from the most probable words that together reach this probability (Holtzman et al. 2020).
        repetition: nats that a word loses for having been generated before.
        banned: ids that are never generated.
        end: id after which a row is finished; None: it never is.

    Returns:
        ids `(batch, generated)`, 0 after the end; the end itself is among them.
    """
    batch = tf.shape(tokens)[0]
    temperature, top_p, repetition = (tf.cast(each, tf.float32) for each in (temperature, top_p, repetition))
    top_k, count = tf.cast(top_k, tf.int32), tf.cast(count, tf.int32)
    # One number a word: where in the cumulated probabilities it lies.
    pairs = tf.stack([tf.cast(seeds, tf.int64), tf.zeros_like(seeds, tf.int64)], axis=1)
    draws = tf.map_fn(
        lambda pair: tf.random.stateless_uniform([count], pair),
        pairs,
        fn_output_signature=tf.TensorSpec([None], tf.float32),
    )
    never = _never(reader, banned)

    def step(number, features, states, finished, seen, generated):
        scores = reader.log_probabilities(features) + never - repetition * seen
        word = tf.cond(
            temperature > 0,
            lambda: _draw(_likely(scores / temperature, top_k, top_p), draws[:, number]),
            lambda: tf.argmax(scores, axis=-1, output_type=tf.int32),
        )
        word = tf.where(finished, 0, word)
        if end is not None:
            finished |= word == end
        seen = tf.cond(repetition > 0, lambda: tf.maximum(seen, tf.one_hot(word, reader.vocabulary)), lambda: seen)
        following, states = reader.read(word[:, tf.newaxis], states)
        return number + 1, following[:, 0], states, finished, seen, generated.write(number, word)

    features, states = after(reader, tokens, lengths)
    # Which words were generated: a row of zeros will do where nobody asks.
    seen = tf.zeros([tf.where(repetition > 0, batch, 1), reader.vocabulary])
    *_, generated = tf.while_loop(
        lambda number, features, states, finished, *_: (number < count) & ~tf.reduce_all(finished),
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
            tf.TensorShape([None, reader.vocabulary]),
            tf.TensorShape(None),
        ),
    )
    return tf.transpose(tf.reshape(generated.stack(), [-1, batch]))


def _never(reader, banned):
    """What keeps padding and banned ids from being generated, to be added to scores."""
    return tf.reduce_sum(tf.one_hot([0, *banned], reader.vocabulary, on_value=_NEVER), axis=0)


def _likely(scores, top_k, top_p):
    """Scores `(batch, vocabulary)`, low for words that top-k and top-p leave out."""

    def cut():
        ordered = tf.sort(scores, direction="DESCENDING")
        size = tf.shape(scores)[1]
        kth = tf.where(top_k > 0, tf.minimum(top_k, size), size) - 1
        lowest = ordered[:, kth]
        probabilities = tf.nn.softmax(ordered)
        # The words before which less than top_p was reached; the first one always.
        kept = tf.cumsum(probabilities, axis=1, exclusive=True) < top_p
        last = tf.maximum(tf.reduce_sum(tf.cast(kept, tf.int32), axis=1) - 1, 0)
        lowest = tf.maximum(lowest, tf.gather(ordered, last, batch_dims=1))
        return tf.where(scores >= lowest[:, tf.newaxis], scores, _NEVER)

    return tf.cond((top_k > 0) | (top_p < 1), cut, lambda: scores)


def _draw(scores, draws):
    """An id for each row: the one in whose share of the cumulated probabilities the draw, in [0, 1), lies."""
    cumulated = tf.cumsum(tf.nn.softmax(scores), axis=1)
    below = tf.cast(cumulated <= draws[:, tf.newaxis] * cumulated[:, -1:], tf.int32)
    # Rounding may leave the last share a hair too small: the last word with any probability then.
    possible = tf.cast(scores > _NEVER / 2, tf.int32)
    last = tf.reduce_max(possible * tf.range(tf.shape(scores)[1]), axis=1)
    return tf.minimum(tf.reduce_sum(below, axis=1), last)


def beam_search(reader, tokens, lengths, *, count, width=4, banned=(), end=None):
    """The most probable continuation that a beam finds.

    With an `end`, hypotheses that have reached it compete by log-probability a word, so that length is no handicap.

    Args:
        reader, tokens, lengths, count, banned, end: as of `sample`. width: hypotheses that are kept.

    Returns:
        ids `(batch, count)`, 0 after the end; log-probabilities `(batch,)`, in nats.
    """
    batch, vocabulary = tf.shape(tokens)[0], reader.vocabulary
    count, width = tf.cast(count, tf.int32), tf.cast(width, tf.int32)
    never = _never(reader, banned)
    # A finished hypothesis goes on with padding alone, for nothing.
    padding = tf.one_hot(0, vocabulary, on_value=0.0, off_value=_NEVER)

    def spread(values):
        return tf.repeat(values, width, axis=0)

    features, states = after(reader, tokens, lengths)
    features, states = spread(features), [spread(state) for state in states]
    scores = tf.tile(tf.concat([[0.0], tf.fill([width - 1], _NEVER)], 0)[tf.newaxis], [batch, 1])

    def step(number, features, states, scores, finished, words):
        flat = tf.reshape(finished, [-1])
        following = reader.log_probabilities(features) + never
        following = tf.where(flat[:, tf.newaxis], padding, following)
        total = tf.reshape(scores[:, :, tf.newaxis] + tf.reshape(following, [batch, width, vocabulary]), [batch, -1])
        lengths = tf.reduce_sum(tf.cast(words != 0, tf.float32), axis=2)
        lengths = tf.maximum(lengths + tf.cast(~finished, tf.float32), 1.0)
        by_length = total / tf.repeat(lengths, vocabulary, axis=1) if end is not None else total
        chosen = tf.math.top_k(by_length, width).indices
        scores = tf.gather(total, chosen, batch_dims=1)
        parents, word = chosen // vocabulary, chosen % vocabulary
        rows = tf.reshape(tf.range(batch)[:, tf.newaxis] * width + parents, [-1])
        words = tf.concat([tf.gather(words, parents, batch_dims=1), word[:, :, tf.newaxis]], axis=2)
        finished = tf.gather(finished, parents, batch_dims=1)
        if end is not None:
            finished |= word == end
        after_word, states = reader.read(tf.reshape(word, [-1, 1]), [tf.gather(state, rows) for state in states])
        return number + 1, after_word[:, 0], states, scores, finished, words

    _, _, _, scores, _, words = tf.while_loop(
        lambda number, features, states, scores, finished, words: (number < count) & ~tf.reduce_all(finished),
        step,
        (0, features, states, scores, tf.zeros([batch, width], tf.bool), tf.zeros([batch, width, 0], tf.int32)),
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([None, *features.shape[1:]]),
            [tf.TensorShape([None, *state.shape[1:]]) for state in states],
            tf.TensorShape([None, None]),
            tf.TensorShape([None, None]),
            tf.TensorShape([None, None, None]),
        ),
    )
    return words[:, 0], scores[:, 0]
