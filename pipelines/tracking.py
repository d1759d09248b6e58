"""The MLflow run around a pipeline; nothing else in the project knows MLflow."""

import contextlib
import http.client
import importlib.metadata
import logging
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import hydra
import yaml
from omegaconf import OmegaConf

from trellis.components.errors import InputError
from trellis.components.quiet import captured_stderr
from trellis.pipelines.configuration import comparable, flatten

log = logging.getLogger(__name__)

RUN_FILE = "mlflow_run"
PACKAGES = ("tensorflow", "keras", "numpy", "hydra-core", "mlflow")
# Without it MLflow opens an experiment on its pages for chat assistants.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
ANSWER_WITHIN = 5  # seconds for a tracking server to say that it is there


def is_better(score, than, monitor):
    """Whether a score of this name is better than another one: of losses and error rates the lower."""
    return score < than if monitor.endswith(("loss", "aer", "perplexity")) else score > than


def fetched(source, config):
    """A folder with what `source` names: a registered model, `models:/NAME@champion`, or a folder already.

    Raises:
        InputError: MLflow knows no such model.
    """
    if not source.startswith("models:/"):
        return source
    import mlflow

    try:
        mlflow.set_tracking_uri(_address(config.tracking.get("uri")))
        with captured_stderr():
            return os.path.join(mlflow.artifacts.download_artifacts(source), "artifacts")
    except mlflow.MlflowException as error:
        raise InputError(f"init_from={source}: {str(error).splitlines()[0]}") from None


class Terminated(BaseException):
    """SIGTERM: the run is being killed."""


@contextlib.contextmanager
def tracked(config, folder):
    """A tracker for one run; however the run ends, its record says so: FINISHED, FAILED or KILLED, with the reason."""
    settings = OmegaConf.to_container(config.tracking, resolve=True)
    tracker = hydra.utils.get_class(settings.pop("_target_"))(config, folder, **settings)
    in_main = threading.current_thread() is threading.main_thread()

    def terminate(number, frame):
        raise Terminated

    former = signal.signal(signal.SIGTERM, terminate) if in_main else None
    try:
        tracker.start()
        yield tracker
        tracker.end("FINISHED")
    except (KeyboardInterrupt, Terminated) as error:
        word, status = ("interrupted", 130) if isinstance(error, KeyboardInterrupt) else ("terminated", 143)
        tracker.end("KILLED", word)
        print(f"\n{word}; the same command with resume=true goes on after the last whole epoch", file=sys.stderr)
        raise SystemExit(status) from None
    except BaseException as error:
        tracker.end("FAILED", f"{type(error).__name__}: {error}")
        raise
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, former)


class Off:
    """Tracks nothing, and does not import MLflow."""

    def __init__(self, config, folder):
        del config, folder

    def start(self):
        pass

    def log_data(self, task):
        pass

    def log_metrics(self, metrics, step):
        pass

    def log_reports(self, folder):
        pass

    def log_model(self, exported, task, metrics):
        pass

    def end(self, status, reason=None):
        pass

    def described(self):
        return None

    def interface(self):
        return None


