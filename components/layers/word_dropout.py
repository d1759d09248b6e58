"""Word dropout: the model learns to do without a word (Iyyer et al. 2015)."""

import keras

PADDING, UNKNOWN = 0, 1


@keras.saving.register_keras_serializable("trellis")
class WordDropout(keras.layers.Layer):
    """Replaces a word by the unknown word with probability `rate`, in training only.

    Input and output: word ids `(batch, time)`; padding (0) stays padding.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be at least 0 and below 1, not {rate}")
        self.rate, self.seed = rate, seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, words, training=False):
        if not training or not self.rate:
            return words
        drawn = keras.random.uniform(keras.ops.shape(words), seed=self.generator)
        dropped = keras.ops.logical_and(drawn < self.rate, words != PADDING)
        return keras.ops.where(dropped, UNKNOWN, words)

    def compute_output_spec(self, words, training=False):
        return keras.KerasTensor(words.shape, dtype=words.dtype)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
