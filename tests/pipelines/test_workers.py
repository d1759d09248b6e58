"""Two workers train what one process trains, and go on after one of them was lost."""

import json
import os

import keras
import numpy as np
import pytest

from tests import warm_python
from tests.pipelines.runs import ROOT, configured, run
from trellis.components import workers
from trellis.components.cluster import Cluster
from trellis.components.errors import InputError
from trellis.pipelines import launch, settings

pytestmark = pytest.mark.slow


def without_dropout(*names):
    """Overrides: workers draw dropout of their own, so that only without it do they compute the same."""
    return [f"model.dropout.{name}=0" for name in names]


SHORT = ["limit.sentences=40", "trainer.epochs=2", "tracking=off", "export=off"]
SMALL = ["model.units=8", "model.dim=8", *SHORT]
NO_DROPOUT = without_dropout("word", "input", "recurrent", "output")
# One of each kind of task; one is clipped and regularized.
RUNS = {
    "tagger": ["model=feature_crf", "model.buckets=512", "model.l2=0.01", "trainer.clip_norm=1", *SHORT],
    "segments": [
        *("model=lstm_lm", "model.layers=1", "report.mixture=null"),
        *(*without_dropout("input", "between", "recurrent", "output"), *SMALL),
    ],
    "classifier": ["model=lstm_classifier", "model.class_weights=balanced", *NO_DROPOUT, *SMALL],
    "translator": [
        *("model=gru_translation", "text.subwords=300", "model.dim=8", "model.attention.units=8"),
        *("model.encoder.units=8", "model.decoder.units=8", "decoding.count=20", "report.pictures=0"),
        *(*without_dropout("word", "input", "between", "recurrent", "output"), *SHORT),
    ],
}
BY_EM = {
    "agreement": ["model=agreement", "model.iterations={ibm1: 1, hmm: 1}", "batching.cells=2000", *SHORT],
    "hmm": ["model=hmm", "model.labelled=0.5", "batching.tokens=200", *SHORT],
}


def start(folder, runs):
    """Start two workers on these runs; return their exit statuses."""
    command = ["-m", "tests.pipelines.worker", folder, json.dumps(list(runs.items()))]
    processes = [warm_python.start(*command, cwd=ROOT, **environment) for environment in launch._environments(2)]
    errors = [process.stderr.read() for process in processes]
    codes = [process.wait(1800) for process in processes]
    assert codes in ([0, 0], [0, 9]), "\n".join(errors)
    return codes


@pytest.fixture(scope="session")
def trained(made_once):
    """The folder of the runs of two workers; in the last one, worker 1 dies after an epoch, and both are restarted."""

    def make(aside):
        assert start(aside, {**RUNS, **BY_EM, "killed": RUNS["segments"]}) == [0, 9]
        assert start(aside, {"killed": [*RUNS["segments"], "resume=true"]}) == [0, 0]
        return aside

    return made_once("workers", make)


def scores(folder):
    """The metrics of a run that do not depend on the clock."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if not name.endswith(("_per_second", "step_ms"))}


@pytest.mark.parametrize("name", RUNS)
def test_two_workers_train_what_one_process_trains(trained, name, tmp_path):
    run(tmp_path, *RUNS[name])
    assert scores(trained / name) == pytest.approx(scores(tmp_path), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", BY_EM)
def test_expectation_maximization_by_two_workers_gives_the_tables_of_one(trained, name, tmp_path):
    run(tmp_path, *BY_EM[name])
    ours, expected = (dict(np.load(folder / "checkpoints" / "last.npz")) for folder in (trained / name, tmp_path))
    del ours["state"], expected["state"]
    assert len(expected) > 5
    for array in expected:
        np.testing.assert_allclose(ours[array], expected[array], rtol=1e-5, atol=1e-6)
    # Of links that are equally likely, rounding decides which one is chosen: their scores may differ.
    assert scores(trained / name)["train/loss"] == pytest.approx(scores(tmp_path)["train/loss"], rel=1e-6)


def test_a_run_whose_worker_was_lost_ends_with_the_metrics_of_an_unbroken_one(trained):
    error = (trained / "killed" / "error.txt").read_text()
    assert error.startswith("worker 1 (127.0.0.1:") and error.endswith(
        "ended; start all workers again with resume=true"
    )
    assert scores(trained / "killed") == pytest.approx(scores(trained / "segments"), rel=1e-6)


def test_only_the_chief_writes(trained):
    assert {"metrics.json", "checkpoints", "reports"} <= set(os.listdir(trained / "tagger"))
    assert os.listdir(trained / "tagger-worker1") == []


def test_each_worker_draws_dropout_of_its_own(monkeypatch):
    inputs = keras.Input((1000,))
    model = keras.Model(inputs, keras.layers.Dropout(0.5, seed=1)(inputs))
    drawn = []
    for index in range(2):
        monkeypatch.setattr(workers, "_cluster", Cluster(("a:1", "b:1"), index))
        model.layers[1].seed_generator.state.assign([1, 0])
        workers.vary_dropout(model.variables)
        drawn.append(np.asarray(model(np.ones((1, 1000)), training=True)) != 0)
    assert 0.4 < np.mean(drawn[0] == drawn[1]) < 0.6


def test_a_model_that_one_process_trains_is_refused_by_its_name():
    with pytest.raises(InputError, match="model=ngram is trained by one process alone"):
        settings.validate(configured("model=ngram", "trainer.strategy=multi_worker"))