class MLflow:
    """Tracks a run in MLflow.

    Args:
        uri: of the tracking server or database; None means `mlflow.db` in the current folder.
        experiment: its name there.
        register: name of a registered model that gets the export, or None.
    """

    def __init__(self, config, folder, uri, experiment, register):
        self.config, self.folder, self.register = config, folder, register
        self.uri = _address(uri)
        self.artifacts = (Path.cwd() / "mlartifacts").as_uri() if uri is None else None
        self.experiment = experiment
        self.run = None
        self.history = {}

    def start(self):
        self._check_server()
        # The first use of a new database logs its migrations.
        for name in ("alembic", "mlflow", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.ERROR)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        import mlflow

        self.mlflow = mlflow
        try:
            mlflow.set_tracking_uri(self.uri)
            self.client = mlflow.MlflowClient(self.uri)
            found = self.client.get_experiment_by_name(self.experiment)
            if found is None:
                place = f"{self.artifacts}/{self.experiment}" if self.artifacts else None
                try:
                    number = self.client.create_experiment(self.experiment, place, tags=EXPERIMENT_TAGS)
                except mlflow.MlflowException:
                    # Another run of the same sweep was quicker.
                    number = self.client.get_experiment_by_name(self.experiment).experiment_id
            else:
                number = found.experiment_id
        except Exception as error:
            raise InputError(f"tracking.uri={self.uri}: cannot be used ({str(error).splitlines()[0]})") from None
        self.experiment_id = number
        self._close_orphans()
        self._begin()

    def _begin(self):
        marker = self.folder / RUN_FILE
        if self.config.resume and marker.exists():
            self.run = self.client.get_run(marker.read_text().strip())
            self.client.update_run(self.run.info.run_id, status="RUNNING")
            for metric in ("train/loss", *(key for key in self.run.data.metrics if key.startswith("dev/"))):
                for point in self.client.get_metric_history(self.run.info.run_id, metric):
                    self.history.setdefault(metric, []).append((point.step, point.value))
        else:
            name = f"{self.config.model.name}-seed{self.config.seed}"
            tags = {"mlflow.runName": name, "mlflow.source.name": "train.py", **_git(), **_versions()}
            self.run = self.client.create_run(self.experiment_id, tags=tags, run_name=name)
            marker.write_text(self.run.info.run_id)
            parameters = {k: _short(v) for k, v in flatten(OmegaConf.create(comparable(self.config))).items()}
            self.mlflow.log_params(parameters, run_id=self.run.info.run_id)
            resolved = OmegaConf.to_container(self.config, resolve=True)
            self.client.log_text(self.run.info.run_id, yaml.safe_dump(resolved, sort_keys=False), "config.yaml")
        self.id = self.run.info.run_id
        self.client.set_tag(self.id, "trellis.process", f"{socket.gethostname()}:{os.getpid()}")

    def log_data(self, task):
        from mlflow.data.http_dataset_source import HTTPDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        download = self.config.data.download
        first = next(iter(task.files.values()))
        source = next(iter(download.values()))["url"] if download else Path(first).absolute().as_uri()
        # MLflow takes digests of 36 characters at most.
        data = MetaDataset(HTTPDatasetSource(source), name=self.config.data.name, digest=task.digest[:36])
        entry = DatasetInput(data._to_mlflow_entity(), [InputTag("mlflow.data.context", "training")])
        self.client.log_inputs(self.id, datasets=[entry])
        self.client.set_tag(self.id, "trellis.data", task.described())

    def log_metrics(self, metrics, step):
        for name, value in metrics.items():
            if "train/epochs" not in metrics and name.startswith(("train/loss", "dev/")):
                self.history.setdefault(name, []).append((step, value))
        self.mlflow.log_metrics(metrics, step=step, run_id=self.id)

    def log_reports(self, folder):
        from trellis.pipelines.pictures import learning_curve

        if self.history:
            learning_curve(folder / "learning_curve.png", self.history)
        self.client.log_artifacts(self.id, str(folder), "reports")

    def log_model(self, exported, task, metrics):
        """Logs the export folder itself with a thin pyfunc over it, and registers it on request."""
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
            inputs=Schema([ColSpec(DataType.string, name) for name in task.request]),
            outputs=Schema([ColSpec(kinds[kind], name) for name, kind in task.response.items()]),
        )
        version = importlib.metadata.version
        # MLflow warns that it would like type hints, from which it would infer the signature that is given here.
        with _run_id(self.mlflow, self.id), captured_stderr():
            info = self.mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).parents[1] / "serve" / "mlflow_model.py"),
                artifacts={"export": str(exported)},
                signature=signature,
                input_example=pandas.DataFrame([task.request]),
                pip_requirements=[f"{name}=={version(name)}" for name in ("tensorflow", "mlflow", "pandas")],
            )
        if self.register:
            self._promote(info.model_uri, task.monitor, metrics.get("dev/best", metrics["train/loss"]))

    def _promote(self, model_uri, monitor, score):
        """Registers a model, as `champion` if no champion is as good on dev."""
        name = self.register
        with captured_stderr():
            version = self.mlflow.register_model(model_uri, name, tags={monitor: str(score)})
        try:
            champion = self.client.get_model_version_by_alias(name, "champion")
            standing = float(champion.tags[monitor])
        except (self.mlflow.MlflowException, KeyError):
            standing = None
        better = standing is None or is_better(score, standing, monitor)
        if better:
            self.client.set_registered_model_alias(name, "champion", version.version)
        verdict = "champion" if better else f"the champion stays at {standing:.4f}"
        log.warning("registered %s version %s: %s %.4f, %s", name, version.version, monitor, score, verdict)

    def end(self, status, reason=None):
        if self.run is None:
            return
        try:
            if reason:
                self.client.set_tag(self.id, "trellis.reason", " ".join(reason.split())[:1000])
            self.client.set_terminated(self.id, status)
        except Exception:
            log.exception("the run could not be marked %s", status)

    def described(self):
        return f"{self.experiment}, run {self.id}"

    def interface(self):
        return f"mlflow ui --backend-store-uri {_relative_uri(self.uri)}"

    def _check_server(self):
        """A server that does not answer is said so now, not after an hour of training."""
        address = urllib.parse.urlsplit(self.uri)
        if address.scheme not in ("http", "https"):
            return
        try:
            urllib.request.urlopen(self.uri.rstrip("/") + "/health", timeout=ANSWER_WITHIN).close()
        except urllib.error.HTTPError:
            pass  # A refusal is an answer: what it means is MLflow's to say.
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            reason = getattr(reason, "strerror", None) or reason
            raise InputError(f"tracking.uri={self.uri}: no MLflow server answers there ({reason})") from None

    def _close_orphans(self):
        """Marks runs KILLED whose process on this machine is gone without having said anything (kill -9, power)."""
        for run in self.client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'"):
            host, _, process = run.data.tags.get("trellis.process", "").rpartition(":")
            if host == socket.gethostname() and process.isdigit() and not _alive(int(process)):
                self.client.set_tag(run.info.run_id, "trellis.reason", "its process was gone")
                self.client.set_terminated(run.info.run_id, "KILLED")


