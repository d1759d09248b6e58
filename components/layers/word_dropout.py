"""Word dropout: train a model to cope without any single word (Iyyer et al. 2015)."""

from typing import Any

import keras

from trellis.components.types import JSON, TokenIds

PADDING, UNKNOWN = 0, 1


@keras.saving.register_keras_serializable("trellis")
class WordDropout(keras.layers.Layer):
    """Replace words by the unknown word with probability `rate`, in training only.

    Args:
        rate: at least 0 and below 1.
        seed: an integer; None for a random one.

    Input and output: word ids `(batch, time)`; padding (0) stays padding.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be at least 0 and below 1, not {rate}")
        self.rate, self.seed = rate, seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, words: TokenIds, training: bool = False) -> TokenIds:
        if not training or not self.rate:
            return words
        drawn = keras.random.uniform(keras.ops.shape(words), seed=self.generator)
        dropped = keras.ops.logical_and(drawn < self.rate, words != PADDING)
        return keras.ops.where(dropped, UNKNOWN, words)

    def compute_output_spec(self, words: TokenIds, training: bool = False) -> TokenIds:
        return keras.KerasTensor(words.shape, dtype=words.dtype)

    def get_config(self) -> JSON:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
