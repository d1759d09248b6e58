"""Finished runs as a table, with mean ± standard deviation over the seeds of a configuration, and how sure that is.

trellis compare multirun/2026-11-21/10-30-00 …
"""

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.markup import escape
from rich.table import Table

from trellis.components.command import CommandParser, run_command
from trellis.components.errors import InputError
from trellis.components.metrics.direction import HEADLINES, is_better
from trellis.pipelines import comparison
from trellis.pipelines.configuration import comparable
from trellis.pipelines.terminal import OutputConsole
from trellis.pipelines.tracking.parent_run import Configuration, Sweep, log_sweep

Metrics = dict[str, float]


class Group(NamedTuple):
    """Runs that differ in their seed alone.

    Attributes:
        overrides: theirs, without the seed.
        folders: of the runs.
        metrics: of each run.
    """

    overrides: list[str]
    folders: list[Path]
    metrics: list[Metrics]

    @property
    def label(self) -> str:
        """The overrides as one text."""
        return " ".join(self.overrides) or "(default)"


def collect(folders: Sequence[str | Path]) -> list[Group]:
    """Return the finished runs below folders, grouped by their configuration apart from the seed.

    Raises:
        InputError: a folder has none.
    """
    groups: dict[str, Group] = {}
    for folder in folders:
        finished = sorted(Path(folder).rglob("metrics.json"))
        if not finished:
            reason = "no finished runs here (no metrics.json)" if Path(folder).is_dir() else "no such folder"
            raise InputError(f"{folder}: {reason}")
        for path in finished:
            config = comparable(OmegaConf.load(path.parent / ".hydra" / "config.yaml"))
            config.pop("seed")
            typed = (str(each).lstrip("+") for each in OmegaConf.load(path.parent / ".hydra" / "overrides.yaml"))
            overrides = [each for each in typed if not each.startswith(("seed=", "resume=", "hydra."))]
            group = groups.setdefault(json.dumps(config, sort_keys=True), Group(overrides, [], []))
            group.folders.append(path.parent)
            group.metrics.append(json.loads(path.read_text()))
    return list(groups.values())


def line(label: str, metrics: Sequence[Metrics]) -> str:
    """Return `label  test/f1 0.8512 ± 0.0021  … (n=3)`; the deviation is that of the sample, absent for one run."""
    shown = [f"{key} {_mean(metrics, key)}" for key in _shown(metrics)]
    return f"{label}  {'  '.join(shown)}" + (f"  (n={len(metrics)})" if len(metrics) > 1 else "")


def _shown(metrics: Sequence[Metrics]) -> list[str]:
    """Return the scores that are shown, of test where there are any."""
    part = "test" if any(key.startswith("test/") for key in metrics[0]) else "dev"
    return [f"{part}/{name}" for name in HEADLINES if any(f"{part}/{name}" in each for each in metrics)]


def _mean(metrics: Sequence[Metrics], key: str) -> str:
    values = [each[key] for each in metrics if key in each]
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}" if values else ""


def best(groups: Sequence[Group]) -> tuple[Group, str] | None:
    """Return the group that is best on dev, and the score that says so; None where they share no score."""
    for name in (f"dev/{name}" for name in HEADLINES):
        if all(name in run for group in groups for run in group.metrics):
            chosen = groups[0]
            for group in groups[1:]:
                if is_better(_dev_score(group, name), _dev_score(chosen, name), name):
                    chosen = group
            return chosen, name
    return None


def _dev_score(group: Group, name: str) -> float:
    return statistics.mean(run[name] for run in group.metrics)


