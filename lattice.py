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
from trellis.components.lattice.spans import all_span_marginals, span_marginals

__all__ = [
    "all_span_marginals",
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
    "span_marginals",
    "viterbi",
]
