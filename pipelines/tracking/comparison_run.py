"""A comparison of runs in MLflow: a run of its own, in the experiment of those that are compared."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from trellis.components.errors import InputError, first_line
from trellis.pipelines.tracking import database, server_health
from trellis.pipelines.tracking.names import encoded
from trellis.pipelines.tracking.parent_run import RUN_FILE
from trellis.pipelines.tracking.registry import address


def log_comparison(
    name: str, description: str, metrics: Mapping[str, float], page: str, folders: Sequence[Path]
) -> str:
    """Record a comparison; return its experiment and run.

    Args:
        name: the name of the run.
        description: the outcome, as Markdown.
        metrics: differences and p-values by name.
        page: HTML, kept as the artifact `comparison.html`.
        folders: of the runs that are compared; those that were tracked are named in the tag `trellis.compared`.

    Raises:
        InputError: no run was tracked, or the record cannot be reached.
    """
    tracked = [folder for folder in folders if (folder / RUN_FILE).exists()]
    if not tracked:
        raise InputError(f"--mlflow: {folders[0]} and the other runs were not tracked")
    uri = address(OmegaConf.load(tracked[0] / ".hydra" / "config.yaml").tracking.uri)
    server_health.check(uri)
    path = Path(uri.removeprefix(database.PREFIX))
    if uri.startswith(database.PREFIX) and not path.exists():
        raise InputError(f"--mlflow: there is no {path}; call it in the folder where the runs were started")
    import mlflow

    ids = [(folder / RUN_FILE).read_text().strip() for folder in tracked]
    tags = {"trellis.compared": " ".join(ids), "mlflow.note.content": description, "mlflow.source.name": "compare"}
    try:
        client = mlflow.MlflowClient(uri)
        experiment = client.get_experiment(client.get_run(ids[0]).info.experiment_id)
        run_id = str(client.create_run(experiment.experiment_id, run_name=name, tags=tags).info.run_id)
        for key, value in metrics.items():
            client.log_metric(run_id, encoded(key), value)
        client.log_text(run_id, page, "comparison.html")
        client.set_terminated(run_id, "FINISHED")
    except mlflow.MlflowException as error:
        raise InputError(f"tracking.uri={uri}: cannot be used ({first_line(error)})") from None
    return f"{experiment.name}, run {run_id}"