def show(groups: Sequence[Group], title: str) -> None:
    """Print a table with a row for each group, the best one on dev, and the command that repeats it."""
    console = OutputConsole(highlight=False)
    common, (settings, *columns), rows = _table(groups)
    table = Table(title=" ".join([title, *common]), title_justify="left", box=None, pad_edge=False)
    table.add_column(settings, overflow="fold")
    for key in columns:
        table.add_column(key, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print()
    console.print(table)
    if len(groups) > 1 and (found := best(groups)):
        group, name = found
        console.print(f"\nbest on dev ({name} {_dev_score(group, name):.4f}); to repeat it:", markup=False)
        console.print(f"  {_command(group)}", soft_wrap=True, markup=False)


def markdown(groups: Sequence[Group], title: str) -> str:
    """Return what `show` prints as Markdown, with the best group first: MLflow shows the first rows of it only."""
    common, columns, rows = _table(groups)
    escaped = [[text.replace("|", "\\|") for text in row] for row in rows]
    table = [columns, [":---", *["---:"] * (len(columns) - 1)], *escaped]
    paragraphs = [" ".join([title, *common]), "\n".join(f"| {' | '.join(row)} |" for row in table)]
    if len(groups) > 1 and (found := best(groups)):
        group, name = found
        paragraphs.insert(0, f"Best on dev ({name} {_dev_score(group, name):.4f}): `{_command(group)}`")
    return "\n\n".join(paragraphs)


def _differences(groups: Sequence[Group]) -> tuple[list[str], list[str]]:
    """Return the overrides that all groups share, and for each group the others as one text."""
    common = [each for each in groups[0].overrides if all(each in group.overrides for group in groups)]
    others = ([each for each in group.overrides if each not in common] for group in groups)
    return common, [" ".join(overrides) or "(default)" for overrides in others]


def _table(groups: Sequence[Group]) -> tuple[list[str], list[str], list[list[str]]]:
    """Return the overrides that all groups share, and the header and the rows of their table."""
    common, labels = _differences(groups)
    several = any(len(group.metrics) > 1 for group in groups)
    columns = list(dict.fromkeys(key for group in groups for key in _shown(group.metrics)))
    rows = []
    for label, group in zip(labels, groups, strict=True):
        cells = [_mean(group.metrics, key) for key in columns]
        rows.append([label, *cells, *([str(len(group.metrics))] if several else [])])
    return common, ["settings", *columns, *(["runs"] if several else [])], rows


def _command(group: Group) -> str:
    return " ".join(["trellis train", *map(shlex.quote, group.overrides)])


def summary(name: str, groups: Sequence[Group], title: str) -> Sweep:
    """Return what MLflow shows of a sweep."""
    found = best(groups)
    metrics: Metrics = {}
    if found:
        runs = found[0].metrics
        shown = [f"{part}/{score}" for score in HEADLINES for part in ("test", "dev")]
        metrics = {key: statistics.mean(run[key] for run in runs) for key in shown if all(key in run for run in runs)}
    return Sweep(name, markdown(groups, title), found[0].label if found else "", metrics)


class SummarizeSweep(Callback):
    """At the end of a sweep: a table of its runs, and MLflow parent runs over them."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table."""
        folder = Path(config.hydra.sweep.dir)
        try:
            groups = collect([folder])
        except InputError:
            return
        title = f"{sum(len(group.metrics) for group in groups)} runs:"
        show(groups, title)
        configurations = [
            Configuration(group.folders, group.metrics, line(group.label, group.metrics)) for group in groups
        ]
        sweep = summary(f"sweep {folder.parent.name} {folder.name}", groups, title)
        log_sweep(sweep._replace(pictures=sorted(folder.glob("*.png"))), configurations)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `trellis compare`; return its exit status."""
    parser = CommandParser("trellis compare", __doc__)
    parser.add_argument("runs", nargs="+", help="folders of runs or of sweeps")
    return run_command(parser, _compare, parser.parse_args(arguments))


def _compare(options: argparse.Namespace) -> None:
    groups = collect(options.runs)
    show(groups, f"{sum(len(group.metrics) for group in groups)} runs:")
    if len(groups) < 2:
        return
    try:
        first, comparisons = comparison.compare(groups[0].folders, [group.folders for group in groups[1:]])
    except InputError:
        # A sweep may be one over datasets; runs that are named one by one are meant to be compared.
        if len(options.runs) > 1:
            raise
        return
    _, labels = _differences(groups)
    comparison.show(first, labels, comparisons)


if __name__ == "__main__":
    sys.exit(main())
