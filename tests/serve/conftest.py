"""Exports that several files of tests ask: each is trained once, whichever process of pytest needs it first."""

import fcntl
import os

import pytest

from tests.pipelines.runs import run


@pytest.fixture(scope="session")
def train(tmp_path_factory):
    """A function that trains a small model, unless another test has, and returns the folder of its export."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all processes

    def train(model, *overrides):
        export = folder / "trained" / model
        export.parent.mkdir(exist_ok=True)
        with open(f"{export}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not export.is_dir():
                aside = tmp_path_factory.mktemp(model)
                run(aside / "run", f"model={model}", *overrides, "tracking=off", f"export.dir={aside}/{model}")
                (aside / model).rename(export)
        return export

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
