"""The language-model loss as an auxiliary task (Rei 2017): states also have to tell the next word."""

import keras
import tensorflow as tf

from trellis.components.layers.word_softmax import WordSoftmax


@keras.saving.register_keras_serializable("trellis")
class AuxiliaryLanguageModel(keras.layers.Layer):
    """Gives its input on and adds a loss in training: of the next word and, read backwards, of the one before.

    Args:
        vocabulary: number of word ids.
        weight: of this loss, in nats a word.
        bidirectional: the first half of the states was read forwards, the second half backwards.

    Inputs: states `(batch, time, dim)` and words `(batch, time)`, 0 at padding.
    """

    def __init__(self, vocabulary, weight, bidirectional=False, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary, self.weight, self.bidirectional = vocabulary, weight, bidirectional
        self.supports_masking = True
        self.softmaxes = [WordSoftmax(vocabulary, name=f"softmax_{index + 1}") for index in range(1 + bidirectional)]

    def build(self, states_shape, words_shape):
        for softmax in self.softmaxes:
            softmax.build((*states_shape[:-1], states_shape[-1] // len(self.softmaxes)))
        self.built = True

    def call(self, states, words, training=False):
        if training:
            halves = tf.split(states, len(self.softmaxes), axis=-1)
            next_words = tf.pad(words[:, 1:], [[0, 0], [0, 1]])
            former = tf.pad(words[:, :-1], [[0, 0], [1, 0]])
            for softmax, half, targets in zip(self.softmaxes, halves, (next_words, former), strict=False):
                counted = tf.cast((targets != 0) & (words != 0), tf.float32)
                nats = -softmax.token_log_probabilities(half, targets, training)
                self.add_loss(self.weight * tf.reduce_sum(nats * counted) / tf.maximum(tf.reduce_sum(counted), 1.0))
        return states

    def compute_output_shape(self, states_shape, words_shape):
        return states_shape

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary": self.vocabulary,
            "weight": self.weight,
            "bidirectional": self.bidirectional,
        }
