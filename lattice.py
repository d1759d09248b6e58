"""The dynamic programs on a linear chain as functions; `components.lattice.potentials` has their shapes."""

from trellis.components.lattice.linear_chain import (
    entropy,
    expected_counts,
    log_forward,
    log_partition,
    marginals,
    pair_marginals,
    path_score,
)
from trellis.components.lattice.paths import k_best, posterior_decoding, sample, viterbi

__all__ = [
    "entropy",
    "expected_counts",
    "k_best",
    "log_forward",
    "log_partition",
    "marginals",
    "pair_marginals",
    "path_score",
    "posterior_decoding",
    "sample",
    "viterbi",
]
