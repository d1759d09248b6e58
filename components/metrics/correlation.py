"""How well a metric agrees with human judgement."""

from collections.abc import Sequence

import numpy as np


def correlations(scores: Sequence[float], judgements: Sequence[float]) -> dict[str, float]:
    """Return the correlations of scores with human judgements.

    Args:
        scores: of segments, or of systems.
        judgements: of the same segments, such as direct assessments, or of the same systems, such as their means.

    Returns:
        `{"pearson", "spearman", "kendall"}`, from -1 to 1; Kendall's is tau-b.

    Raises:
        ValueError: there are fewer than two pairs, a value is not finite, or all scores or all judgements are equal.
    """
    from scipy import stats

    if len(scores) != len(judgements) or len(scores) < 2:
        raise ValueError(f"{len(scores)} scores and {len(judgements)} judgements; at least two of each, in pairs")
    for name, values in (("scores", scores), ("judgements", judgements)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: not all finite")
        if min(values) == max(values):
            raise ValueError(f"{name}: all are {values[0]:g}, so they correlate with nothing")
    return {
        "pearson": float(stats.pearsonr(scores, judgements).statistic),
        "spearman": float(stats.spearmanr(scores, judgements).statistic),
        "kendall": float(stats.kendalltau(scores, judgements).statistic),
    }
