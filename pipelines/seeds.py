"""The same configuration with several seeds as one line: mean ± standard deviation (n).

python -m pipelines.seeds multirun/2026-11-21/10-30-00 …
"""

import json
import os
import statistics
import sys
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from components.errors import InputError
from pipelines.command_line import comparable

SHOWN = ("f1", "accuracy", "perplexity", "bleu", "aer", "loss")


def collect(folders):
    """Finished runs below the folders, grouped by their configuration apart from the seed.

    Returns:
        `[(label, [run folder], [metrics])]`.
    """
    groups = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("metrics.json")):
            config = comparable(OmegaConf.load(path.parent / ".hydra" / "config.yaml"))
            config.pop("seed")
            overrides = OmegaConf.load(path.parent / ".hydra" / "overrides.yaml")
            label = " ".join(o for o in overrides if not o.startswith(("seed=", "resume="))) or "(default)"
            group = groups.setdefault(json.dumps(config, sort_keys=True), (label, [], []))
            group[1].append(path.parent)
            group[2].append(json.loads(path.read_text()))
    if not groups:
        raise InputError(f"{', '.join(map(str, folders))}: no finished runs here (no metrics.json)")
    return list(groups.values())


def line(label, metrics):
    """`label  test/f1 0.8512 ± 0.0021  … (n=3)`; the deviation is that of the sample, absent for one run."""
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

    def on_multirun_end(self, config, **kwargs):
        folder = Path(config.hydra.sweep.dir)
        try:
            groups = collect([folder])
        except InputError:
            return
        print()
        for label, folders, metrics in groups:
            print(line(label, metrics))
            if len(metrics) > 1:
                _parent_run(label, folders, metrics)


def _parent_run(label, folders, metrics):
    """Puts the MLflow runs of these folders under one parent run, which has their means and deviations."""
    from pipelines.tracking import RUN_FILE

    children = [(f / RUN_FILE).read_text().strip() for f in folders if (f / RUN_FILE).exists()]
    if len(children) != len(folders):
        return
    import mlflow

    settings = OmegaConf.load(folders[0] / ".hydra" / "config.yaml")
    root = Path(os.environ.get("TRELLIS_ROOT", "."))
    client = mlflow.MlflowClient(settings.tracking.uri or f"sqlite:///{root / 'mlflow.db'}")
    first = client.get_run(children[0])
    name = f"{settings.model.name} × {len(children)} seeds"
    parent = client.create_run(first.info.experiment_id, run_name=name, tags={"trellis.seeds": line(label, metrics)})
    for key in sorted(set.intersection(*(set(each) for each in metrics))):
        values = [each[key] for each in metrics]
        client.log_metric(parent.info.run_id, key, statistics.mean(values))
        client.log_metric(parent.info.run_id, f"{key}.sd", statistics.stdev(values))
    client.log_metric(parent.info.run_id, "n", len(metrics))
    for key, value in first.data.params.items():
        if key != "seed":
            client.log_param(parent.info.run_id, key, value)
    for child in children:
        client.set_tag(child, "mlflow.parentRunId", parent.info.run_id)
    client.set_terminated(parent.info.run_id, "FINISHED")


def main(arguments):
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if arguments else 2
    try:
        for label, _, metrics in collect(arguments):
            print(line(label, metrics))
    except InputError as error:
        print(f"seeds: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
