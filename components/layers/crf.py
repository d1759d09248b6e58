"""The linear-chain conditional random field as a Keras layer (Lafferty, McCallum and Pereira 2001)."""

from typing import Any

import keras

from trellis.components.layers.linear_chain_head import LinearChainHead
from trellis.components.types import JSON


@keras.saving.register_keras_serializable("trellis")
class CRF(LinearChainHead):
    """Score whole tag sequences: emissions plus a learned score for each pair of neighbouring tags.

    Args:
        boundaries, constraints, tags, constrain_training, checks: as for every `LinearChainHead`.
        jit_compile: compile the training recursions with XLA, which pays where batches have few shapes; None means
            TRELLIS_XLA=1.

    Input: emissions `(batch, time, tags)` and mask `(batch, time)`. Output: best tags `(batch, time)` int32; see
    `SequenceHead` for marginals and the k best paths.

    Example:

        words = keras.Input((None,), dtype="int32")
        x = keras.layers.Embedding(10_000, 100, mask_zero=True)(words)
        x = keras.layers.Bidirectional(keras.layers.LSTM(128, return_sequences=True))(x)
        tags = CRF()(keras.layers.Dense(9)(x))
        model = keras.Model(words, tags)
        model.compile("adam", loss=NegativeLogLikelihood(), metrics=[keras.metrics.Accuracy()])
    """

    def __init__(self, boundaries: bool = True, jit_compile: bool | None = None, **kwargs: Any) -> None:
        super().__init__(boundaries=boundaries, **kwargs)
        self.jit_compile = jit_compile

    def get_config(self) -> JSON:
        return {**super().get_config(), "jit_compile": self.jit_compile}
