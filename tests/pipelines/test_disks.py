"""Disks that are full or read-only: one line, no half-written file, and a record that says FAILED."""

import concurrent.futures
import errno
import json
import os
import resource
import time
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest

from tests.pipelines.runs import configured
from trellis.components.errors import InputError
from trellis.components.saved_model import package, versions
from trellis.pipelines import command_line
from trellis.pipelines.command_line import checked
from trellis.pipelines.packaging import Exporter
from trellis.pipelines.terminal import Terminal
from trellis.pipelines.tracking import database
from trellis.pipelines.tracking.lifecycle import tracked
from trellis.pipelines.tracking.mlflow_tracker import MLflowTracker
from trellis.pipelines.tracking.tracker import NullTracker

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
HMM = ("model=hmm", "limit.sentences=40", "tracking=off")


@pytest.fixture
def no_file_may_grow():
    """Lets every write to a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_from_the_start_is_reported_before_anything_runs(tmp_path, monkeypatch, no_file_may_grow):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^hydra.run.dir=outputs/.*: cannot be written to \(File too large\)$"):
        checked(["model=hmm"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_is_full_when_hydra_writes_is_one_line(tmp_path, monkeypatch, capsys, error):
    def fail(*_, **__):
        raise OSError(error, os.strerror(error), "outputs/.hydra/config.yaml")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["trellis"])
    monkeypatch.setattr("hydra.core.utils._save_config", fail)
    monkeypatch.setattr("logging.raiseExceptions", True)
    monkeypatch.setattr("trellis.components.termination.end_at_once", lambda: None)
    with pytest.raises(SystemExit) as stopped:
        command_line.main(["model=hmm"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"trellis train: error: outputs/.hydra/config.yaml: {os.strerror(error)}\n"
    assert "HYDRA_FULL_ERROR" not in os.environ


@pytest.mark.parametrize("step", ["logging the model", "publishing"])
def test_a_disk_that_fills_up_after_the_export_was_written_leaves_none(tmp_path, monkeypatch, step):
    def fail(*_, **__):
        raise FULL

    monkeypatch.setattr(Exporter, "_write", lambda self, path, *_: (path / "saved_model.pb").touch())
    if step == "publishing":
        monkeypatch.setattr(package, "publish_metadata", fail)
    exporter = Exporter(configured(*HMM, f"export.dir={tmp_path}/exports"))
    with pytest.raises(OSError, match="No space left"), exporter.written(*[None] * 5) as version:
        assert version == tmp_path / "exports" / "1" and version.is_dir()
        if step == "logging the model":
            fail()
    assert not list((tmp_path / "exports").iterdir())


def test_a_file_that_tensorflow_cannot_write_is_one_line(tmp_path):
    def write(path):
        import tensorflow as tf

        raise tf.errors.UnknownError(None, None, f"{path}/variables: File too large")

    with pytest.raises(InputError, match=r"^export.dir=.*: cannot be written \(File too large\)$"):
        versions.write_version(tmp_path, write)
    assert not list(tmp_path.iterdir())


def test_a_record_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    tracker = MLflowTracker(configured(*HMM), tmp_path, f"sqlite:///{tmp_path}/mlflow.db", "it", None)
    full = mlflow.MlflowException("(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT INTO …]")
    assert tracker.problem(full) == f"tracking.uri={tracker.uri}: cannot be written (database or disk is full)"
    assert tracker.problem(mlflow.MlflowException("no such run")) is None
    assert tracker.problem(ValueError("database or disk is full")) is None

    ended = []
    monkeypatch.setattr(NullTracker, "problem", lambda self, error: tracker.problem(error))
    monkeypatch.setattr(NullTracker, "end", lambda self, *status: ended.append(status))
    with pytest.raises(InputError, match="cannot be written"), tracked(configured(*HMM), tmp_path, Terminal()):
        raise full
    assert ended == [("FAILED", tracker.problem(full))]


def test_a_run_whose_record_could_not_be_begun_is_not_left_running(tmp_path):
    (tmp_path / "mlflow_run").mkdir()  # in the way of the file that holds its id
    ended = []
    tracker = MLflowTracker(configured(*HMM), tmp_path, f"sqlite:///{tmp_path}/mlflow.db", "it", None)
    tracker.experiment_id = "1"
    tracker.client = SimpleNamespace(
        create_run=lambda *_, **__: SimpleNamespace(info=SimpleNamespace(run_id="2")),
        set_tag=lambda *_: None,
        set_terminated=lambda *status: ended.append(status),
    )
    with pytest.raises(IsADirectoryError):
        tracker._created()
    tracker.end("FAILED", "no space")
    assert ended == [("2", "FAILED")]


def test_runs_that_export_at_the_same_time_publish_the_newest_metadata(tmp_path):
    def export(name):
        def write(path):
            (path / versions.EXTRA).mkdir()
            (path / "saved_model.pb").touch()
            for file in (package.METADATA, package.CARD):
                (path / versions.EXTRA / file).write_text(json.dumps(name))

        version = versions.write_version(tmp_path, write)
        package.publish_metadata(tmp_path)
        return version.name, name

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        written = dict(pool.map(export, range(40)))
    assert sorted(map(int, written)) == list(range(1, 41))
    for file in (package.METADATA, package.CARD):
        assert json.loads((tmp_path / file).read_text()) == written["40"]
    assert len(list(tmp_path.iterdir())) == 42


@pytest.mark.parametrize("ended", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_database_that_could_not_be_made_is_made_by_the_next_run(tmp_path, monkeypatch, ended):
    path, tables = tmp_path / "mlflow.db", []

    class Client:
        def __init__(self, uri):
            self.file = Path(uri.removeprefix("sqlite:///"))
            assert not self.file.exists() and not path.exists()

        def search_experiments(self):
            for table in ("experiments", "runs"):
                self.file.write_text(table)
                if not tables:
                    tables.append(table)
                    raise ended

    monkeypatch.setattr(mlflow, "MlflowClient", Client)
    with pytest.raises(type(ended)):
        database.make(f"sqlite:///{path}")
    assert not path.exists()
    (tmp_path / ".part-mlflow.db").write_text("half")  # as a process leaves it that is killed
    (tmp_path / ".part-mlflow.db-journal").write_text("half")
    for _ in range(2):  # the second finds it
        database.make(f"sqlite:///{path}")
    assert path.read_text() == "runs"
    assert sorted(file.name for file in tmp_path.iterdir()) == [".mlflow.db.lock", "mlflow.db"]


def test_one_process_at_a_time_makes_the_database(tmp_path, monkeypatch):
    inside, made = [], []

    class Client:
        def __init__(self, uri):
            self.file = Path(uri.removeprefix("sqlite:///"))

        def search_experiments(self):
            inside.append(1)
            assert len(inside) == 1
            self.file.write_text("tables")
            time.sleep(0.05)
            inside.pop()
            made.append(1)

    monkeypatch.setattr(mlflow, "MlflowClient", Client)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(database.make, [f"sqlite:///{tmp_path}/mlflow.db"] * 4))
    assert made == [1]
