"""Is one configuration better than another, or was it luck? Paired tests on the segments that runs were scored on."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.markup import escape
from rich.table import Table

from trellis.components.errors import InputError
from trellis.components.metrics import segments
from trellis.components.metrics.segments import ScoredSegments
from trellis.components.metrics.significance import Bootstrap, paired_bootstrap, paired_randomization
from trellis.pipelines.terminal import OutputConsole

FILE = "segments.npz"  # in the folder of a run


class Comparison(NamedTuple):
    """A configuration beside the baseline.

    Attributes:
        score: of the configuration, from the statistics of all its seeds together.
        bootstrap: the difference to the baseline, its interval and p-value.
        randomization: the p-value of approximate randomization.
    """

    score: float
    bootstrap: Bootstrap
    randomization: float


def pooled(folders: Sequence[Path]) -> ScoredSegments:
    """Return the statistics of each segment, averaged over the runs of a configuration.

    Raises:
        InputError: a run has none, or they are of different data.
    """
    runs = [segments.load(folder / FILE) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        _require_same(folders[0], runs[0], folder, run)
    return runs[0]._replace(statistics=np.mean([run.statistics for run in runs], axis=0))


def compare(baseline: Sequence[Path], others: Sequence[Sequence[Path]]) -> tuple[ScoredSegments, list[Comparison]]:
    """Compare configurations with a baseline.

    Args:
        baseline: the folders of its runs, which differ in their seed alone.
        others: those of each other configuration.

    Returns:
        The segments of the baseline, and a comparison for each of the others.

    Raises:
        InputError: a run has no statistics, or they are of different data.
    """
    first = pooled(baseline)
    score, comparisons = segments.score_of(first.score), []
    for folders in others:
        other = pooled(folders)
        _require_same(baseline[0], first, folders[0], other)
        comparisons.append(
            Comparison(
                score(other.statistics.sum(axis=0)),
                paired_bootstrap(score, first.statistics, other.statistics),
                paired_randomization(score, first.statistics, other.statistics, trials=2000),
            )
        )
    return first, comparisons


def show(first: ScoredSegments, labels: Sequence[str], comparisons: Sequence[Comparison]) -> None:
    """Print a table of comparisons with the baseline, whose label comes first."""
    console = OutputConsole(highlight=False)
    count = f"{len(first.statistics):,} segments of {first.part}"
    table = Table(title=f"{first.name} beside {labels[0]}, {count}:", title_justify="left", box=None, pad_edge=False)
    table.add_column("settings", overflow="fold")
    for column in ("difference", "95 % interval", "p bootstrap", "p randomization"):
        table.add_column(column, justify="right", no_wrap=True)
    for label, (_, bootstrap, randomization) in zip(labels[1:], comparisons, strict=True):
        interval = f"{bootstrap.low:+.4f} to {bootstrap.high:+.4f}"
        table.add_row(
            escape(label), f"{bootstrap.difference:+.4f}", interval, f"{bootstrap.p_value:.3f}", f"{randomization:.3f}"
        )
    console.print()
    console.print(table)


def _require_same(folder: Path, first: ScoredSegments, other_folder: Path, other: ScoredSegments) -> None:
    if (first.name, first.digest, len(first.statistics)) != (other.name, other.digest, len(other.statistics)):
        described = (f"{path}: {each.name}, {each.digest}" for path, each in ((folder, first), (other_folder, other)))
        raise InputError(f"not scored on the same data: {'; '.join(described)}")
