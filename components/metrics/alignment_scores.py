"""Scores of word alignments against gold links (Och and Ney 2003)."""

from collections.abc import Iterable, Set

import numpy as np

from trellis.components.types import Link


def link_counts(predicted: Iterable[Set[Link]], sure: Iterable[Set[Link]], possible: Iterable[Set[Link]]) -> np.ndarray:
    """Return the predicted links that are sure, those that are possible, all of them, and the sure links, of each pair.

    Args:
        predicted, sure, possible: see `link_scores`.

    Returns:
        `(pairs, 4)`.
    """
    rows = [
        (len(links & sure_links), len(links & possible_links), len(links), len(sure_links))
        for links, sure_links, possible_links in zip(predicted, sure, possible, strict=True)
    ]
    return np.array(rows, np.float64).reshape(-1, 4)


def link_scores(
    predicted: Iterable[Set[Link]], sure: Iterable[Set[Link]], possible: Iterable[Set[Link]]
) -> dict[str, float]:
    """Return the alignment error rate, precision (over possible links), recall (over sure links) and F-measure.

    Args:
        predicted: the predicted links of each sentence pair.
        sure: the sure gold links of each sentence pair.
        possible: the possible gold links of each sentence pair, which include the sure ones.

    Returns:
        `{"aer", "precision", "recall", "f"}`; 0 where a denominator is 0.
    """
    return scores_of_counts(*link_counts(predicted, sure, possible).sum(axis=0).tolist())


def scores_of_counts(in_sure: float, in_possible: float, links: float, gold: float) -> dict[str, float]:
    """Return what `link_scores` returns, from sums of `link_counts`."""
    precision, recall = in_possible / links if links else 0.0, in_sure / gold if gold else 0.0
    total = precision + recall
    return {
        "aer": 1 - (in_sure + in_possible) / (links + gold) if links + gold else 0.0,
        "precision": precision,
        "recall": recall,
        "f": 2 * precision * recall / total if total else 0.0,
    }
