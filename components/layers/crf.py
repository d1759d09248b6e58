"""The linear-chain conditional random field as a Keras layer (Lafferty, McCallum and Pereira 2001)."""

import keras

from components.lattice import linear_chain, paths
from components.layers.sequence_head import SequenceHead


@keras.saving.register_keras_serializable("trellis")
class CRF(SequenceHead):
    """Scores whole tag sequences: emissions plus a learned score for each pair of neighbouring tags.

    Args:
        boundaries: also learn a score for each tag as the first and as the last one.
        jit_compile: compile the training recursions with XLA, faster where shapes are few; None means TRELLIS_XLA=1.

    Input: emissions `(batch, time, tags)` and mask `(batch, time)`. Output: best tags `(batch, time)` int32.

    Example:

        words = keras.Input((None,), dtype="int32")
        x = keras.layers.Embedding(10_000, 100, mask_zero=True)(words)
        x = keras.layers.Bidirectional(keras.layers.LSTM(128, return_sequences=True))(x)
        tags = CRF()(keras.layers.Dense(9)(x))
        model = keras.Model(words, tags)
        model.compile("adam", loss=NegativeLogLikelihood(), metrics=[keras.metrics.Accuracy()])
    """

    def __init__(self, boundaries=True, jit_compile=None, **kwargs):
        super().__init__(**kwargs)
        self.boundaries = boundaries
        self.jit_compile = jit_compile

    def build(self, emissions_shape):
        tags = emissions_shape[-1]
        if tags is None:
            raise ValueError("CRF needs to know the number of tags: the last axis of its emissions is None")

        # float32 whatever the policy: sums over a sequence outgrow the precision of bfloat16.
        def weight(name, shape, initializer="zeros", trainable=True):
            return self.add_weight(
                shape=shape, initializer=initializer, name=name, trainable=trainable, dtype="float32", autocast=False
            )

        self.transitions = weight("transitions", (tags, tags), keras.initializers.RandomUniform(-0.1, 0.1))
        self.start = weight("start", (tags,), trainable=self.boundaries)
        self.end = weight("end", (tags,), trainable=self.boundaries)

    def _chain(self):
        return self.transitions.value, self.start.value, self.end.value

    def decode(self, emissions, lengths):
        tags, _ = paths.viterbi(emissions, lengths, *self._chain())
        return tags

    def marginals(self, emissions, lengths):
        # Not with XLA: this goes into exports, which a server without XLA has to run.
        return linear_chain.marginals(emissions, lengths, *self._chain(), jit_compile=False)

    def negative_log_likelihood(self, emissions, tags, lengths):
        total = linear_chain.log_partition(emissions, lengths, *self._chain(), jit_compile=self.jit_compile)
        return total - linear_chain.path_score(emissions, tags, lengths, *self._chain())

    def get_config(self):
        return {
            **super().get_config(),
            "boundaries": self.boundaries,
            "jit_compile": self.jit_compile,
        }