def parent_run(folders, metrics, line):
    """Puts the runs of several seeds under one parent run, which has their means and standard deviations.

    Args:
        folders: of the finished runs; does nothing unless all of them were tracked.
        metrics: of each run.
        line: the summary in words.
    """
    children = [(f / RUN_FILE).read_text().strip() for f in folders if (f / RUN_FILE).exists()]
    if len(children) != len(folders):
        return
    import mlflow

    settings = OmegaConf.load(folders[0] / ".hydra" / "config.yaml")
    client = mlflow.MlflowClient(_address(settings.tracking.uri))
    first = client.get_run(children[0])
    name = f"{settings.model.name} × {len(children)} seeds"
    parent = client.create_run(first.info.experiment_id, run_name=name, tags={"trellis.seeds": line})
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


def _address(uri):
    return uri or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


@contextlib.contextmanager
def _run_id(mlflow, run_id):
    """The run as MLflow's active one, without MLflow ending it."""
    former = os.environ.get("MLFLOW_RUN_ID")
    try:
        active = mlflow.start_run(run_id=run_id)
        yield active
    finally:
        mlflow.end_run("RUNNING")
        if former is not None:
            os.environ["MLFLOW_RUN_ID"] = former


def _alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _short(value):
    return str(value)[:500]


def _relative_uri(uri):
    prefix = "sqlite:///"
    if not uri.startswith(prefix):
        return uri
    relative = os.path.relpath(uri.removeprefix(prefix))
    return uri if relative.startswith("..") else prefix + relative


def commit():
    """The project's commit, None outside a repository."""
    return _git().get("mlflow.source.git.commit")


def _git():
    """Commit of the project and whether the working tree differs from it; nothing outside a repository."""

    def git(*arguments):
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
        return {"mlflow.source.git.commit": git("rev-parse", "HEAD"), "trellis.git.dirty": str(dirty).lower()}
    except (OSError, subprocess.SubprocessError):
        return {}


def _versions():
    return {f"trellis.version.{name}": importlib.metadata.version(name) for name in PACKAGES}
