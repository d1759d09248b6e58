"""A run in MLflow."""

import importlib.metadata
import logging
import os
from pathlib import Path

import yaml
from omegaconf import DictConfig

from trellis.components.errors import InputError, first_line
from trellis.components.processes import has_ended, this_process
from trellis.components.quiet import captured_stderr
from trellis.components.readers.sources import address
from trellis.pipelines.configuration import plain
from trellis.pipelines.run_names import run_name, typed_overrides
from trellis.pipelines.task import Data, Metrics, Package
from trellis.pipelines.tracking import database, names, registry, server_health
from trellis.pipelines.tracking.description import parameters, scores_table, view_of_runs
from trellis.pipelines.tracking.parent_run import RUN_FILE
from trellis.pipelines.tracking.provenance import git_tags, version_tags
from trellis.pipelines.tracking.tracker import Tracker

log = logging.getLogger(__name__)

CURVES = "epoch/"  # prefix of the metrics that have a value for each epoch
VIEW = "trellis"  # the name of the shared view of MLflow's page of runs, for its address
# Without it MLflow opens an experiment on its pages for chat assistants.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
# SQLite's messages for a full disk and for a read-only file or folder.
DATABASE_ERRORS = (
    "database or disk is full", "attempt to write a readonly database", "unable to open database file", "disk I/O error"
)  # fmt: skip
PYFUNC = Path(__file__).parents[2] / "serve" / "mlflow_model.py"


