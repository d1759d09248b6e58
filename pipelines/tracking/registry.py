"""Registered models of MLflow."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trellis.components.errors import InputError
from trellis.components.metrics.direction import is_better
from trellis.components.quiet import captured_stderr

log = logging.getLogger(__name__)


def address(uri: str | None) -> str:
    """Return the tracking server or database: by default `mlflow.db` in the current folder."""
    return uri or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def fetched(source: str, uri: str | None) -> str:
    """Return a folder with what `source` names: a registered model, `models:/NAME@champion`, or a folder.

    Raises:
        InputError: MLflow knows no such model.
    """
    if not source.startswith("models:/"):
        return source
    import mlflow

    try:
        mlflow.set_tracking_uri(address(uri))
        with captured_stderr():
            return os.path.join(mlflow.artifacts.download_artifacts(source), "artifacts")
    except mlflow.MlflowException as error:
        raise InputError(f"init_from={source}: {str(error).splitlines()[0]}") from None


def register(client: Any, model_uri: str, name: str, monitor: str, score: float) -> None:
    """Register a model, as `champion` if no champion is as good on dev.

    Args:
        client: an `MlflowClient`.
        monitor: the name of the score.
    """
    import mlflow

    with captured_stderr():
        version = mlflow.register_model(model_uri, name, tags={monitor: str(score)})
    standing = None
    with contextlib.suppress(mlflow.MlflowException, KeyError):
        standing = float(client.get_model_version_by_alias(name, "champion").tags[monitor])
    better = standing is None or is_better(score, standing, monitor)
    if better:
        client.set_registered_model_alias(name, "champion", version.version)
    verdict = "champion" if better else f"the champion stays at {standing:.4f}"
    log.warning("registered %s version %s: %s %.4f, %s", name, version.version, monitor, score, verdict)


@contextlib.contextmanager
def active_run(run_id: str) -> Iterator[None]:
    """Make a run MLflow's active one, without MLflow ending it."""
    import mlflow

    former = os.environ.get("MLFLOW_RUN_ID")
    try:
        mlflow.start_run(run_id=run_id)
        yield
    finally:
        mlflow.end_run("RUNNING")
        if former is not None:
            os.environ["MLFLOW_RUN_ID"] = former
