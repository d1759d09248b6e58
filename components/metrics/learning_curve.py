"""A power law of scores over the size of the training part, and what it says about sizes that were not tried."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_EXPONENTS = np.linspace(0.05, 2.0, 79)
_DRAWS = 8_000


class Interval(NamedTuple):
    """A median and the limits of an interval."""

    low: float
    median: float
    high: float


class LearningCurve:
    """Scores `limit - scale * size ** -exponent`, fitted to scores of several sizes.

    The fit is the posterior of all such curves: all exponents from 0.05 to 2 are equally probable before, and so are
    all scores of the smallest and the largest size; errors are normal, with an unknown deviation. Curves that fall, or
    whose limit is above `perfect`, are ruled out. For a given exponent the curve is linear in the scores of the two
    sizes, so that the posterior follows without search (Gelman et al., Bayesian Data Analysis, chapter 14).

    Args:
        sizes: numbers of training examples, of at least four runs and three sizes.
        scores: the score of each run.
        perfect: the largest score that there is.
        seed: of the draws.

    Raises:
        ValueError: there are too few runs, or the scores do not grow with the size.
    """

    def __init__(self, sizes: Sequence[float], scores: Sequence[float], perfect: float = 1.0, seed: int = 1) -> None:
        self.sizes, self.scores = np.asarray(sizes, np.float64), np.asarray(scores, np.float64)
        if len(self.sizes) < 4 or len(set(sizes)) < 3:
            raise ValueError("a learning curve needs at least four runs, of three sizes")
        self._ends = self.sizes.min(), self.sizes.max()
        rng = np.random.default_rng(seed)
        share = self._share(self.sizes[None, :], _EXPONENTS[:, None])
        design = np.stack([1 - share, share], axis=2)  # (exponents, runs, 2)
        covariance = np.linalg.inv(design.swapaxes(1, 2) @ design)
        means = (covariance @ design.swapaxes(1, 2) @ self.scores[:, None])[..., 0]
        errors = np.maximum(((self.scores - (design @ means[..., None])[..., 0]) ** 2).sum(axis=1), 1e-12)
        degrees = len(self.scores) - 2
        weights = 0.5 * np.log(np.linalg.det(covariance)) - degrees / 2 * np.log(errors)
        probabilities = np.exp(weights - np.logaddexp.reduce(weights))
        drawn = rng.choice(len(_EXPONENTS), _DRAWS, p=probabilities / probabilities.sum())
        deviations = np.sqrt(errors[drawn] / rng.chisquare(degrees, _DRAWS))
        roots = np.linalg.cholesky(covariance)[drawn]
        noise = (roots @ rng.normal(size=(_DRAWS, 2, 1)))[..., 0]
        ends = means[drawn] + deviations[:, None] * noise
        exponents = _EXPONENTS[drawn]
        limits = ends[:, 0] + (ends[:, 1] - ends[:, 0]) * self._share(np.inf, exponents)
        possible = (ends[:, 1] > ends[:, 0]) & (limits <= perfect)
        if possible.sum() < _DRAWS / 100:
            raise ValueError("the scores do not grow with the size of the training part as a power law has it")
        self._first, self._last = ends[possible].T
        self._exponents = exponents[possible]

    def score(self, size: float, level: float = 0.9) -> Interval:
        """Return the score that a size of the training part gives, without the noise of a single run."""
        return _interval(self._first + (self._last - self._first) * self._share(size, self._exponents), level)

    def size(self, score: float, level: float = 0.9) -> Interval:
        """Return the size that gives a score; infinite where no size does."""
        smallest, largest = self._ends
        share = (score - self._first) / (self._last - self._first)
        powers = smallest**-self._exponents - share * (smallest**-self._exponents - largest**-self._exponents)
        sizes = np.full(len(powers), np.inf)
        reached = powers > 0
        with np.errstate(over="ignore"):
            sizes[reached] = powers[reached] ** (-1 / self._exponents[reached])
        return _interval(sizes, level)

    def _share(self, size: float | np.ndarray, exponent: float | np.ndarray) -> np.ndarray:
        """Return how much of the way from the score of the smallest size to that of the largest a size goes."""
        smallest, largest = self._ends
        power = np.zeros_like(exponent) if np.ndim(size) == 0 and np.isinf(size) else size**-exponent
        return np.asarray((smallest**-exponent - power) / (smallest**-exponent - largest**-exponent))


def _interval(values: np.ndarray, level: float) -> Interval:
    ordered = np.sort(values)
    places = [(1 - level) / 2, 0.5, (1 + level) / 2]
    return Interval(*(float(ordered[min(int(place * len(ordered)), len(ordered) - 1)]) for place in places))
