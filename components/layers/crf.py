"""The linear-chain conditional random field as a Keras layer (Lafferty, McCallum and Pereira 2001)."""

import keras

from components.lattice import linear_chain
from components.layers.linear_chain import LinearChainHead
from components.layers.sequence_head import allowed_only


@keras.saving.register_keras_serializable("trellis")
class CRF(LinearChainHead):
    """Scores whole tag sequences: emissions plus a learned score for each pair of neighbouring tags.

    Args:
        boundaries, constraints, tags, constrain_training, checks: as for every `LinearChainHead`.
        jit_compile: compile the training recursions with XLA, faster where shapes are few; None means TRELLIS_XLA=1.

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

    def __init__(self, boundaries=True, jit_compile=None, **kwargs):
        super().__init__(boundaries=boundaries, **kwargs)
        self.jit_compile = jit_compile

    def negative_log_likelihood(self, emissions, tags, lengths):
        emissions, *chain = self.potentials(emissions, constrained=self.constrain_training)
        total = linear_chain.log_partition(emissions, lengths, *chain, jit_compile=self.jit_compile)
        if len(tags.shape) == 2:
            return total - linear_chain.path_score(emissions, tags, lengths, *chain)
        allowed = allowed_only(emissions, tags)
        return total - linear_chain.log_partition(allowed, lengths, *chain, jit_compile=self.jit_compile)

    def get_config(self):
        return {**super().get_config(), "jit_compile": self.jit_compile}
