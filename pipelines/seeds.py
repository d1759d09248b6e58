"""Finished runs as a table, with mean ± standard deviation over the seeds of a configuration."""

import json
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.markup import escape
from rich.table import Table
from yaml import YAMLError

from trellis.components.errors import InputError
from trellis.components.metrics.direction import HEADLINES, is_better
from trellis.pipelines.configuration import comparable, first_line
from trellis.pipelines.terminal import OutputConsole
from trellis.pipelines.tracking.parent_run import Configuration, Sweep, log_sweep

Metrics = dict[str, float]


# Settings that say where a run leaves its results, not what they are.
_PLACES = ("export.dir=", "export.upload=", "tracking=", "tracking.")


class Group(NamedTuple):
    """Runs that differ in their seed alone, and in where they leave their results.

    Attributes:
        overrides: the overrides of the first run, without the seed.
        folders: the folders of the runs.
        metrics: the metrics of each run.
    """

    overrides: list[str]
    folders: list[Path]
    metrics: list[Metrics]

    @property
    def label(self) -> str:
        """The settings as one text."""
        return " ".join(self.settings) or "(default)"

    @property
    def settings(self) -> list[str]:
        """The overrides that a result depends on."""
        return [override for override in self.overrides if not override.startswith(_PLACES)]


def collect(folders: Sequence[str | Path]) -> list[Group]:
    """Return the finished runs below folders, grouped by their configuration apart from the seed.

    Raises:
        InputError: a folder has none, or one that cannot be read.
    """
    groups: dict[str, Group] = {}
    seen: set[Path] = set()
    for folder in folders:
        finished = sorted(Path(folder).rglob("metrics.json"))
        if not finished:
            reason = "no finished runs here (no metrics.json)" if Path(folder).is_dir() else "no such folder"
            raise InputError(f"{folder}: {reason}")
        for path in finished:
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            config, overrides, metrics = _read(path.parent)
            group = groups.setdefault(json.dumps(config, sort_keys=True), Group(overrides, [], []))
            group.folders.append(path.parent)
            group.metrics.append(metrics)
    return list(groups.values())


def _read(folder: Path) -> tuple[dict[str, Any], list[str], Metrics]:
    """Return what the result of a finished run depends on besides the seed, its overrides, and its metrics."""
    hydra = folder / ".hydra"
    try:
        config = comparable(OmegaConf.load(hydra / "config.yaml"))
        typed = [str(override).lstrip("+") for override in OmegaConf.load(hydra / "overrides.yaml")]
        metrics = json.loads((folder / "metrics.json").read_text())
    except (OSError, ValueError, TypeError, YAMLError) as error:
        raise InputError(f"{folder}: not a finished run ({first_line(error)})") from None
    for name in ("seed", "tracking"):
        config.pop(name, None)
    if isinstance(config.get("export"), dict):
        config["export"] = {key: value for key, value in config["export"].items() if key not in ("dir", "upload")}
    return config, [each for each in typed if not each.startswith(("seed=", "resume=", "hydra."))], metrics


def line(label: str, metrics: Sequence[Metrics]) -> str:
    """Return `label  test/f1 0.8512 ± 0.0021  … (n=3)`; the deviation is that of the sample, absent for one run."""
    shown = [f"{key} {_mean(metrics, key)}" for key in _shown(metrics)]
    return f"{label}  {'  '.join(shown)}" + (f"  (n={len(metrics)})" if len(metrics) > 1 else "")


def _shown(metrics: Sequence[Metrics]) -> list[str]:
    """Return the names of the scores to show: those of test if there are any, else of dev."""
    part = "test" if any(key.startswith("test/") for key in metrics[0]) else "dev"
    return [f"{part}/{name}" for name in HEADLINES if any(f"{part}/{name}" in each for each in metrics)]


def _mean(metrics: Sequence[Metrics], key: str) -> str:
    values = [each[key] for each in metrics if key in each]
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}" if values else ""


def best(groups: Sequence[Group]) -> tuple[Group, str] | None:
    """Return the group that is best on dev, and the name of the score that decides; None if they share no score."""
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


def title(groups: Sequence[Group]) -> str:
    """Return `6 runs:`."""
    count = sum(len(group.metrics) for group in groups)
    return f"{count} run{'s' * (count != 1)}:"


def show(groups: Sequence[Group], title: str) -> None:
    """Print a table with a row for each group, the best one on dev, and the command that repeats it."""
    console = OutputConsole(highlight=False)
    common, (settings, *columns), rows = _table(groups)
    table = Table(title=escape(" ".join([title, *common])), title_justify="left", box=None, pad_edge=False)
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
    paragraphs = [" ".join([title, *common]), markdown_table(columns, rows)]
    if len(groups) > 1 and (found := best(groups)):
        group, name = found
        paragraphs.insert(0, f"Best on dev ({name} {_dev_score(group, name):.4f}): `{_command(group)}`")
    return "\n\n".join(paragraphs)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown, its first column aligned to the left and the others to the right."""
    escaped = [[text.replace("|", "\\|") for text in row] for row in rows]
    table = [columns, [":---", *["---:"] * (len(columns) - 1)], *escaped]
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def label_differences(groups: Sequence[Group]) -> tuple[list[str], list[str]]:
    """Return the settings that all groups share, and for each group the others as one text."""
    common = [each for each in groups[0].settings if all(each in group.settings for group in groups)]
    others = ([each for each in group.settings if each not in common] for group in groups)
    return common, [" ".join(overrides) or "(default)" for overrides in others]


def _table(groups: Sequence[Group]) -> tuple[list[str], list[str], list[list[str]]]:
    """Return the overrides that all groups share, and the header and the rows of their table."""
    common, labels = label_differences(groups)
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
        heading = title(groups)
        show(groups, heading)
        configurations = [
            Configuration(group.folders, group.metrics, line(group.label, group.metrics)) for group in groups
        ]
        sweep = summary(f"sweep {folder.parent.name} {folder.name}", groups, heading)
        log_sweep(sweep._replace(pictures=sorted(folder.glob("*.png"))), configurations)
