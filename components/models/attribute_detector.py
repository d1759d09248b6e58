"""Which attributes a text puts into words, by what training texts say: log-linear, in n-grams of subwords."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from trellis.components.text.subwords import BEGIN, END, PAD, SPECIAL
from trellis.components.types import JSON, Shape, States, Tensor, TokenIds

ROWS = 4093  # of the table that n-grams are hashed into; a prime
LONGEST = 3  # subwords of an n-gram
_FACTOR = 1_000_003  # of the hash: n-grams that share all but one subword get different rows
BATCH, EPOCHS, STEPS, LEARNING_RATE = 512, 3, 250, 0.02


@keras.saving.register_keras_serializable("trellis")
class AttributeDetector(keras.layers.Layer):
    """The log-odds of each attribute given a text: one logistic regression for each attribute.

    Its features are the n-grams of a text, up to three subwords, hashed. Ends of texts do not count, so that a text can
    also be read one token after another (`first`, `after`). Gradients of the model around it do not change it.

    Args:
        attributes: number of attributes, without the special ids.
    """

    def __init__(self, attributes: int, **kwargs: Any) -> None:
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.attributes = attributes

    def build(self, shape: Shape) -> None:
        del shape
        self.kernel = self.add_weight(name="kernel", shape=(ROWS, self.attributes), initializer="zeros")
        self.bias = self.add_weight(name="bias", shape=(self.attributes,), initializer="zeros")

    def call(self, texts: TokenIds) -> Tensor:
        """Return the log-odds of each attribute, `(batch, attributes)`, for texts `(batch, time)`."""
        before = [tf.pad(texts, [[0, 0], [size, 0]])[:, : tf.shape(texts)[1]] for size in range(LONGEST)]
        real = (texts != PAD) & (texts != END)
        weights = tf.where(real[..., tf.newaxis, tf.newaxis], tf.gather(self.kernel, _rows(before)), 0.0)
        return self.bias + tf.reduce_sum(weights, axis=[1, 2])

    def first(self, batch: Tensor) -> States:
        """Return the states before the first token: the log-odds, and the tokens that came last, the latest first."""
        return [tf.tile(self.bias[tf.newaxis], [batch, 1]), tf.fill([batch, LONGEST - 1], PAD)]

    def after(self, tokens: TokenIds, states: States) -> States:
        """Return the states after one more token of each row, `(rows,)`, which must not be the end."""
        log_odds, last = states
        is_word = tokens != BEGIN
        several = tf.concat([tf.where(is_word, tokens, PAD)[:, tf.newaxis], last], axis=1)
        weights = tf.reduce_sum(tf.gather(self.kernel, _rows(tf.unstack(several, axis=1))), axis=1)
        return [log_odds + tf.where(is_word[:, tf.newaxis], weights, 0.0), several[:, :-1]]

    def present(self, source: TokenIds) -> Tensor:
        """Return which attributes sources `(batch, source)` have, `(batch, attributes)`, 1 or 0."""
        # What is negative or unknown is no attribute.
        return tf.reduce_max(tf.one_hot(source - len(SPECIAL), self.attributes), axis=1)

    def fit(self, sources: Callable[[Tensor], Tensor], targets: Callable[[Tensor], Tensor], texts: int) -> None:
        """Learn from pairs of attributes and a text.

        Args:
            sources: returns the ids of attributes, `(rows, source)`, for the indices of pairs `(rows,)`.
            targets: returns the ids of texts, `(rows, time)`.
            texts: number of pairs.
        """
        optimizer = keras.optimizers.Adam(LEARNING_RATE)
        optimizer.build([self.kernel, self.bias])
        weights = [self.kernel.value, self.bias.value]

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)
        def step(rows: Tensor) -> None:
            present = self.present(sources(rows))
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(weights)
                losses = tf.nn.sigmoid_cross_entropy_with_logits(present, self(targets(rows)))
                loss = tf.reduce_mean(tf.reduce_sum(losses, axis=1))
            gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, weights)]
            optimizer.apply(gradients, [self.kernel, self.bias])

        random, order = np.random.default_rng(0), np.zeros(0, np.int32)
        for _ in range(max(STEPS, EPOCHS * texts // BATCH)):
            if len(order) < min(BATCH, texts):
                order = random.permutation(texts).astype(np.int32)
            step(order[:BATCH])
            order = order[BATCH:]

    def get_config(self) -> JSON:
        return {"attributes": self.attributes, "name": self.name}


class Channel(NamedTuple):
    """The log-probability of the attributes given the text, as the channel model of a noisy channel.

    The attributes that a source lacks count too: a text should not speak of them.

    Attributes:
        detector: computes it.
        present: which attributes the sources have, `(batch, attributes)`, 1 or 0.
        weight: factor, a scalar.
    """

    detector: AttributeDetector
    present: Tensor
    weight: float | Tensor

    def first(self) -> States:
        return self.detector.first(tf.shape(self.present)[0])

    def after(self, tokens: TokenIds, attention: Tensor | None, states: States) -> States:
        del attention
        return self.detector.after(tokens, states)

    def of(self, states: States) -> Tensor:
        log_odds, _ = states
        present = tf.repeat(self.present, tf.shape(log_odds)[0] // tf.shape(self.present)[0], axis=0)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(present, log_odds)
        return -tf.cast(self.weight, tf.float32) * tf.reduce_sum(losses, axis=1)


def _rows(before: list[Tensor]) -> Tensor:
    """Return the rows of the n-grams that end at each token, `(…, LONGEST)`.

    Args:
        before: the tokens, the tokens before them, those before these, …, in the same shape.
    """
    rows, code = [], tf.zeros_like(before[0], tf.int64)
    for size, tokens in enumerate(before, 1):
        code = code * _FACTOR + tf.cast(tokens, tf.int64)
        rows.append(tf.math.floormod(code + size, ROWS))
    return tf.stack(rows, axis=-1)
