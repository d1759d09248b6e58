"""Is one system better than another, or was it luck? Paired tests on the statistics of the same segments.

Both tests take scores of whole corpora, so they work for metrics that are no means of segments, such as BLEU.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trellis.components.metrics.translation_metric import Statistics

Score = Callable[[Statistics], float]

_BLOCK = 2**22  # cells of a matrix of trials and segments at a time
_TOLERANCE = 1e-9  # scores that differ by rounding alone are equal


class Bootstrap(NamedTuple):
    """The result of paired bootstrap resampling.

    Attributes:
        difference: the score of the system minus that of the baseline, on the corpus itself.
        low: lower end of its 95 % confidence interval.
        high: upper end.
        p_value: two-sided: twice the share of resampled corpora in which the difference has the other sign, or is zero.
        deviation: the standard deviation of the difference over resampled corpora.
    """

    difference: float
    low: float
    high: float
    p_value: float
    deviation: float


class SeedTest(NamedTuple):
    """The result of `seed_test`.

    Attributes:
        low: lower end of the 95 % confidence interval of the difference.
        high: upper end.
        p_value: two-sided.
    """

    low: float
    high: float
    p_value: float


def paired_bootstrap(
    score: Score, baseline: Statistics, system: Statistics, samples: int = 1000, seed: int = 0
) -> Bootstrap:
    """Compare two systems by paired bootstrap resampling (Koehn 2004).

    Args:
        score: the score of a corpus, from its summed statistics, such as `TranslationMetric.score`.
        baseline: the statistics of the baseline, `(segments, statistics)`.
        system: the statistics of the system on the same segments.
        samples: how many corpora to draw, of as many segments as there are, with replacement.
        seed: seed of the draws.

    Raises:
        ValueError: the two differ in shape.
    """
    _check(baseline, system)
    rng = np.random.default_rng(seed)
    segments = len(baseline)
    differences: list[float] = []
    for size in _blocks(samples, segments):
        counts = rng.multinomial(segments, np.full(segments, 1 / segments), size).astype(np.float64)
        differences += [score(b) - score(a) for a, b in zip(counts @ baseline, counts @ system, strict=True)]
    drawn = np.array(differences)
    not_above = int((drawn <= _TOLERANCE).sum())
    not_below = int((drawn >= -_TOLERANCE).sum())
    low, high = np.quantile(drawn, [0.025, 0.975])
    p_value = min(1.0, 2 * (min(not_above, not_below) + 1) / (samples + 1))
    difference = score(system.sum(axis=0)) - score(baseline.sum(axis=0))
    return Bootstrap(difference, float(low), float(high), p_value, float(drawn.std(ddof=1)))


def seed_test(bootstrap: Bootstrap, baseline: Sequence[float], system: Sequence[float]) -> SeedTest:
    """Compare two configurations that were trained with several seeds each.

    Resampling segments asks whether these trained models would differ on other texts. Another seed gives another model,
    so for a statement about configurations the variance over seeds is added: the standard error of the difference is
    `sqrt(deviation² + s²/n + s'²/n')`, with the bootstrap's deviation for the segments and the sample variances `s²` of
    the scores of `n` seeds. The test is Student's, with the degrees of freedom of Welch and Satterthwaite for the seeds
    and infinitely many for the segments. Effects of a seed on single segments are in both terms, which errs on the safe
    side.

    Args:
        bootstrap: compares the statistics of each segment, averaged over seeds.
        baseline: the score of each seed of the baseline.
        system: the score of each seed of the other configuration.

    Raises:
        ValueError: one of them has a single seed.
    """
    from scipy import stats

    if min(len(baseline), len(system)) < 2:
        raise ValueError(f"{len(baseline)} and {len(system)} seeds; at least two of each are needed")
    of_seeds = [float(np.var(scores, ddof=1)) / len(scores) for scores in (baseline, system)]
    variance = bootstrap.deviation**2 + sum(of_seeds)
    if variance == 0:
        return SeedTest(bootstrap.difference, bootstrap.difference, float(abs(bootstrap.difference) <= _TOLERANCE))
    shares = sum(own**2 / (len(scores) - 1) for own, scores in zip(of_seeds, (baseline, system), strict=True))
    distribution = stats.t(variance**2 / shares) if shares else stats.norm()
    error = variance**0.5
    margin = float(distribution.ppf(0.975)) * error
    p_value = 2 * float(distribution.sf(abs(bootstrap.difference) / error))
    return SeedTest(bootstrap.difference - margin, bootstrap.difference + margin, p_value)


def paired_randomization(
    score: Score, baseline: Statistics, system: Statistics, trials: int = 10_000, seed: int = 0
) -> float:
    """Return the two-sided p-value of approximate randomization (Riezler and Maxwell 2005).

    If the systems did not differ, exchanging their outputs for random segments would change nothing. The p-value is the
    share of exchanges after which the scores differ at least as much as they do. sacrebleu counts those that differ
    more, and so calls systems that differ in one segment, or in none, significantly different.

    Args:
        score: the score of a corpus, from its summed statistics.
        baseline: the statistics of the baseline, `(segments, statistics)`.
        system: the statistics of the system on the same segments.
        trials: how many random exchanges to try.
        seed: seed of the exchanges.

    Raises:
        ValueError: the two differ in shape.
    """
    _check(baseline, system)
    rng = np.random.default_rng(seed)
    total, change = baseline.sum(axis=0), system - baseline
    both = total + system.sum(axis=0)
    observed = abs(score(system.sum(axis=0)) - score(total))
    reached = 0
    for size in _blocks(trials, len(baseline)):
        first = total + rng.integers(0, 2, (size, len(baseline))).astype(np.float64) @ change
        reached += sum(abs(score(both - a) - score(a)) >= observed - _TOLERANCE for a in first)
    return (reached + 1) / (trials + 1)


def _blocks(rows: int, columns: int) -> Iterator[int]:
    """Yield numbers of rows that sum to `rows`, so that a matrix of each has at most `_BLOCK` cells."""
    size = max(1, _BLOCK // columns)
    yield from (min(size, rows - start) for start in range(0, rows, size))


def _check(baseline: NDArray[np.float64], system: NDArray[np.float64]) -> None:
    if baseline.shape != system.shape or not len(baseline):
        raise ValueError(f"statistics of shapes {baseline.shape} and {system.shape}; the same segments are needed")
