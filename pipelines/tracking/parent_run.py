"""Parent runs in MLflow: one for a sweep, and one for the seeds of each of its configurations."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from trellis.pipelines.tracking.names import encoded
from trellis.pipelines.tracking.registry import address

RUN_FILE = "mlflow_run"  # in the folder of a run: its id


class Configuration(NamedTuple):
    """The finished runs of one configuration, with several seeds or one.

    Attributes:
        folders: of the runs.
        metrics: of each run.
        line: the summary in words.
    """

    folders: Sequence[Path]
    metrics: Sequence[Mapping[str, float]]
    line: str


class Sweep(NamedTuple):
    """What MLflow shows of a sweep itself.

    Attributes:
        name: its name.
        description: a table of its scores, as Markdown.
        best: the overrides of the best configuration; empty if none is.
        metrics: the scores of that configuration, means over its seeds.
        pictures: files about the whole sweep.
    """

    name: str
    description: str
    best: str
    metrics: Mapping[str, float]
    pictures: Sequence[Path] = ()


def log_sweep(sweep: Sweep, configurations: Sequence[Configuration]) -> None:
    """Put the runs of a sweep under a parent run, and those of each configuration's seeds under one with their means.

    MLflow's table of runs shows the parent alone until it is opened, so it has the scores of the best configuration.
    Does nothing unless all of them were tracked, in one experiment.
    """
    folders = [folder for configuration in configurations for folder in configuration.folders]
    if len(folders) < 2 or not all((folder / RUN_FILE).exists() for folder in folders):
        return
    import mlflow

    client = mlflow.MlflowClient(address(OmegaConf.load(folders[0] / ".hydra" / "config.yaml").tracking.uri))
    experiments = {client.get_run(_id(folder)).info.experiment_id for folder in folders}
    if len(configurations) > 1 and len(experiments) == 1:
        tags = {"trellis.sweep": sweep.name, "mlflow.note.content": sweep.description}
        if sweep.best:
            tags["trellis.overrides"] = f"best on dev: {sweep.best}"
        parent = str(client.create_run(experiments.pop(), run_name=sweep.name, tags=tags).info.run_id)
        mlflow.log_metrics({encoded(key): value for key, value in sweep.metrics.items()}, run_id=parent)
        for picture in sweep.pictures:
            client.log_artifact(parent, str(picture))
    else:
        parent = None
    for configuration in configurations:
        if len(configuration.folders) > 1:
            top = _log_seeds(client, configuration)
        else:
            top = _id(configuration.folders[0])
        if parent is not None:
            client.set_tag(top, "mlflow.parentRunId", parent)
    if parent is not None:
        client.set_terminated(parent, "FINISHED")


def _id(folder: Path) -> str:
    return (folder / RUN_FILE).read_text().strip()


def _log_seeds(client: Any, configuration: Configuration) -> str:
    """Create the parent run of several seeds, with their means and standard deviations; return its id."""
    first = client.get_run(_id(configuration.folders[0]))
    name = f"{first.info.run_name.rpartition(' · ')[0]} · {len(configuration.folders)} seeds"
    tags = {"trellis.seeds": configuration.line}
    parent = str(client.create_run(first.info.experiment_id, run_name=name, tags=tags).info.run_id)
    metrics = configuration.metrics
    for key in sorted(set.intersection(*(set(run) for run in metrics))):
        values = [run[key] for run in metrics]
        client.log_metric(parent, key, statistics.mean(values))
        client.log_metric(parent, f"{key}.sd", statistics.stdev(values))
    client.log_metric(parent, "n", len(metrics))
    for key, value in first.data.params.items():
        if key != "seed":
            client.log_param(parent, key, value)
    for folder in configuration.folders:
        client.set_tag(_id(folder), "mlflow.parentRunId", parent)
    client.set_terminated(parent, "FINISHED")
    return parent
