"""Is one configuration better than another, or was it luck? Paired tests on the segments that runs were scored on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trellis.components.errors import InputError
from trellis.components.metrics import segments
from trellis.components.metrics.breakdown import Group
from trellis.components.metrics.segments import ScoredSegments
from trellis.components.metrics.significance import (
    Bootstrap,
    SeedTest,
    paired_bootstrap,
    paired_randomization,
    seed_test,
)

FILE = "segments.npz"  # in the folder of a run
DOCUMENTS = 20  # minimum number to resample documents rather than segments
TRIALS = 2000  # of approximate randomization


class Difference(NamedTuple):
    """The difference of a configuration from the baseline.

    Attributes:
        bootstrap: the difference, its interval and p-value, for the trained models as they are.
        randomization: the p-value of approximate randomization, for the same.
        seeds: the interval and p-value with the variance over seeds; None if either has a single run.
    """

    bootstrap: Bootstrap
    randomization: float
    seeds: SeedTest | None


class GroupScores(NamedTuple):
    """The scores on a part of what was scored, such as the entities of one type.

    Attributes:
        dimension: how the whole is divided.
        name: which part it is.
        size: how many gold entities, tokens or links it has.
        scores: of each configuration, from the statistics of all its seeds together.
        differences: of each configuration but the baseline, from the baseline.
    """

    dimension: str
    name: str
    size: int
    scores: list[float]
    differences: list[Bootstrap]


@dataclass(frozen=True)
class Comparison:
    """Configurations compared with the first of them, the baseline.

    Attributes:
        name: the score, such as `test/f1`.
        units: what was resampled, in words: `3,453 segments`.
        scores: of each configuration, the score of each of its runs.
        differences: of each configuration but the baseline.
        groups: the scores on each part of what was scored.
        undivided: dimensions whose groups differ between the runs, so that there are no scores by them.
    """

    name: str
    units: str
    scores: list[list[float]]
    differences: list[Difference]
    groups: list[GroupScores]
    undivided: list[str]


def compare(configurations: Sequence[Sequence[Path]]) -> Comparison:
    """Compare configurations with the first of them.

    Args:
        configurations: the folders of the runs of each, which differ in their seed alone.

    Raises:
        InputError: a run has no statistics, or they are of different data.
    """
    loaded = [[segments.load(folder / FILE) for folder in folders] for folders in configurations]
    first = loaded[0][0]
    for folders, runs in zip(configurations, loaded, strict=True):
        for folder, run in zip(folders, runs, strict=True):
            _require_same(configurations[0][0], first, folder, run)
    score = segments.score_of(first.score)
    scores = [[score(run.statistics.sum(axis=0)) for run in runs] for runs in loaded]
    units = _Units(first)
    baseline, *others = (units.mean([run.statistics for run in runs]) for runs in loaded)
    differences = []
    for other, own in zip(others, scores[1:], strict=True):
        bootstrap = paired_bootstrap(score, baseline, other)
        seeds = seed_test(bootstrap, scores[0], own) if min(len(own), len(scores[0])) > 1 else None
        differences.append(Difference(bootstrap, paired_randomization(score, baseline, other, trials=TRIALS), seeds))
    groups, undivided = _groups(first, loaded, units)
    return Comparison(first.name, units.description, scores, differences, groups, undivided)


class _Units:
    """What is resampled: documents where enough are known, as their sentences are alike, or else segments."""

    def __init__(self, run: ScoredSegments) -> None:
        self._documents: np.ndarray | None = None
        self.description = f"{len(run.statistics):,} segments"
        if run.documents is not None:
            distinct, indices = np.unique(run.documents, return_inverse=True)
            if len(distinct) >= DOCUMENTS:
                self._documents = indices
                self.description += f" in {len(distinct):,} documents"

    def mean(self, statistics: Sequence[np.ndarray]) -> np.ndarray:
        """Return the statistics of each unit, averaged over runs, `(units, numbers)`."""
        of_segments: np.ndarray = np.mean(statistics, axis=0)
        if self._documents is None:
            return of_segments
        sums = np.zeros((self._documents.max() + 1, of_segments.shape[1]))
        np.add.at(sums, self._documents, of_segments)
        return sums


def _groups(
    first: ScoredSegments, loaded: Sequence[Sequence[ScoredSegments]], units: _Units
) -> tuple[list[GroupScores], list[str]]:
    """Return the scores of each group, and the dimensions whose groups differ between runs."""
    divided = [[_by_dimension(run.groups) for run in runs] for runs in loaded]
    dimensions = dict.fromkeys(name for runs in divided for run in runs for name in run)
    score, found, undivided = segments.score_of(first.score), [], []
    for dimension in dimensions:
        of_runs = [[run.get(dimension, {}) for run in runs] for runs in divided]
        names = dict.fromkeys(name for runs in of_runs for run in runs for name in run)
        if any(_sizes(run) != _sizes(of_runs[0][0]) for runs in of_runs for run in runs):
            undivided.append(dimension)
            continue
        for name in names:
            sizes = next(run[name].sizes for runs in of_runs for run in runs if name in run)
            # A type that a model neither predicts nor should have predicted is missing among its groups.
            empty = np.zeros_like(first.statistics)
            means = [units.mean([run[name].statistics if name in run else empty for run in runs]) for runs in of_runs]
            found.append(
                GroupScores(
                    dimension,
                    name,
                    int(sizes.sum()),
                    [score(each.sum(axis=0)) for each in means],
                    [paired_bootstrap(score, means[0], other) for other in means[1:]],
                )
            )
    return found, undivided


def _by_dimension(groups: Sequence[Group]) -> dict[str, dict[str, Group]]:
    dimensions: dict[str, dict[str, Group]] = {}
    for group in groups:
        dimensions.setdefault(group.dimension, {})[group.name] = group
    return dimensions


def _sizes(groups: dict[str, Group]) -> dict[str, bytes]:
    """Return how the gold answers are divided; groups without any do not count."""
    return {name: group.sizes.tobytes() for name, group in groups.items() if group.sizes.any()}


def _require_same(folder: Path, first: ScoredSegments, other_folder: Path, other: ScoredSegments) -> None:
    if (first.name, first.digest, len(first.statistics)) != (other.name, other.digest, len(other.statistics)):
        described = (f"{path}: {each.name}, {each.digest}" for path, each in ((folder, first), (other_folder, other)))
        raise InputError(f"not scored on the same data: {'; '.join(described)}")
