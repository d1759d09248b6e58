"""Orders of texts in which neighbours differ."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np


def diverse_order(values: Sequence[float], texts: Sequence[Sequence[str]], weight: float, count: int) -> list[int]:
    """Return the indices of texts by maximal marginal relevance (Carbonell and Goldstein 1998).

    Each next text has the largest `(1 - weight) * value - weight * similarity`: values are scaled to the largest one,
    and the similarity is the largest cosine, of token counts weighted by inverse document frequency, to a text chosen
    before.

    Args:
        values: what each text is worth.
        texts: the tokens of each.
        weight: from 0, by value alone, to 1.
        count: how many texts to choose like this; the others follow by value.
    """
    worth = np.asarray(values, np.float64)
    by_value = np.argsort(-worth, kind="stable").tolist()
    if not weight or not len(worth):
        return by_value
    vectors = _unit_vectors(texts)
    holders: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for index, vector in enumerate(vectors):
        for token, value in vector.items():
            holders[token].append((index, value))
    scaled = worth / worth.max() if worth.max() > 0 else worth
    nearest = np.zeros(len(worth))
    open_ = np.ones(len(worth), bool)
    chosen: list[int] = []
    for _ in range(min(count, len(worth))):
        index = int(np.argmax(np.where(open_, (1 - weight) * scaled - weight * nearest, -np.inf)))
        chosen.append(index)
        open_[index] = False
        similarity = np.zeros(len(worth))
        for token, value in vectors[index].items():
            for other, own in holders[token]:
                similarity[other] += value * own
        nearest = np.maximum(nearest, similarity)
    return chosen + [index for index in by_value if open_[index]]


def _unit_vectors(texts: Sequence[Sequence[str]]) -> list[dict[str, float]]:
    """Return the tokens of each text with their weights; tokens that only one text has make no texts similar."""
    documents = Counter(token for tokens in texts for token in set(tokens))
    vectors = []
    for tokens in texts:
        counts = Counter(tokens)
        vector = {token: n * math.log(1 + len(texts) / documents[token]) for token, n in counts.items()}
        norm = math.sqrt(sum(value * value for value in vector.values())) or 1.0
        vectors.append({token: value / norm for token, value in vector.items() if documents[token] > 1})
    return vectors
