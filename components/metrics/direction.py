"""Which scores are shown first, and which of two is the better one."""

# Names of scores, without their part, that tables of runs show if a run has them.
HEADLINES = (
    "f1",
    "accuracy",
    "macro_f1",
    "bleu_tok_lc",
    "bleu_13a_lc",
    "bleu_13a",
    "perplexity",
    "coverage",
    "aer",
    "loss",
)
LOWER_IS_BETTER = ("loss", "aer", "perplexity", "ter")  # and hter


def is_better(score: float, than: float, metric: str) -> bool:
    """Return whether a score is better than another one: lower for losses and error rates, else higher.

    Args:
        metric: the name of both scores, such as `dev/f1`.
    """
    return score < than if metric.endswith(LOWER_IS_BETTER) else score > than
