"""Which of two scores is the better one."""

LOWER_IS_BETTER = ("loss", "aer", "perplexity")


def is_better(score: float, than: float, metric: str) -> bool:
    """Return whether a score is better than another one: lower for losses and error rates, else higher.

    Args:
        metric: the name of both scores, such as `dev/f1`.
    """
    return score < than if metric.endswith(LOWER_IS_BETTER) else score > than
