"""How unsure a model is of the tags of a sentence: what to label next (active learning)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from trellis.components.types import Emissions, Lengths, Transitions


@dataclass(frozen=True)
class Uncertainty:
    """How unsure a model is of sentences; the attributes are `(batch,)` float64.

    Attributes:
        lengths: the number of tokens.
        entropy: the entropy of the distribution over tag sequences, in nats.
        best: the posterior probability of the best tag sequence.
        second: that of the second-best one; 0 if there is none.
    """

    lengths: np.ndarray
    entropy: np.ndarray
    best: np.ndarray
    second: np.ndarray


def uncertainty(emissions: Emissions, lengths: Lengths, transitions: Transitions) -> Uncertainty:
    """Return how unsure a model is of sentences, exactly, from the scores of their lattices.

    Args:
        emissions: `(batch, time, tags)`, see `trellis.components.lattice.potentials`.
        lengths: `(batch,)`, at least 1.
        transitions: `(batch, time - 1, tags, tags)`.
    """
    from trellis.components.lattice.linear_chain import entropy, log_partition
    from trellis.components.lattice.paths import k_best

    ends = np.zeros(np.shape(emissions)[2], np.float32)
    chain = emissions, lengths, transitions, ends, ends
    _, scores = k_best(*chain, k=2)
    total = np.asarray(log_partition(*chain), np.float64)
    best, second = np.exp(np.minimum(np.asarray(scores, np.float64) - total[:, None], 0)).T
    return Uncertainty(np.asarray(lengths, np.float64), np.asarray(entropy(*chain), np.float64), best, second)


# What a sentence is chosen by, larger first.
MEASURES: Mapping[str, Callable[[Uncertainty], np.ndarray]] = {
    # The length-normalized log-probability of Shen et al. 2018, which does not prefer long sentences.
    "confidence_per_token": lambda found: -np.log(np.maximum(found.best, np.finfo(float).tiny)) / found.lengths,
    # Sequence entropy (Settles and Craven 2008), over all sequences and not the n best of them.
    "entropy": lambda found: found.entropy,
    "entropy_per_token": lambda found: found.entropy / found.lengths,
    # Scheffer et al. 2001: how close the second-best reading comes.
    "margin": lambda found: 1 - (found.best - found.second),
}
