"""A language-model loss as an auxiliary task (Rei 2017): states also have to predict the neighbouring words."""

from typing import Any

import keras
import tensorflow as tf

from trellis.components import workers
from trellis.components.layers.word_softmax import WordSoftmax
from trellis.components.types import JSON, Shape, Tensor, TokenIds


@keras.saving.register_keras_serializable("trellis")
class AuxiliaryLanguageModel(keras.layers.Layer):
    """Return the states unchanged; in training, add the loss of predicting words from them.

    States that were read forwards predict the next word; states that were read backwards predict the previous one.

    Args:
        vocabulary: number of word ids.
        weight: factor on the loss, which is in nats per word.
        bidirectional: whether the first half of the states was read forwards and the second half backwards.

    Inputs: states `(batch, time, dim)` and words `(batch, time)`, 0 at padding.
    """

    def __init__(self, vocabulary: int, weight: float, bidirectional: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocabulary, self.weight, self.bidirectional = vocabulary, weight, bidirectional
        self.supports_masking = True
        self.softmaxes = [WordSoftmax(vocabulary, name=f"softmax_{index + 1}") for index in range(1 + bidirectional)]

    def build(self, states_shape: Shape, words_shape: Shape) -> None:
        for softmax in self.softmaxes:
            softmax.build((*states_shape[:-1], states_shape[-1] // len(self.softmaxes)))
        self.built = True

    def call(self, states: Tensor, words: TokenIds, training: bool = False) -> Tensor:
        if training:
            halves = tf.split(states, len(self.softmaxes), axis=-1)
            next_words = tf.pad(words[:, 1:], [[0, 0], [0, 1]])
            previous_words = tf.pad(words[:, :-1], [[0, 0], [1, 0]])
            for softmax, half, targets in zip(self.softmaxes, halves, (next_words, previous_words), strict=False):
                weights = tf.cast((targets != 0) & (words != 0), tf.float32)
                nats = -softmax.token_log_probabilities(half, targets, training)
                count = tf.maximum(workers.total(tf.reduce_sum(weights)), 1.0)
                self.add_loss(self.weight * tf.reduce_sum(nats * weights) / count)
        return states

    def compute_output_shape(self, states_shape: Shape, words_shape: Shape) -> Shape:
        return states_shape

    def get_config(self) -> JSON:
        return {
            **super().get_config(),
            "vocabulary": self.vocabulary,
            "weight": self.weight,
            "bidirectional": self.bidirectional,
        }
