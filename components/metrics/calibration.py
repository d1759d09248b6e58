"""Whether probabilities of predictions come true: calibration, its error, and thresholds for a precision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

BINS = 10
FEWEST = 20  # predictions of a type, below which it has no scale of its own
CERTAIN = 1e-6  # posteriors are taken to be at least that far from 0 and 1: float32 knows no more
_PRIOR = 5.0  # strength of the belief that posteriors are right, and that types are alike
_FLATTEST = 0.1  # slope of log-odds, so that a more probable prediction stays more probable


class Scale(NamedTuple):
    """What becomes of log-odds: they are divided by `temperature`, and `offset` is added."""

    temperature: float = 1.0
    offset: float = 0.0

    def apply(self, posteriors: np.ndarray) -> np.ndarray:
        """Return the probabilities that these posteriors stand for."""
        return _sigmoid(_log_odds(posteriors) / self.temperature + self.offset)


@dataclass(frozen=True)
class Calibration:
    """How the posteriors of a model become probabilities that come true, and which of them are enough.

    Attributes:
        scale: of types without their own.
        types: the scale of each type that has one.
        threshold: predictions of a lower probability are dropped.
    """

    scale: Scale = field(default_factory=Scale)
    types: Mapping[str, Scale] = field(default_factory=dict)
    threshold: float = 0.0

    def of(self, kind: str) -> Scale:
        """Return the scale of a type."""
        return self.types.get(kind, self.scale)

    def probabilities(self, kinds: Sequence[str], posteriors: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities of predictions with these types and posteriors."""
        names, probabilities = np.array(kinds), np.zeros(len(posteriors))
        for kind in set(kinds):
            own = names == kind
            probabilities[own] = self.of(kind).apply(posteriors[own])
        return probabilities


def fit(kinds: Sequence[str], posteriors: np.ndarray, correct: np.ndarray) -> Calibration:
    """Return the scales under which predictions are most likely to be right and wrong as they are (Platt 1999).

    The scale of a type is drawn to that of all types, and that of all types to posteriors as they are, which decides
    where there are few predictions.

    Args:
        kinds: the type of each prediction.
        posteriors: the model's probability of each.
        correct: whether each is right.
    """
    names, scale = np.array(kinds), _fit(posteriors, correct, Scale())
    sizes = {kind: int((names == kind).sum()) for kind in sorted(set(kinds))}
    types = {
        kind: _fit(posteriors[names == kind], correct[names == kind], scale)
        for kind, size in sizes.items()
        if size >= FEWEST
    }
    return Calibration(scale, types)


def _fit(posteriors: np.ndarray, correct: np.ndarray, prior: Scale) -> Scale:
    """Minimise the log loss, which is convex in slope and offset, by Newton's method with shorter and shorter steps."""
    inputs = np.stack([_log_odds(posteriors), np.ones(len(posteriors))])
    centre = np.array([1 / prior.temperature, prior.offset])

    def loss(weights: np.ndarray) -> float:
        scores = weights @ inputs
        losses = np.logaddexp(0.0, np.where(correct, -scores, scores))
        return float(losses.sum() + _PRIOR / 2 * np.square(weights - centre).sum())

    weights, before = centre, np.inf
    while before - loss(weights) > 1e-9:
        before, probabilities = loss(weights), _sigmoid(weights @ inputs)
        gradient = inputs @ (probabilities - correct) + _PRIOR * (weights - centre)
        curvature = (inputs * probabilities * (1 - probabilities)) @ inputs.T + _PRIOR * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        sizes = (0.5**halvings for halvings in range(30))
        weights = next((trial for size in sizes if loss(trial := weights - size * step) < before), weights)
    return Scale(float(1 / max(weights[0], _FLATTEST)), float(weights[1]))


def _log_odds(posteriors: np.ndarray) -> np.ndarray:
    clipped = np.clip(np.asarray(posteriors, float), CERTAIN, 1 - CERTAIN)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(scores / 2)))


class Bin(NamedTuple):
    """The predictions whose probabilities are in a range.

    Attributes:
        low, high: the range.
        size: the number of predictions.
        probability: their mean probability; NaN without any.
        correct: the share of right ones; NaN without any.
    """

    low: float
    high: float
    size: int
    probability: float
    correct: float


def reliability(probabilities: np.ndarray, correct: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Return predictions in ranges of probability of equal width."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.clip(np.digitize(probabilities, edges) - 1, 0, bins - 1)
    found = []
    for number, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        own = index == number
        mean = (float(values[own].mean()) if own.any() else float("nan") for values in (probabilities, correct))
        found.append(Bin(low, high, int(own.sum()), *mean))
    return found


def calibration_error(probabilities: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error: the mean distance of probability and share of right predictions, by bins.

    Raises:
        ValueError: there are no predictions.
    """
    if not len(probabilities):
        raise ValueError("no predictions")
    found = [each for each in reliability(probabilities, correct, bins) if each.size]
    return sum(each.size * abs(each.probability - each.correct) for each in found) / len(probabilities)


class Operating(NamedTuple):
    """What is reached with the predictions of at least a probability."""

    threshold: float
    precision: float
    recall: float


def precision_recall(probabilities: np.ndarray, correct: np.ndarray, gold: int) -> list[Operating]:
    """Return precision and recall at every threshold, the highest threshold first.

    Args:
        probabilities: of all predictions.
        correct: whether each is right.
        gold: the number of things to be found.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked, right = probabilities[order], np.cumsum(correct[order])
    # Predictions of equal probability are kept or dropped together.
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, True)) if len(ranked) else np.zeros(0, int)
    return [
        Operating(float(ranked[i]), float(right[i] / (i + 1)), float(right[i] / gold) if gold else 0.0) for i in last
    ]


def threshold_for(precision: float, curve: Sequence[Operating]) -> Operating | None:
    """Return the lowest threshold that gives a precision; else that of the highest precision; None without a curve."""
    enough = [each for each in curve if each.precision >= precision]
    if enough:
        return enough[-1]
    return max(curve, key=lambda each: (each.precision, each.recall), default=None)
