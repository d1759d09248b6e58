"""Scores of word alignments against gold links (Och and Ney 2003)."""

from collections.abc import Iterable, Set

from trellis.components.types import Link


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
    links = gold = in_sure = in_possible = 0
    for predicted_links, sure_links, possible_links in zip(predicted, sure, possible, strict=True):
        links += len(predicted_links)
        gold += len(sure_links)
        in_sure += len(predicted_links & sure_links)
        in_possible += len(predicted_links & possible_links)
    precision, recall = in_possible / links if links else 0.0, in_sure / gold if gold else 0.0
    total = precision + recall
    return {
        "aer": 1 - (in_sure + in_possible) / (links + gold) if links + gold else 0.0,
        "precision": precision,
        "recall": recall,
        "f": 2 * precision * recall / total if total else 0.0,
    }
