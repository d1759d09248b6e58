"""What to label next: exact measures against enumeration, and orders in which neighbours differ."""

import itertools

import numpy as np
import pytest

from trellis.components.metrics.diversity import diverse_order
from trellis.components.metrics.uncertainty import MEASURES, uncertainty


def test_measures_are_those_of_all_paths():
    rng = np.random.default_rng(1)
    emissions = rng.normal(size=(4, 4, 3)).astype(np.float32)
    transitions = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    transitions[1, :, 0, 2] = -np.inf  # forbidden
    lengths = np.array([4, 3, 1, 4], np.int32)
    found = uncertainty(emissions, lengths, transitions)
    for row, length in enumerate(lengths):
        scores = [
            sum(emissions[row, t, path[t]] for t in range(length))
            + sum(transitions[row, t, path[t], path[t + 1]] for t in range(length - 1))
            for path in itertools.product(range(3), repeat=int(length))
        ]
        probabilities = np.exp(np.array(scores, np.float64) - np.logaddexp.reduce(scores))
        first, second = sorted(probabilities)[::-1][:2]
        positive = probabilities[probabilities > 0]
        entropy = -(positive * np.log(positive)).sum()
        expected = {
            "confidence_per_token": -np.log(first) / length,
            "entropy": entropy,
            "entropy_per_token": entropy / length,
            "margin": 1 - first + second,
        }
        assert {name: measure(found)[row] for name, measure in MEASURES.items()} == pytest.approx(expected, abs=1e-5)


def test_a_lattice_with_one_tag_is_sure():
    found = uncertainty(np.ones((1, 2, 1), np.float32), np.array([2], np.int32), np.ones((1, 1, 1, 1), np.float32))
    assert {name: measure(found)[0] for name, measure in MEASURES.items()} == pytest.approx(
        dict.fromkeys(MEASURES, 0.0), abs=1e-6
    )


def similarity(one, other, texts):
    """Return the cosine of two texts by definition."""
    words = sorted({word for text in texts for word in text})
    weights = np.log([1 + len(texts) / sum(word in text for text in texts) for word in words])
    first, second = (np.array([text.count(word) for word in words]) * weights for text in (one, other))
    return first @ second / np.sqrt((first @ first) * (second @ second))


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8])
def test_the_order_is_that_of_maximal_marginal_relevance(weight):
    rng = np.random.default_rng(2)
    texts = [[str(word) for word in rng.integers(0, 8, rng.integers(1, 6))] for _ in range(12)]
    values = rng.random(12).tolist()
    chosen, left = [], list(range(12))
    while left and len(chosen) < 7:
        worth = {
            i: (1 - weight) * values[i] / max(values)
            - weight * max((similarity(texts[i], texts[j], texts) for j in chosen), default=0)
            for i in left
        }
        chosen.append(max(left, key=worth.__getitem__))
        left.remove(chosen[-1])
    assert diverse_order(values, texts, weight, 7) == chosen + sorted(left, key=lambda i: -values[i])


def test_of_texts_that_repeat_each_other_one_comes_first():
    texts = [["a", "b"], ["a", "b"], ["c", "d"], ["c"]]
    assert diverse_order([1.0, 0.99, 0.5, 0.1], texts, 0.5, 4)[:2] == [0, 2]
    assert diverse_order([], [], 0.5, 3) == []
    assert diverse_order([0.0, 0.0], [["a"], ["a"]], 0.5, 2) == [0, 1]
