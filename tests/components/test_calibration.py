"""Probabilities that come true."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellis.components.metrics.calibration import (
    Calibration,
    Operating,
    Scale,
    calibration_error,
    fit,
    precision_recall,
    reliability,
    threshold_for,
)

RNG = np.random.default_rng(0)


def drawn(scale, size):
    """Return posteriors, and whether each came true, which the scale knows the probabilities of."""
    posteriors = RNG.beta(4, 1, size)
    return posteriors, RNG.random(size) < scale.apply(posteriors)


def test_the_scales_that_made_the_data_are_found_for_all_and_for_each_type():
    scales = {"A": Scale(2.0, -0.5), "B": Scale(0.7, 0.3)}
    posteriors, correct = (
        np.concatenate(each) for each in zip(*(drawn(s, 30_000) for s in scales.values()), strict=True)
    )
    kinds = ["A"] * 30_000 + ["B"] * 30_000
    found = fit(kinds, posteriors, correct)
    for kind, scale in scales.items():
        assert found.types[kind] == pytest.approx(scale, abs=0.1)
    raw, calibrated = (calibration_error(p, correct) for p in (posteriors, found.probabilities(kinds, posteriors)))
    assert calibrated < 0.01 < raw
    assert 0.7 < found.scale.temperature < 2 and found.of("C") == found.scale


def test_few_predictions_leave_posteriors_as_they_are():
    posteriors = np.array([0.9, 0.8, 0.99])
    found = fit(["A", "A", "B"], posteriors, np.array([True, False, True]))
    assert not found.types
    np.testing.assert_allclose(found.probabilities(["A", "A", "B"], posteriors), posteriors, atol=0.2)
    nothing = fit([], np.zeros(0), np.zeros(0, bool))
    assert nothing == Calibration()
    np.testing.assert_allclose(nothing.probabilities(["A"] * 3, posteriors), posteriors, rtol=1e-9)


@pytest.mark.parametrize("correct", [np.ones(50, bool), np.zeros(50, bool), np.arange(50) >= 25, np.arange(50) < 25])
def test_predictions_that_probabilities_tell_apart_or_mislead_about_have_finite_scales_in_the_same_order(correct):
    posteriors = np.linspace(0, 1, 50)
    scale = fit(["A"] * 50, posteriors, correct).types["A"]
    assert 0 < scale.temperature <= 10 and abs(scale.offset) < 20
    assert (np.diff(scale.apply(posteriors)) >= 0).all()


def test_the_calibration_error_is_the_mean_distance_of_bins():
    probabilities, correct = np.array([0.05, 0.31, 0.39, 1.0]), np.array([False, True, False, True])
    assert calibration_error(probabilities, correct) == pytest.approx((0.05 + abs(0.31 + 0.39 - 1) + 0.0) / 4)
    filled = {each.low: (each.size, each.correct) for each in reliability(probabilities, correct) if each.size}
    assert {round(low, 1): value for low, value in filled.items()} == {0.0: (1, 0.0), 0.3: (2, 0.5), 0.9: (1, 1.0)}
    with pytest.raises(ValueError, match="no predictions"):
        calibration_error(np.zeros(0), np.zeros(0, bool))


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.7, 0.9]), st.booleans()), max_size=12), st.integers(0, 5))
def test_a_point_of_the_curve_is_what_its_threshold_keeps(predictions, missed):
    probabilities = np.array([probability for probability, _ in predictions])
    correct = np.array([right for _, right in predictions], bool)
    gold = int(correct.sum()) + missed
    curve = precision_recall(probabilities, correct, gold)
    assert [point.threshold for point in curve] == sorted(set(probabilities.tolist()), reverse=True)
    for threshold, precision, recall in curve:
        kept = correct[probabilities >= threshold]
        assert precision == pytest.approx(kept.mean())
        assert recall == pytest.approx(kept.sum() / gold if gold else 0)


def test_the_lowest_threshold_of_a_precision_is_chosen_or_that_of_the_highest():
    curve = [Operating(0.9, 1.0, 0.1), Operating(0.7, 0.8, 0.2), Operating(0.5, 0.9, 0.4), Operating(0.3, 0.6, 0.5)]
    assert threshold_for(0.9, curve) == curve[2]
    assert threshold_for(0.5, curve) == curve[3]
    assert threshold_for(0.95, curve[1:]) == curve[2]
    assert threshold_for(0.9, []) is None
