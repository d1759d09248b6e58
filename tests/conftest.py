"""What tests share: a quiet TensorFlow, an isolated home for runs, and the place of the real corpora."""

import fcntl
import gc
import os
import shutil
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
os.environ["TRELLIS_XLA"] = "0"  # tests that want XLA say so; to compile many small shapes takes minutes
# Graphs of tests run a few times each: optimizing them takes longer than it saves. `make train` and `make wheel` do.
os.environ["TRELLIS_GRAPPLER"] = "0"
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # compiles in two thirds of the time

from tests.browser import CHROMIUM, Browser  # noqa: E402
from trellis.components.quiet import captured_stderr  # noqa: E402

REAL = next(
    (
        Path(place).resolve()
        for place in (os.environ.get("TRELLIS_DATA"), ROOT.parent / "shared" / "data")
        if place and (Path(place) / "conll2003").is_dir()
    ),
    None,
)


def pytest_configure(config):
    """Set TensorFlow up in the processes that run tests; the one that hands them out does without it."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        return
    with captured_stderr():
        import tensorflow as tf

        from tests import heavy_imports  # noqa: F401

    # Two CPU devices, for what has to work over several replicas.
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    gc.set_threshold(10_000)  # tracing graphs makes many objects


@pytest.fixture(scope="module", autouse=True)
def _frozen():
    """Keep the garbage collector, which every run calls, from visiting libraries and what earlier files left."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    # Files that take long first, or at the end one process works on them alone: those that train, and large ones.
    sizes = {path: path.stat().st_size for path in {item.path for item in items}}
    items.sort(key=lambda item: ("components" in item.path.parts, -sizes[item.path]))
    if REAL is None:
        warnings.warn("REAL CORPORA NOT FOUND: tests marked `real` are skipped; set TRELLIS_DATA", stacklevel=1)
        for item in items:
            if "real" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="real corpora not found; set TRELLIS_DATA"))


def pytest_terminal_summary(terminalreporter):
    if REAL is None:
        terminalreporter.write_line("REAL CORPORA NOT FOUND: tests marked `real` were skipped", red=True)
    if CHROMIUM is None:
        terminalreporter.write_line("CHROMIUM NOT FOUND: tests of pages in a browser were skipped", red=True)


@pytest.fixture(scope="session")
def real():
    """Folder of the real corpora."""
    return REAL


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A function that returns a file or folder, made by the first test of any process of pytest that needs it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all processes

    def made_once(name, make):
        """Return the path with this name; `make(aside)` makes it in a folder of its own and returns its path there."""
        target = folder / "made_once" / name
        target.parent.mkdir(exist_ok=True)
        with open(f"{target}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                make(tmp_path_factory.mktemp(name)).rename(target)
        return target

    return made_once


@pytest.fixture(scope="session")
def database(made_once):
    """A function that puts an empty database of MLflow, which takes seconds to make, into a folder; returns its URI."""

    def make(aside):
        from mlflow import MlflowClient

        MlflowClient(f"sqlite:///{aside}/mlflow.db").search_experiments()
        return aside / "mlflow.db"

    def database(folder):
        shutil.copyfile(made_once("mlflow.db", make), folder / "mlflow.db")
        return f"sqlite:///{folder}/mlflow.db"

    return database


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A browser, in the state in which the last test left it."""
    if CHROMIUM is None:
        pytest.skip("Chromium not found: pages are not tested in a browser")
    made = Browser(tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def train(made_once):
    """A function that trains a small model, unless another test has, and returns the folder of its export."""
    from tests.pipelines.runs import run

    def train(model, *overrides):
        def make(aside):
            where = "tracking=off", f"export.dir={aside}/{model}"
            run(aside / "run", f"model={model}", "export.verify=false", *overrides, *where)
            return aside / model

        return made_once(model, make)

    return train


@pytest.fixture(scope="session")
def tagger(train):
    return train("bilstm_crf", "model.units=8", "trainer.epochs=1", "limit.sentences=60")


@pytest.fixture(scope="session")
def aligner(train):
    return train("ibm1", "limit.sentences=100")


@pytest.fixture(scope="session")
def classifier(train):
    return train("lstm_classifier", "model.units=8", "model.dim=8", "trainer.epochs=1", "data.language=en")


@pytest.fixture(scope="session")
def language_model(train):
    sizes = "model.units=8", "model.dim=8", "trainer.epochs=1", "limit.sentences=100", "report.mixture=null"
    return train("gru_lm", *sizes)


@pytest.fixture
def write(tmp_path):
    """Writes a file of text or bytes below the test's folder and returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write
