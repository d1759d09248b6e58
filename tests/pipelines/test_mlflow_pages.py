"""MLflow's pages of a sweep in a browser: the table of runs, a run, and runs side by side."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from urllib.parse import quote

import pytest
from omegaconf import OmegaConf

from tests.pipelines.runs import configured
from trellis.pipelines.tracking.mlflow_tracker import MLflowTracker
from trellis.pipelines.tracking.parent_run import RUN_FILE, Configuration, Sweep, log_sweep

MODELS = {"hmm": 0.61, "memm": 0.68, "feature_crf": 0.74, "bilstm_crf": 0.85}
SCORES = "[role=gridcell][col-id*='test/f1']"
NAMES = [f"{model} · sample_ner · epochs=3 · seed 1" for model in MODELS]


def record(folder, uri, model, score):
    """Record a run of which everything is made up but the way it is recorded."""
    overrides = [f"model={model}", f"tracking.uri={uri}", "trainer.epochs=3"]
    config = configured(*overrides)
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.create(overrides), folder / ".hydra" / "overrides.yaml")
    tracker = MLflowTracker(config, folder, uri, config.tracking.experiment, None)
    tracker.start()
    for epoch in (1, 2, 3):
        tracker.log_metrics({"train/loss": 3.0 / epoch, "dev/f1": score - 0.1 / epoch}, epoch)
    metrics = {"dev/f1": score - 0.03, "test/f1": score, "test/precision": score, "train/tokens_per_second": 20_000.0}
    tracker.log_final(metrics)
    tracker.end("FINISHED")
    return tracker, Configuration([folder], [metrics], model)


@pytest.fixture(scope="module")
def store(tmp_path_factory, database):
    """The tracker of the last of four runs, and the port of MLflow's server."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = database(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        runs = [record(folder / model, uri, model, score) for model, score in MODELS.items()]
        best = Sweep("sweep of 4 runs", "| model | test/f1 |", "model=bilstm_crf", {"dev/f1": 0.82, "test/f1": 0.85})
        log_sweep(best, [configuration for _, configuration in runs])
    return folder, runs[-1][0]


@pytest.fixture(scope="module")
def server(chromium, store):
    """The address of MLflow's server over the store; without a browser it is not started."""
    del chromium
    folder, tracker = store
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--backend-store-uri", tracker.uri],
        cwd=folder,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    os.killpg(process.pid, 15)
    process.wait(20)


@pytest.fixture(scope="module")
def browser(chromium):
    chromium.size(1600, 1400)
    return chromium


def in_model_training_mode(browser):
    """Whether the navigation is that of models, not that of chat assistants."""
    links = browser.texts("aside a, nav a")
    return any("Model registry" in link for link in links) and not any("Prompts" in link for link in links)


def test_the_printed_address_opens_the_scores_of_all_runs(store, server, browser):
    _, tracker = store
    browser.open(tracker.page().replace("http://127.0.0.1:5000", server))
    # The row of the sweep has the scores of its best run, and opens.
    browser.wait(f"document.querySelectorAll({json.dumps(SCORES)}).length === 1")
    assert browser.texts(SCORES) == ["0.85"]
    browser.run("document.querySelector('button[data-component-id*=runnamecell]').click()")
    browser.wait(f"document.querySelectorAll({json.dumps(SCORES)}).length === 5")
    assert browser.texts(SCORES) == ["0.85", "0.85", "0.74", "0.68", "0.61"]
    places = (
        "[...document.querySelectorAll('[role=columnheader]')].map(e => [e.getBoundingClientRect().x, e.innerText])"
    )
    headers = [text.strip() for _, text in sorted(browser.run(places)) if "/" in text or "." in text]
    assert list(dict.fromkeys(headers)) == ["test/f1", "dev/f1", "train/tokens_per_second", "trellis.overrides"]
    names = browser.texts("[role=grid] a")
    assert [name for name in names if "seed" in name] == NAMES[::-1]
    assert in_model_training_mode(browser)


def test_the_page_of_a_run_says_what_it_is_and_how_good(store, server, browser):
    folder, tracker = store
    run = (folder / "bilstm_crf" / RUN_FILE).read_text()
    browser.open(f"{server}/#/experiments/{tracker.experiment_id}/runs/{run}?workflowType=machine_learning")
    browser.wait("document.body.innerText.includes('Metrics (')")
    text = browser.run("document.body.innerText")
    for shown in ("bilstm_crf · sample_ner · epochs=3 · seed 1", "bilstm_crf on sample_ner", "test/f1", "epoch/dev/f1"):
        assert shown in text
    assert ["f1", "0.8200", "0.8500"] in [row.split("\t") for row in browser.texts("table tr")]
    assert in_model_training_mode(browser)


def test_runs_side_by_side_have_their_names_and_scores(store, server, browser):
    folder, tracker = store
    runs = [(folder / model / RUN_FILE).read_text() for model in MODELS]
    experiments = json.dumps([tracker.experiment_id])
    address = f"{server}/#/compare-runs?runs={quote(json.dumps(runs))}&experiments={quote(experiments)}"
    browser.open(f"{address}&workflowType=machine_learning")
    browser.wait("document.body.innerText.includes('Comparing 4 Runs from 1 Experiment')")
    browser.wait("document.body.innerText.includes('test/f1')")
    rows = {row[0].strip(): row[1:] for row in (text.split("\t") for text in browser.texts("tr"))}
    assert [name.strip() for name in rows["Run Name:"]] == NAMES
    # Names of metrics are in one column of the page, their values in others: the names come first, then rows of values.
    shown = (
        browser.run("document.body.innerText").rpartition("\nMetrics\n")[2].partition("\nArtifacts\n")[0].split("\n")
    )
    metrics = [line for line in shown if "/" in line]
    values = [float(line) for line in shown if line.replace(".", "").isdigit()]
    first = len(MODELS) * metrics.index("test/f1")
    assert values[first : first + len(MODELS)] == list(MODELS.values())
