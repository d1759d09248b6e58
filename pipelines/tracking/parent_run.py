"""One MLflow run over the runs of several seeds."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from trellis.pipelines.tracking.registry import address

RUN_FILE = "mlflow_run"  # in the folder of a run: its id


def log_parent(folders: Sequence[Path], metrics: Sequence[Mapping[str, float]], line: str) -> None:
    """Put runs under a parent run, which has their means and standard deviations.

    Args:
        folders: of the finished runs; does nothing unless all of them were tracked.
        metrics: of each run.
        line: the summary in words.
    """
    children = [(folder / RUN_FILE).read_text().strip() for folder in folders if (folder / RUN_FILE).exists()]
    if len(children) != len(folders):
        return
    import mlflow

    settings = OmegaConf.load(folders[0] / ".hydra" / "config.yaml")
    client = mlflow.MlflowClient(address(settings.tracking.uri))
    first = client.get_run(children[0])
    name = f"{settings.model.name} × {len(children)} seeds"
    parent = client.create_run(first.info.experiment_id, run_name=name, tags={"trellis.seeds": line})
    for key in sorted(set.intersection(*(set(run) for run in metrics))):
        values = [run[key] for run in metrics]
        client.log_metric(parent.info.run_id, key, statistics.mean(values))
        client.log_metric(parent.info.run_id, f"{key}.sd", statistics.stdev(values))
    client.log_metric(parent.info.run_id, "n", len(metrics))
    for key, value in first.data.params.items():
        if key != "seed":
            client.log_param(parent.info.run_id, key, value)
    for child in children:
        client.set_tag(child, "mlflow.parentRunId", parent.info.run_id)
    client.set_terminated(parent.info.run_id, "FINISHED")
