"""The same configuration with several seeds as one line: mean ± standard deviation (n).

trellis compare multirun/2026-11-21/10-30-00 …
"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from trellis.components.errors import InputError
from trellis.pipelines.configuration import comparable
from trellis.pipelines.tracking.parent_run import log_parent

Metrics = dict[str, float]


class Group(NamedTuple):
    """Runs that differ in their seed alone.

    Attributes:
        label: their overrides.
        folders: of the runs.
        metrics: of each run.
    """

    label: str
    folders: list[Path]
    metrics: list[Metrics]


SHOWN = ("f1", "accuracy", "perplexity", "bleu", "aer", "loss")


def collect(folders: Sequence[str | Path]) -> list[Group]:
    """Return the finished runs below folders, grouped by their configuration apart from the seed.

    Raises:
        InputError: there are none.
    """
    groups: dict[str, Group] = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("metrics.json")):
            config = comparable(OmegaConf.load(path.parent / ".hydra" / "config.yaml"))
            config.pop("seed")
            overrides = map(str, OmegaConf.load(path.parent / ".hydra" / "overrides.yaml"))
            label = " ".join(o for o in overrides if not o.startswith(("seed=", "resume="))) or "(default)"
            group = groups.setdefault(json.dumps(config, sort_keys=True), Group(label, [], []))
            group.folders.append(path.parent)
            group.metrics.append(json.loads(path.read_text()))
    if not groups:
        raise InputError(f"{', '.join(map(str, folders))}: no finished runs here (no metrics.json)")
    return list(groups.values())


def line(label: str, metrics: Sequence[Metrics]) -> str:
    """Return `label  test/f1 0.8512 ± 0.0021  … (n=3)`; the deviation is that of the sample, absent for one run."""
    part = "test" if any(key.startswith("test/") for key in metrics[0]) else "dev"
    shown = []
    for name in SHOWN:
        values = [each[f"{part}/{name}"] for each in metrics if f"{part}/{name}" in each]
        if values:
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            shown.append(f"{part}/{name} {statistics.mean(values):.4f}{spread}")
    return f"{label}  {'  '.join(shown)}  (n={len(metrics)})"


class SummarizeSweep(Callback):
    """At the end of a sweep: one line a configuration, and one MLflow parent run over the runs of its seeds."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the lines."""
        folder = Path(config.hydra.sweep.dir)
        try:
            groups = collect([folder])
        except InputError:
            return
        print()
        for label, folders, metrics in groups:
            print(line(label, metrics))
            if len(metrics) > 1:
                log_parent(folders, metrics, line(label, metrics))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `trellis compare`; return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if arguments else 2
    try:
        for label, _, metrics in collect(arguments):
            print(line(label, metrics))
    except InputError as error:
        print(f"trellis compare: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
