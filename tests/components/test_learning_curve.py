"""A power law of scores over sizes."""

import numpy as np
import pytest

from trellis.components.metrics.learning_curve import LearningCurve

SIZES = [100, 200, 400, 700, 1000]


def law(size, limit=0.92, scale=2.0, exponent=0.5):
    return limit - scale * size**-exponent


def test_a_law_without_noise_is_found_again():
    curve = LearningCurve(SIZES, [law(size) for size in SIZES])
    assert curve.score(4000).median == pytest.approx(law(4000), abs=1e-3)
    assert curve.size(law(4000)).median == pytest.approx(4000, rel=0.05)
    assert curve.size(0.95).median == np.inf
    assert curve.size(law(300)).median == pytest.approx(300, rel=0.05)


def test_intervals_hold_as_often_as_they_say():
    rng = np.random.default_rng(3)
    held = {"score": 0, "size": 0}
    sizes = SIZES * 2
    for _ in range(100):
        curve = LearningCurve(sizes, [law(size) + rng.normal(scale=0.006) for size in sizes])
        score, size = curve.score(2000), curve.size(law(2000))
        held["score"] += score.low <= law(2000) <= score.high
        held["size"] += size.low <= 2000 <= size.high
    assert held["score"] >= 82 and held["size"] >= 82  # of 100, at a level of 0.9


def test_more_noise_means_a_wider_interval():
    rng = np.random.default_rng(4)
    noise = rng.normal(size=len(SIZES))
    widths = []
    for deviation in (0.001, 0.01):
        scores = [law(size) + deviation * each for size, each in zip(SIZES, noise, strict=True)]
        interval = LearningCurve(SIZES, scores).score(3000)
        widths.append(interval.high - interval.low)
    assert widths[1] > 2 * widths[0]


def test_scores_that_do_not_grow_and_too_few_runs_are_refused():
    with pytest.raises(ValueError, match="do not grow"):
        LearningCurve(SIZES, [0.9, 0.8, 0.7, 0.6, 0.5])
    with pytest.raises(ValueError, match="four runs, of three sizes"):
        LearningCurve([100, 200, 100, 200], [0.1, 0.2, 0.1, 0.2])
