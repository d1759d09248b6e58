"""The maximum-entropy Markov model as a Keras layer (McCallum, Freitag and Pereira 2000)."""

import keras
from keras import ops

from trellis.components.lattice import linear_chain
from trellis.components.layers.linear_chain_head import LinearChainHead
from trellis.components.layers.sequence_head import allowed_only
from trellis.components.types import Emissions, Lengths, TagScores, Tensor, Transitions


@keras.saving.register_keras_serializable("trellis")
class MEMM(LinearChainHead):
    """Predict each tag from the previous tag and the emissions of its time step: one softmax per previous tag.

    The model is normalised at each time step, so training needs no recursion over paths. The price is label bias: a tag
    with few successors passes on its whole weight whatever is observed (Lafferty et al. 2001). The interface is that of
    `CRF`; there is no score for the last tag, because nothing comes after it.

    Args:
        boundaries, constraints, tags, constrain_training, checks: as for every `LinearChainHead`.
    """

    scores_last_tag = False

    def potentials(
        self, emissions: Emissions, constrained: bool
    ) -> tuple[Emissions, Transitions, TagScores, TagScores]:
        """Return log-probabilities, all of them in the transitions `(batch, time - 1, tags, tags)` but the first tag's.

        The first tag has no previous one, so its log-probabilities go into the emissions, which are 0 elsewhere.
        """
        emissions = ops.cast(emissions, "float32")
        transitions, start, end = self.scores(self.constrain_training)
        first = ops.log_softmax(emissions[:, :1] + start, axis=-1)
        steps = ops.log_softmax(emissions[:, 1:, None, :] + transitions, axis=-1)
        unary = ops.concatenate([first, ops.zeros_like(emissions[:, 1:])], axis=1)
        chain = steps, ops.zeros_like(start), ops.zeros_like(end)
        return unary, *(self.with_constraints(chain) if constrained else chain)

    def negative_log_likelihood(self, emissions: Emissions, tags: Tensor, lengths: Lengths) -> Tensor:
        unary, transitions, start, end = self.potentials(emissions, constrained=False)
        if len(tags.shape) == 2:
            return -linear_chain.path_score(unary, tags, lengths, transitions, start, end)
        return -linear_chain.log_partition(allowed_only(unary, tags), lengths, transitions, start, end)