class MLflowTracker(Tracker):
    """Records a run in MLflow.

    Args:
        uri: of the tracking server or database; None means `mlflow.db` in the current folder.
        experiment: the name of the experiment.
        register: name of a registered model that gets the export, or None.
    """

    def __init__(
        self, config: DictConfig, folder: Path, uri: str | None, experiment: str, register: str | None
    ) -> None:
        super().__init__(config, folder)
        self.register = register
        self.uri = registry.address(uri)
        self.artifacts = (Path.cwd() / "mlartifacts").as_uri() if uri is None else None
        self.experiment = experiment
        self.run_id: str | None = None
        self.history: dict[str, list[tuple[int, float]]] = {}
        self.final: Metrics = {}

    def start(self) -> None:
        """Begin or resume the run.

        Raises:
            InputError: the server or database cannot be used.
        """
        server_health.check(self.uri)
        # The first use of a new database logs its migrations.
        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.ERROR)
        # It raises its errors too.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        import mlflow

        self.mlflow = mlflow
        try:
            database.make(self.uri)
            mlflow.set_tracking_uri(self.uri)
            self.client = mlflow.MlflowClient(self.uri)
            self.experiment_id = self._experiment()
        except Exception as error:
            raise InputError(f"tracking.uri={self.uri}: cannot be used ({str(error).splitlines()[0]})") from None
        self._close_orphans()
        self.run_id = self._resumed() or self._created()
        self.client.set_tag(self.run_id, "trellis.process", this_process())

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.experiment)
        if found is not None:
            return str(found.experiment_id)
        place = f"{self.artifacts}/{self.experiment}" if self.artifacts else None
        try:
            return str(self.client.create_experiment(self.experiment, place, tags=EXPERIMENT_TAGS))
        except self.mlflow.MlflowException:
            # Another run of the same sweep created it meanwhile.
            return str(self.client.get_experiment_by_name(self.experiment).experiment_id)

    def _resumed(self) -> str | None:
        """Resume the run that the folder names, with its history; return None if there is nothing to resume."""
        marker = self.folder / RUN_FILE
        if not (self.config.resume and marker.exists()):
            return None
        run = self.client.get_run(marker.read_text().strip())
        run_id = str(run.info.run_id)
        self.client.update_run(run_id, status="RUNNING")
        for curve in run.data.metrics:
            name = names.decoded(curve).removeprefix(CURVES)
            if curve.startswith(CURVES) and name.startswith(("train/loss", "dev/")):
                points = self.client.get_metric_history(run_id, curve)
                self.history[name] = [(point.step, point.value) for point in points]
        return run_id

    def _created(self) -> str:
        overrides = typed_overrides(self.folder)
        name = run_name(self.config, overrides)
        tags = {
            "mlflow.runName": name,
            "mlflow.source.name": "train.py",
            "trellis.overrides": " ".join(overrides),
            **git_tags(),
            **version_tags(),
        }
        # Set now, so that the run is marked FAILED if what follows fails.
        run_id = self.run_id = str(self.client.create_run(self.experiment_id, tags=tags, run_name=name).info.run_id)
        (self.folder / RUN_FILE).write_text(run_id)
        settings = {names.encoded(key): str(value)[:500] for key, value in parameters(self.config).items()}
        self.mlflow.log_params(settings, run_id=run_id)
        self.client.log_text(run_id, yaml.safe_dump(plain(self.config), sort_keys=False), "config.yaml")
        return run_id

    def log_data(self, data: Data) -> None:
        """Record the dataset with its digest and its source."""
        from mlflow.data.http_dataset_source import HTTPDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        download = self.config.data.download
        source = next(iter(download.values()))["url"] if download else address(next(iter(data.files.values())))
        # MLflow takes digests of 36 characters at most.
        self.dataset = MetaDataset(HTTPDatasetSource(source), name=self.config.data.name, digest=data.digest[:36])
        entry = DatasetInput(self.dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", "training")])
        self.client.log_inputs(self.run_id, datasets=[entry])
        self.client.set_tag(self.run_id, "trellis.data", data.description)

    def log_metrics(self, metrics: Metrics, step: int) -> None:
        """Record scores at an epoch as separate curves: `epoch/dev/f1`, where `dev/f1` is the final score."""
        for name, value in metrics.items():
            if name.startswith(("train/loss", "dev/")):
                self.history.setdefault(name, []).append((step, value))
        curves = {names.encoded(f"{CURVES}{name}"): value for name, value in metrics.items()}
        self.mlflow.log_metrics(curves, step=step, run_id=self.run_id)

    def log_final(self, metrics: Metrics) -> None:
        """Record the scores of the whole run, and a table of them as its description."""
        self.final = {names.encoded(name): value for name, value in metrics.items()}
        self.mlflow.log_metrics(self.final, step=0, run_id=self.run_id)
        self.client.set_tag(self.run_id, "mlflow.note.content", scores_table(self.config, metrics))
        runs = self.client.search_runs([self.experiment_id], max_results=100)
        scores = set(self.final).union(*(run.data.metrics for run in runs))
        self.client.set_experiment_tag(self.experiment_id, f"mlflow.sharedViewState.{VIEW}", view_of_runs(scores))

    def log_reports(self, folder: Path) -> None:
        """Record the reports, and the learning curve with them."""
        from trellis.pipelines.pictures import learning_curve

        if self.history:
            learning_curve(folder / "learning_curve.png", self.history)
        self.log_folder(folder)

    def log_folder(self, folder: Path) -> None:
        """Record the files of a folder, under its name."""
        self.client.log_artifacts(self.run_id, str(folder), folder.name)

    def log_model(self, export: Path, package: Package, monitor: str, score: float) -> None:
        """Record the export folder itself with a thin pyfunc over it, and register it on request."""
        import pandas
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, Schema
        from mlflow.types.schema import Array

        kinds = {
            "string": DataType.string,
            "number": DataType.double,
            "strings": Array(DataType.string),
            "numbers": Array(DataType.double),
        }
        signature = ModelSignature(
            inputs=Schema([ColSpec(DataType.string, name) for name in package.request]),
            outputs=Schema([ColSpec(kinds[kind], name) for name, kind in package.response.items()]),
        )
        version = importlib.metadata.version
        assert self.run_id is not None
        # MLflow warns that it would like type hints, from which it would infer the signature that is given here.
        with registry.active_run(self.run_id), captured_stderr():
            info = self.mlflow.pyfunc.log_model(
                name=self.config.model.name,
                python_model=str(PYFUNC),
                artifacts={"export": str(export)},
                signature=signature,
                input_example=pandas.DataFrame([dict(package.request)]),
                pip_requirements=[f"{name}=={version(name)}" for name in ("tensorflow", "mlflow", "pandas")],
            )
        self.mlflow.log_metrics(self.final, step=0, run_id=self.run_id, model_id=info.model_id, dataset=self.dataset)
        if self.register:
            registry.register(self.client, info.model_uri, self.register, monitor, score)

    def end(self, status: str, reason: str | None = None) -> None:
        """Record how the run ended; a run that never began has no record."""
        if self.run_id is None:
            return
        try:
            for name in ("metrics.json", "train.log"):
                if (self.folder / name).is_file():
                    self.client.log_artifact(self.run_id, str(self.folder / name))
            if reason:
                self.client.set_tag(self.run_id, "trellis.reason", " ".join(reason.split())[:1000])
            self.client.set_terminated(self.run_id, status)
        except Exception as error:
            log.warning("the run could not be marked %s (%s)", status, first_line(error))

    def problem(self, error: Exception) -> str | None:
        """Return the problem with the database, such as a full disk, in one line."""
        reason = next((each for each in DATABASE_ERRORS if each in str(error)), None)
        is_of_database = type(error).__module__.split(".")[0] in ("mlflow", "sqlalchemy", "sqlite3")
        return f"tracking.uri={self.uri}: cannot be written ({reason})" if reason and is_of_database else None

    def description(self) -> str:
        """Return the experiment and the run."""
        return f"{self.experiment}, run {self.run_id}"

    def command(self) -> str | None:
        """Return the command that opens MLflow's pages; None where a server shows them already."""
        return None if self._is_remote() else f"mlflow ui --backend-store-uri {_relative(self.uri)}"

    def page(self) -> str:
        """Return the address of the table of runs."""
        server = self.uri.rstrip("/") if self._is_remote() else "http://127.0.0.1:5000"
        return (
            f"{server}/#/experiments/{self.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"
        )

    def _is_remote(self) -> bool:
        return self.uri.startswith(("http://", "https://"))

    def _close_orphans(self) -> None:
        """Mark runs as KILLED if their process on this machine no longer exists (kill -9, power failure)."""
        for run in self.client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'"):
            if has_ended(run.data.tags.get("trellis.process", "")):
                self.client.set_tag(run.info.run_id, "trellis.reason", "its process no longer exists")
                self.client.set_terminated(run.info.run_id, "KILLED")


def _relative(uri: str) -> str:
    if not uri.startswith(database.PREFIX):
        return uri
    relative = os.path.relpath(uri.removeprefix(database.PREFIX))
    return uri if relative.startswith("..") else database.PREFIX + relative
