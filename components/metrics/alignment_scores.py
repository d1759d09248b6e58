"""Scores of word alignments against gold links (Och and Ney 2003)."""


def link_scores(predicted, sure, possible):
    """Alignment error rate, precision (by possible links), recall (by sure links) and their F-measure.

    Args:
        predicted, sure, possible: sets of links of each sentence pair; the possible ones hold the sure ones.

    Returns:
        `{"aer", "precision", "recall", "f"}`; what nothing was predicted or marked for is 0.
    """
    links = gold = in_sure = in_possible = 0
    for guess, certain, allowed in zip(predicted, sure, possible, strict=True):
        links += len(guess)
        gold += len(certain)
        in_sure += len(guess & certain)
        in_possible += len(guess & allowed)
    precision, recall = in_possible / links if links else 0.0, in_sure / gold if gold else 0.0
    both = precision + recall
    return {
        "aer": 1 - (in_sure + in_possible) / (links + gold) if links + gold else 0.0,
        "precision": precision,
        "recall": recall,
        "f": 2 * precision * recall / both if both else 0.0,
    }
