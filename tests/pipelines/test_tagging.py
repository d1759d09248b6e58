"""The tagging pipeline from files to a served SavedModel, on the sample corpus."""

import csv
import functools
import json
import os
import re
import shutil
import signal
import socket
import sys
import time

import keras
import mlflow
import numpy as np
import pandas
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.core.util import event_pb2

from tests import warm_python
from tests.pipelines.runs import ROOT, check_segments, configured, heading, python, run, run_killed
from trellis.components.errors import InputError
from trellis.components.metrics.tagging_scores import entity_scores
from trellis.components.readers import conll
from trellis.components.saved_model import c_api
from trellis.components.saved_model.tagger_module import TaggerModule
from trellis.components.text import tag_schemes
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.pipelines import entity_confidence, seeds, settings, training
from trellis.pipelines.entity_confidence import FoundEntities
from trellis.pipelines.tagging import Tagging
from trellis.pipelines.tracking import server_health

SMALL = ("model.units=16", "model.words.dim=16", "model.characters.kind=none", "trainer.epochs=3",
         "limit.sentences=120", "text.min_count=1")  # fmt: skip
# Traced in half the time, for tests of the flow and of failures, which are the same for every tagger.
LIGHT = (*SMALL, "model=bilstm_softmax", "model.bidirectional=false")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, database):
    """A finished, tracked and exported run: its folder, metrics and export."""
    folder = tmp_path_factory.mktemp("trained")
    uri = database(folder)
    metrics = run(
        folder / "run", "model.units=32", "trainer.epochs=10", "trainer.average=0.8", "optimizer.learning_rate=0.01",
        f"tracking.uri={uri}",
        f"export.dir={folder}/exports/it", "tracking.register=tagger", "schedule=cosine", "schedule.warmup=0.1",
        "export.precision=0.9",
    )  # fmt: skip
    return folder, metrics, folder / "exports" / "it" / "1"


@pytest.fixture(scope="module")
def test_part():
    return conll.read(ROOT / "samples/ner/test.conll", 0, 1)


def padded(sentences):
    width = max(len(each.tokens) for each in sentences)
    return tf.constant([[*each.tokens, *[""] * (width - len(each.tokens))] for each in sentences])


load = functools.cache(lambda export: tf.saved_model.load(str(export)))


def served_tags(export, sentences):
    rows = load(export).signatures["serving_default"](tokens=padded(sentences))["tags"].numpy()
    return [[tag.decode() for tag in row[: len(s.tokens)]] for row, s in zip(rows, sentences, strict=True)]


def test_run_folder_and_metrics(trained):
    folder, metrics, _ = trained
    run_folder = folder / "run"
    assert {"metrics.json", "checkpoints", "reports"} <= {path.name for path in run_folder.iterdir()}
    for name in ("test/f1", "test/precision", "test/recall", "test/accuracy", "test/loss", "dev/f1", "dev/best"):
        assert isinstance(metrics[name], float), name
    assert metrics["test/f1"] > 0.3
    assert metrics["dev/best"] == metrics["dev/f1"]
    assert metrics["train/tokens_per_second"] > 0
    check_segments(run_folder, metrics)
    reports = {path.name for path in (run_folder / "reports").iterdir()}
    pictures = {"confusion.png", "learning_curve.png", "calibration.png"}
    tables = {"per_type.csv", "calibration.csv", "precision_recall.csv"}
    assert reports == {"predictions.test.conll", "errors.html", *tables, *pictures}
    gold, predicted = (conll.read(run_folder / "reports" / "predictions.test.conll", 0, column) for column in (1, 2))
    assert gold == conll.read(ROOT / "samples" / "ner" / "test.conll", 0, 1)
    scores = entity_scores(*([sentence.tags for sentence in sentences] for sentences in (gold, predicted)))
    assert scores["f1"] == pytest.approx(metrics["test/f1"])
    for title in heading(run_folder / "reports" / "errors.html"):
        assert re.fullmatch(r"Worst errors:? bilstm_crf · sample_ner · .*units=32 .* seed 1", title)
    rows = (run_folder / "reports" / "per_type.csv").read_text().splitlines()
    assert rows[0] == "type,precision,recall,f1,support" and {r.split(",")[0] for r in rows[1:]} >= {"PER", "LOC"}


def test_probabilities_of_entities_are_calibrated_on_dev(trained):
    folder, metrics, export = trained
    for part in ("dev", "test"):
        assert 0 <= metrics[f"{part}/calibration_error"] < 0.25
        assert metrics[f"{part}/calibration_error"] != metrics[f"{part}/calibration_error/uncalibrated"]
    facts = json.loads((export / "assets.extra" / "metadata.json").read_text())
    assert facts["calibration"]["temperature"] > 0 and "PER" in facts["calibration"]["types"]
    with open(folder / "run" / "reports" / "calibration.csv", newline="") as file:
        bins = list(csv.DictReader(file))
    assert len(bins) == 10 and sum(int(row["entities"]) for row in bins) > 50
    with open(folder / "run" / "reports" / "precision_recall.csv", newline="") as file:
        curves = list(csv.DictReader(file))
    assert {row["type"] for row in curves} >= {"all", "PER", "LOC"}


def test_an_export_keeps_the_entities_that_reach_the_precision_on_dev(trained):
    _, metrics, export = trained
    facts = json.loads((export / "assets.extra" / "metadata.json").read_text())
    assert metrics["dev/kept_precision"] >= facts["precision"] == 0.9 and 0 < facts["threshold"] < 1
    dev = conll.read(ROOT / "samples/ner/dev.conll", 0, 1)
    ask = functools.partial(load(export).signatures["token_entities"], tokens=padded(dev))
    own, equal, every = (
        {name: values.numpy() for name, values in ask(threshold=tf.fill([len(dev)], least)).items()}
        for least in (-1.0, facts["threshold"], 0.0)
    )
    assert all((own[name] == equal[name]).all() for name in own)
    assert 0 < own["count"].sum() < every["count"].sum()
    kept = {
        (row, own["type"][row][i].decode(), own["start_token"][row][i], own["end_token"][row][i])
        for row, count in enumerate(own["count"])
        for i in range(count)
    }
    gold = {(row, *entity) for row, sentence in enumerate(dev) for entity in tag_schemes.entities(sentence.tags)}
    assert len(kept & gold) / len(kept) == pytest.approx(metrics["dev/kept_precision"])
    assert len(kept & gold) / len(gold) == pytest.approx(metrics["dev/kept_recall"])


def test_what_mlflow_has(trained):
    folder, metrics, _ = trained
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("trellis-sample_ner")
    (record,) = client.search_runs([experiment.experiment_id])
    assert record.info.status == "FINISHED"
    assert record.data.params["model.units"] == "32" and record.data.params["seed"] == "1"
    for name, value in metrics.items():
        assert record.data.metrics[name] == pytest.approx(value), name
    curve = client.get_metric_history(record.info.run_id, "epoch/dev/f1")
    assert [point.step for point in curve] == list(range(1, 11))
    assert max(point.value for point in curve) == pytest.approx(metrics["dev/f1"])
    finals = client.get_metric_history(record.info.run_id, "dev/f1")
    assert {(point.step, point.value) for point in finals} == {(0, metrics["dev/f1"])}
    assert record.data.tags["trellis.version.keras"] == keras.__version__
    (data,) = record.inputs.dataset_inputs
    assert data.dataset.name == "sample_ner" and len(data.dataset.digest) == 36
    artifacts = {each.path for each in client.list_artifacts(record.info.run_id)}
    assert {"config.yaml", "reports", "metrics.json"} <= artifacts
    champion = client.get_model_version_by_alias("tagger", "champion")
    assert float(champion.tags["dev/f1"]) == pytest.approx(metrics["dev/best"])


def test_a_table_of_runs_says_what_each_run_is(trained):
    folder, metrics, _ = trained
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (record,) = client.search_runs([client.get_experiment_by_name("trellis-sample_ner").experiment_id])
    assert record.info.run_name.startswith("bilstm_crf · sample_ner · ")
    assert "units=32" in record.info.run_name and record.info.run_name.endswith(" · seed 1")
    assert "model.units=32" in record.data.tags["trellis.overrides"].split(" ")
    assert not [key for key in record.data.params if "._" in key or key.startswith(("tracking.", "data.files"))]
    assert not [value for value in record.data.params.values() if "${" in value or value == "None"]
    note = record.data.tags["mlflow.note.content"]
    assert f"| f1 | {metrics['dev/f1']:.4f} | {metrics['test/f1']:.4f} |" in note


def test_the_logged_model_has_the_scores_and_the_dataset(trained):
    folder, metrics, _ = trained
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (logged,) = client.search_logged_models([client.get_experiment_by_name("trellis-sample_ner").experiment_id])
    assert logged.name == "bilstm_crf"
    scores = {metric.key: metric for metric in logged.metrics}
    assert scores["test/f1"].value == pytest.approx(metrics["test/f1"])
    assert scores["test/f1"].dataset_name == "sample_ner"


def test_the_logged_model_tags_strings(trained):
    folder, _, _ = trained
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/tagger@champion")
    frame = model.predict(pandas.DataFrame({"text": ["Mary flew to Oslo.", ""]}))
    assert list(frame.columns) == ["tokens", "tags", "confidence"]
    assert frame.tokens[0] == ["Mary", "flew", "to", "Oslo", "."]
    assert len(frame.tags[0]) == 5 and frame.tags[1] == []
    assert list(model.input_example.columns) == ["text"]
    assert model.metadata.signature.inputs.input_names() == ["text"]


def test_the_checkpoint_is_an_ordinary_keras_model(trained):
    folder, _, _ = trained
    model = keras.saving.load_model(folder / "run" / "checkpoints" / "best.keras")
    assert isinstance(model, keras.Model) and model.get_layer("head").name == "head"


@pytest.fixture(scope="module")
def tag_in_python(trained):
    """A function that returns the ids of the tags of a batch of tokens, and the tags by their ids."""
    folder, _, _ = trained
    model = keras.saving.load_model(folder / "run" / "checkpoints" / "best.keras")
    tokens = [token for s in conll.read(ROOT / "samples/ner/train.conll", 0, 1) for token in s.tokens]
    vectorizer = TokenVectorizer.adapt(tokens, min_count=2)
    names = sorted({tag for s in conll.read(ROOT / "samples/ner/train.conll", 0, 1) for tag in s.tags})
    return tf.function(lambda batch: model(vectorizer(batch), training=False), reduce_retracing=True), names


def predictions_in_python(tag_in_python, sentences, rows, shuffle=None, extra_time=0, dummies=0):
    """Tags by the Keras model, `rows` sentences a batch, optionally in another order and beside padding."""
    tag, names = tag_in_python
    order = list(range(len(sentences)))
    if shuffle is not None:
        np.random.default_rng(shuffle).shuffle(order)
    tags = [None] * len(sentences)
    for begin in range(0, len(order), rows):
        chosen = order[begin : begin + rows]
        batch = tf.pad(padded([sentences[i] for i in chosen]), [[0, dummies], [0, extra_time]], constant_values="")
        for index, row in zip(chosen, tag(batch).numpy(), strict=False):
            tags[index] = [names[tag] for tag in row[: len(sentences[index].tokens)]]
    return tags


def test_a_prediction_never_depends_on_its_company(trained, tag_in_python, test_part):
    _, _, export = trained
    alone = predictions_in_python(tag_in_python, test_part, 1)
    assert any(tag != "O" for tags in alone for tag in tags)
    assert predictions_in_python(tag_in_python, test_part, 7, shuffle=1) == alone
    assert predictions_in_python(tag_in_python, test_part, 64, shuffle=2, extra_time=9, dummies=3) == alone
    assert predictions_in_python(tag_in_python, test_part, len(test_part)) == alone
    assert served_tags(export, test_part) == alone
    serve = load(export).signatures["serving_default"]
    for sentence, tags in zip(test_part, alone, strict=True):
        assert [tag.decode() for tag in serve(tokens=padded([sentence]))["tags"].numpy()[0]] == tags
    wide = serve(tokens=tf.pad(padded(test_part), [[0, 5], [0, 11]], constant_values=""))
    narrow = serve(tokens=padded(test_part))
    time = narrow["tags"].shape[1]
    np.testing.assert_array_equal(wide["tags"][: len(test_part), :time], narrow["tags"])
    np.testing.assert_allclose(wide["confidence"][: len(test_part), :time], narrow["confidence"], atol=1e-5)
    assert not tf.strings.length(wide["tags"][len(test_part) :]).numpy().any()


def test_corners_of_the_export(trained):
    _, _, export = trained
    tag, read = load(export).signatures["serving_default"], load(export).signatures["from_text"]
    assert tag(tokens=tf.zeros([0, 0], tf.string))["tags"].shape == (0, 0)
    assert tag(tokens=tf.zeros([3, 0], tf.string))["tags"].shape == (3, 0)
    assert read(text=tf.zeros([0], tf.string))["tokens"].shape[0] == 0
    empty = read(text=tf.constant(["", "Oslo ."]))
    assert empty["tags"].numpy()[0].tolist() == [b"", b""] and not empty["confidence"][0].numpy().any()
    odd = [["\x00", "a\u00a0b", "😀", "x" * 100_000], ["", "inner", "", ""]]
    out = tag(tokens=tf.constant(odd))
    assert all(out["tags"].numpy()[0]) and [bool(t) for t in out["tags"].numpy()[1]] == [True, True, False, False]
    assert tag(tokens=tf.constant([[b"\xff\xfe", b"ok"]]))["tags"].shape == (1, 2)
    long = tag(tokens=tf.fill([1, 5000], "Oslo"))
    assert long["tags"].shape == (1, 5000) and np.isfinite(long["confidence"]).all()
    confidence = read(text=tf.constant(["Mary Smith flew from Oslo to Lima."]))["confidence"].numpy()
    assert ((confidence > 0) & (confidence <= 1 + 1e-6)).all()


def test_export_in_a_process_without_our_code(trained, tag_in_python, test_part, tmp_path):
    _, _, export = trained
    (tmp_path / "tokens.json").write_text(json.dumps([each.tokens for each in test_part]))
    shutil.copytree(export, tmp_path / "model")
    script = """
import json, sys, tensorflow as tf
rows = json.load(open("tokens.json")); width = max(map(len, rows))
model = tf.saved_model.load("model")
out = model.signatures["serving_default"](tokens=tf.constant([r + [""] * (width - len(r)) for r in rows]))
assert not {m for m in sys.modules if m.split(".")[0] in ("trellis", "components", "pipelines", "serve")}
json.dump([[t.decode() for t in tags[:len(r)]] for tags, r in zip(out["tags"].numpy(), rows)], open("tags.json", "w"))
"""
    done = warm_python.python("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "tags.json").read_text()) == predictions_in_python(tag_in_python, test_part, 50)


def test_export_through_the_c_api(trained, test_part):
    """The way TF Serving loads it: no Python in TensorFlow at all."""
    _, _, export = trained
    definition = saved_model_pb2.SavedModel.FromString((export / "saved_model.pb").read_bytes())
    signature = definition.meta_graphs[0].signature_def["serving_default"]
    tokens = padded(test_part).numpy()
    (found,) = c_api.Session(export).run({signature.inputs["tokens"].name: tokens}, [signature.outputs["tags"].name])
    tags = [[tag.decode() for tag in row[: len(s.tokens)]] for row, s in zip(found, test_part, strict=True)]
    assert tags == served_tags(export, test_part)


WHOLE = (
    *SMALL,
    "model.bidirectional=false",
    "trainer.average=0.9",
    "model.dropout.recurrent=0.2",
    "export=off",
    "trainer.epochs=4",
)


def without_speeds(metrics):
    return {k: v for k, v in metrics.items() if k not in ("train/tokens_per_second", "train/step_ms")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The metrics of a run that nothing stopped."""
    return without_speeds(run(tmp_path_factory.mktemp("whole"), *WHOLE, "tracking=off"))


def test_the_same_seed_gives_the_same_metrics(tmp_path, whole):
    assert whole == without_speeds(run(tmp_path / "again", *WHOLE, "tracking=off"))
    assert whole != without_speeds(run(tmp_path / "other", *WHOLE, "tracking=off", "seed=2"))


class _Stopped(BaseException):
    """As sudden as SIGKILL."""


@pytest.mark.parametrize("when", ["while training", "before the checkpoint", "after the checkpoint"])
def test_a_killed_run_resumes_to_the_same_metrics(tmp_path, monkeypatch, database, whole, when):
    from trellis.components.training import checkpoints

    uri = f"tracking.uri={database(tmp_path)}"
    save, counted = checkpoints.save, []

    def stopping_save(*arguments):
        counted.append(1)
        if len(counted) == 2 and when == "before the checkpoint":
            raise _Stopped
        save(*arguments)
        if len(counted) == 2 and when == "after the checkpoint":
            raise _Stopped

    def stopping_batch(self, batch, logs=None):
        if len(self.progress.epochs) == 2 and when == "while training":
            raise _Stopped

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", stopping_save)
        patch.setattr(training.EpochEnd, "on_train_batch_end", stopping_batch)
        with pytest.raises(_Stopped):
            run(tmp_path / "killed", *WHOLE, uri)
    assert not (tmp_path / "killed" / "metrics.json").exists()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiments = [each.experiment_id for each in client.search_experiments()]
    assert [each.info.status for each in client.search_runs(experiments)] == ["FAILED"]

    resumed = run(tmp_path / "killed", *WHOLE, uri, "resume=true")
    (record,) = client.search_runs(experiments)
    assert record.info.status == "FINISHED"
    curve = client.get_metric_history(record.info.run_id, "epoch/dev/f1")
    assert sorted({point.step for point in curve}) == [1, 2, 3, 4]
    assert len({(point.step, point.value) for point in curve}) == 4  # an epoch that is repeated scores the same
    assert without_speeds(resumed) == whole


def test_a_run_resumes_within_an_epoch(tmp_path, monkeypatch, whole, capfd):
    options = (*WHOLE, "tracking=off", "trainer.steps_per_call=2", "trainer.checkpoint_every=3")
    assert without_speeds(run_killed(tmp_path, monkeypatch, *options)) == whole
    assert "resuming after epoch 0 of 4 and 4 of " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model=hmm"], "trainer.checkpoint_every=5: model=hmm counts over whole epochs; set it to null"),
        (
            ["trainer.strategy=multi_worker"],
            "trainer.checkpoint_every=5: several workers write checkpoints after whole epochs only; set it to null",
        ),
    ],
)
def test_checkpoints_within_epochs_are_refused_where_they_are_not_exact(overrides, expected):
    with pytest.raises(InputError, match=re.escape(expected)):
        settings.validate(configured("trainer.checkpoint_every=5", *overrides))


def files_in(folder):
    return [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]


def test_an_export_is_copied_to_a_url(tmp_path, capfd):
    options = ("model=hmm", "limit.sentences=20", "tracking=off", f"export.dir={tmp_path}/exports")
    run(tmp_path / "run", *options, f"export.upload=file://{tmp_path}/bucket/hmm")
    here, there = tmp_path / "exports/1", tmp_path / "bucket/hmm/1"
    assert set(files_in(here)) == set(files_in(there))
    assert f"copied the export to file://{tmp_path}/bucket/hmm/1" in capfd.readouterr().err
    with pytest.raises(InputError, match=r"export.upload=exports/hmm: must be a URL, such as s3://bucket/models/NAME"):
        settings.validate(configured("export.upload=exports/hmm"))
    with pytest.raises(InputError, match=r"export.upload=s3://bucket/hmm: export=off writes no export to copy"):
        settings.validate(configured("export=off", "export.upload=s3://bucket/hmm"))


def _read_until(process, start):
    """Return the first line on standard error that starts so; empty if the process ends before."""
    return next((line for line in process.stderr if line.startswith(start)), "")


def test_sigkill_and_resume_from_the_command_line(tmp_path, database):
    """The same command with resume=true finds the run by its configuration, and marks nothing RUNNING."""
    overrides = (
        "model=bilstm_softmax", "model.bidirectional=false", "model.units=8", "model.characters.kind=none",
        "trainer.epochs=15", "trainer.patience=15", "export=off", "limit.sentences=40",
        f"tracking.uri={database(tmp_path)}",
    )  # fmt: skip
    command = (ROOT / "train.py", *overrides)
    process = warm_python.start(*command, "resume=true", cwd=tmp_path)
    assert "starting anew" in process.stderr.readline()
    assert _read_until(process, "epoch 3/")
    process.send_signal(signal.SIGKILL)
    process.wait()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiments = [each.experiment_id for each in client.search_experiments()]
    assert [each.info.status for each in client.search_runs(experiments)] == ["RUNNING"]

    # Another run on this machine notices the dead one; then SIGTERM, whose record says KILLED.
    process = warm_python.start(*command, "seed=2", cwd=tmp_path)
    assert _read_until(process, "epoch 1/")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    statuses = sorted((each.info.status, each.data.tags["trellis.reason"]) for each in client.search_runs(experiments))
    assert statuses == [("KILLED", "its process no longer exists"), ("KILLED", "terminated")]

    done = warm_python.python(*command, "resume=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^resuming after epoch \d+ of 15$", done.stderr, re.M) and "epoch 1/" not in done.stderr
    assert len(list(tmp_path.glob("outputs/*/*/metrics.json"))) == 1
    assert sorted(each.info.status for each in client.search_runs(experiments)) == ["FINISHED", "KILLED"]


def test_a_sweep_over_seeds(tmp_path, database):
    started = time.time()
    done = warm_python.python(
        ROOT / "train.py", "-m", "model=hmm,memm", "seed=1,2", "debug=limit", "limit.sentences=40",
        "export=off", f"tracking.uri={database(tmp_path)}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = done.stdout[done.stdout.index("4 runs:") :]
    assert max(map(len, table.splitlines()[:6])) <= 80 and "test/f1" in table and "++" not in table
    rows = [line for line in table.splitlines() if re.match("model=(hmm|memm) .* ± .* 2$", line.rstrip())]
    assert len(rows) == 2
    best = re.search(r"best on dev \(dev/f1 [\d.]+\); to repeat it:\n  trellis train model=(hmm|memm) ", table)
    assert best, table
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    (sweep_run,) = [each for each in runs if "trellis.sweep" in each.data.tags]
    top = sweep_run.info.run_id
    # The row of the sweep in MLflow's table has the scores of its best configuration, and its page has all of them.
    assert sweep_run.data.tags["trellis.overrides"].startswith(f"best on dev: model={best[1]} ")
    assert f"Best on dev (dev/f1 {sweep_run.data.metrics['dev/f1']:.4f}): `trellis train" in (
        description := sweep_run.data.tags["mlflow.note.content"]
    )
    assert re.search(r"^\| model=hmm \| [\d.]+ ± [\d.]+ \|.* 2 \|$", description, re.MULTILINE)
    parents = {each.info.run_id: each for each in runs if "trellis.seeds" in each.data.tags}
    assert [each.data.tags["mlflow.parentRunId"] for each in parents.values()] == [top, top]
    children = [each for each in runs if each.data.tags.get("mlflow.parentRunId") in parents]
    assert (len(parents), len(children)) == (2, 4)
    assert all(each.data.metrics["n"] == 2 and "test/f1.sd" in each.data.metrics for each in parents.values())
    assert time.time() - started < 300
    (sweep,) = tmp_path.glob("multirun/*/*")
    again = python("-m", "trellis", "compare", sweep, cwd=tmp_path)
    assert again.stdout.strip().startswith(table.strip()) and "test/f1, difference from model=hmm" in again.stdout
    (tmp_path / "nothing").mkdir()
    for folder, reason in (("nothing", "no finished runs"), ("nowhere", "no such folder")):
        with pytest.raises(InputError, match=reason):
            seeds.collect([tmp_path / folder])


# what is wrong with the user's files and settings


def conll_folder(write, train="a O\nMary B-PER\n\nb O\n", dev="a O\n\nMary B-PER\n", test="a O\n"):
    for part, content in (("train", train), ("dev", dev), ("test", test)):
        path = write(f"own/{part}.conll", content)
    return path.parent


def read(folder, *overrides):
    return Tagging(configured("data=conll", f"data.path={folder}", *overrides)).read()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": ""}, r"train.conll: no sentences in this file"),
        ({"train": "a O\nb O\n"}, r"train.conll: every token has the tag 'O'; nothing to learn"),
        ({"dev": "a O\nb x O\n"}, r"dev.conll:2: 3 columns, expected 2"),
        ({"dev": b"\xff O\n"}, r"dev.conll:1: not UTF-8"),
        ({"train": "a O\nb X-PER\nMary B-PER\n"}, r"train.conll:2: tag 'X-PER' is neither O nor written B-TYPE"),
        ({"train": "a DT\nb NN\n"}, r"train.conll:1: tag 'DT' is in no scheme of entities.*data.task=pos"),
        ({"dev": "a O\n\nb PER-B\n\nc B-PER\n"}, r"dev.conll:3: tag 'PER-B' is neither O nor written B-TYPE"),
    ],
)
def test_broken_data(write, parts, message):
    with pytest.raises(InputError, match=message) as raised:
        read(conll_folder(write, **parts))
    assert "\n" not in str(raised.value)


def test_a_missing_part(write):
    folder = conll_folder(write)
    (folder / "test.conll").unlink()
    with pytest.raises(InputError, match=r"own/test.conll: no such file"):
        read(folder)


@pytest.mark.parametrize(
    ("names", "data"),
    [
        ("en_partut-ud-train.conllu en_partut-ud-dev.conllu en_partut-ud-test.conllu README.md LICENSE.txt", "conllu"),
        ("train.txt valid.txt test.txt train.pdf", "conll"),
        ("eng.train eng.testa eng.testb", "conll"),
        ("wnut17train.conll emerging.dev.conll emerging.test.annotated", "conll"),
    ],
)
def test_parts_are_found_by_their_usual_names(write, names, data):
    row = "1\ta\t_\tX\t_\t_\t_\t_\t_\t_\n2\tb\t_\tY\t_\t_\t_\t_\t_\t_\n" if data == "conllu" else "a B-X\nb O\n"
    for name in names.split():
        folder = write(f"own/{name}", row).parent
    task = Tagging(configured(f"data={data}", f"data.path={folder}", *["data.task=pos"] * (data == "conllu")))
    assert [file.name for file in task.read().files.values()] == names.split()[:3]


def test_what_a_folder_holds_is_said(write):
    folder = write("own/data.conllu", "x").parent
    with pytest.raises(InputError, match=r"the folder has data.conllu \(read by data=conllu\)"):
        read(folder)
    for name in ("a-train.conll", "b-train.conll"):
        write(f"own/{name}", "x")
    with pytest.raises(InputError, match=r"several files for the train part \(a-train.conll, b-train.conll\)"):
        read(folder)


@pytest.mark.parametrize("name", ["tst", "trian", "valid"])
def test_misspelt_parts_are_refused(write, name):
    folder = conll_folder(write)
    files = f"train: {folder}/train.conll, dev: {folder}/dev.conll, {name}: {folder}/test.conll"
    with pytest.raises(InputError, match=f"data.path: there is no '{name}'; did you mean"):
        Tagging(configured("data=conll", f"++data.path={{{files}}}")).read()


def test_a_tag_that_training_never_saw(write, tmp_path, caplog):
    folder = conll_folder(write, dev="a O\nx B-NEW\ny B-NEW\n\nMary B-PER\n", test="a O\nz B-LATE\n")
    metrics = run(tmp_path / "run", "data=conll", f"data.path={folder}", *SMALL, "tracking=off", "export=off")
    assert "dev.conll: tags that training never saw, counted as wrong: B-NEW (2×)" in caplog.text
    assert metrics["dev/recall"] <= 1 / 3 and np.isfinite(metrics["dev/loss"])
    assert "test/loss" not in metrics and metrics["test/recall"] == 0.0


def test_iob1_is_converted_and_iobes_never_leaves_training(write):
    folder = conll_folder(write, train="Mary I-PER\nAnn I-PER\nBob B-PER\nhe O\n", dev="Mary I-PER\nx O\n")
    data = read(folder, "data.scheme=iobes")
    assert data.parts["train"][0].tags == ("B-PER", "I-PER", "B-PER", "O")
    assert data.parts["dev"][0].tags == ("B-PER", "O")
    assert data.tags == ["B-PER", "E-PER", "O", "S-PER"]
    assert data.output_tags == ["B-PER", "I-PER", "O", "B-PER"]


@pytest.mark.parametrize(
    ("train", "dev", "scheme"),
    [
        ("Mary U-PER\nAnn U-PER\nhe O\n", "Ann U-PER\nx O\n", "BILOU"),
        ("Mary b-per\nAnn b-per\nhe o\n", "Ann B-per\nx O\n", "BIO2"),
        ("Mary per_B\nAnn per_B\nhe O\n", "Ann per_B\n", "BIO2 (written TYPE_B)"),
        ("Mary per\n\nAnn per\nhe O\n", "Ann per\n", "IO"),
        ("Mary B-PER\nAnn B-PER\nhe O\n", "Ann W-PER\nx O\n", "BIO2"),
    ],
)
def test_tags_in_any_scheme_are_read_as_bio2(write, train, dev, scheme, caplog):
    data = read(conll_folder(write, train=train, dev=dev))
    assert [tag.upper() for s in data.parts["train"] for tag in s.tags] == ["B-PER", "B-PER", "O"]
    assert data.parts["dev"][0].tags[0].upper() == "B-PER"
    assert data.description.endswith(f"written in {scheme}")
    assert f"tags are written in {scheme}; converted to BIO2" in caplog.text or scheme == "BIO2"


def test_impossible_gold_is_repaired_where_the_model_could_not_learn_it(write, caplog):
    folder = conll_folder(write, train="a O\nMary I-PER\nb I-PER\n\nAnn B-PER\n", dev="a O\nMary I-PER\n")
    data = read(folder, "model.constraints=training")
    assert data.parts["train"][0].tags == ("O", "B-PER", "I-PER") and data.parts["dev"][0].tags == ("O", "B-PER")
    assert "train.conll:2: I-PER continues no entity, so model.constraints=training reads it as B-PER" in caplog.text
    assert "1 sentences have such tags" in caplog.text
    assert read(folder).parts["train"][0].tags == ("O", "I-PER", "I-PER")


def test_iobes_pipeline_scores_and_exports_bio2(tmp_path):
    options = (
        *SMALL,
        "data.scheme=iobes",
        "tracking=off",
        f"export.dir={tmp_path}/exports",
        "trainer.epochs=12",
        "optimizer.learning_rate=0.01",
    )
    metrics = run(tmp_path / "run", *options)
    assert metrics["dev/f1"] > 0.05
    given = {
        t for tags in served_tags(tmp_path / "exports/1", conll.read(ROOT / "samples/ner/dev.conll")) for t in tags
    }
    assert {tag[0] for tag in given} <= set("BIO") and "B" in {tag[0] for tag in given}


def test_long_sentences_are_trained_on_and_tagged_whole(write, tmp_path):
    long = "".join(f"w{n % 7} {'B-X' if n % 7 == 3 else 'O'}\n" for n in range(3000))
    folder = conll_folder(write, train=long + "\na O\n", dev=long, test=long)
    metrics = run(tmp_path / "run", "data=conll", f"data.path={folder}", "model.units=8", "trainer.epochs=2",
                  "tracking=off", "export=off")  # fmt: skip
    assert metrics["test/accuracy"] > 0.8


def test_pos_scores_known_and_unknown_words_apart(write, tmp_path):
    folder = conll_folder(write, train="a X\nb Y\n\na X\n", dev="a X\nc Y\n", test="a X\nc Y\n")
    metrics = run(tmp_path / "run", "data=conll", "data.task=pos", f"data.path={folder}", *LIGHT, "tracking=off",
                  "export=off")  # fmt: skip
    assert {"test/accuracy", "test/accuracy_known", "test/accuracy_unknown"} <= set(metrics)
    assert "test/f1" not in metrics


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model=bow",), "export.precision=0.9: model=bow finds no entities"),
        (("data=ud_english_ewt",), "export.precision=0.9: data.task=pos has no entities"),
    ],
)
def test_a_precision_of_entities_needs_entities(tmp_path, overrides, message):
    with pytest.raises(InputError, match=re.escape(message)):
        run(tmp_path / "run", *overrides, "export.precision=0.9", "tracking=off")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_precision_that_dev_does_not_reach_is_said_and_nothing_is_dropped_without_entities(caplog):
    correct = np.array([True, False])
    found = FoundEntities(["A", "A"], np.array([0.5, 0.9]), correct, {"A": 2})
    assert entity_confidence.calibrate(found, None).threshold == 0
    threshold = entity_confidence.calibrate(found, 0.8).threshold
    assert threshold == pytest.approx(0.5, abs=0.2) and "the highest precision there is 0.500" in caplog.text
    nothing = FoundEntities([], np.zeros(0), np.zeros(0, bool), {"A": 2})
    assert entity_confidence.calibrate(nothing, 0.8).threshold == 0
    assert "no entities are found on dev" in caplog.text
    assert entity_confidence.scores("dev", nothing, entity_confidence.calibrate(nothing, None)) == {}


def test_a_failed_run_says_so_and_leaves_no_export(tmp_path, monkeypatch, database):
    def fail(self, path):
        path.joinpath("half").write_text("written")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TaggerModule, "save", fail)
    options = (*LIGHT, f"tracking.uri={database(tmp_path)}", f"export.dir={tmp_path}/exports")
    with pytest.raises(InputError, match=r"export.dir=.*: cannot be written \(No space left on device\)"):
        run(tmp_path / "run", *options)
    assert not list((tmp_path / "exports").iterdir())
    assert not (tmp_path / "run/metrics.json").exists()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (record,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert record.info.status == "FAILED" and "No space left" in record.data.tags["trellis.reason"]


def test_a_full_disk_while_training(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device", "last.npz")

    monkeypatch.setattr("trellis.components.training.checkpoints.save", fail)
    with pytest.raises(InputError, match=r"last.npz: cannot be written \(No space left on device\)"):
        run(tmp_path / "run", *LIGHT, "tracking=off", f"export.dir={tmp_path}/exports")
    assert not (tmp_path / "exports").exists()


def test_a_loss_that_is_no_number(tmp_path):
    wild = ("optimizer=sgd", "optimizer.learning_rate=1e30", "trainer.clip_norm=null", "model.characters.kind=cnn")
    with pytest.raises(InputError, match=r"the loss is .* in epoch 1; lower optimizer.learning_rate"):
        run(tmp_path / "run", *SMALL, *wild, "tracking=off", "export=off")


def test_an_export_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"export.dir=.*cannot be written to"):
        run(tmp_path / "run", *SMALL, "tracking=off", f"export.dir={tmp_path}/file/exports")
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_tracking_server_that_does_not_answer(tmp_path):
    with pytest.raises(InputError, match=r"tracking.uri=http://127.0.0.1:9: no MLflow server answers there"):
        run(tmp_path / "run", *SMALL, "tracking.uri=http://127.0.0.1:9", "export=off")
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_tracking_server_that_takes_the_call_and_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(server_health, "ANSWER_WITHIN", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=rf"tracking.uri={uri}: no MLflow server answers there \(timed out\)"):
            run(tmp_path / "run", *SMALL, f"tracking.uri={uri}", "export=off")
    assert not (tmp_path / "run/checkpoints").exists()


def test_tensorboard_and_the_profiler_write_to_the_run(tmp_path):
    profile = ("trainer.tensorboard=true", "trainer.profile={from: 2, to: 3}", "trainer.steps_per_call=1")
    metrics = run(tmp_path / "run", *LIGHT, *profile, "tracking=off", "export=off", "batching.sentences=30")
    board = tmp_path / "run" / "tensorboard"
    (events,) = (board / "train").glob("events.*")
    scalars = {
        value.tag: float(tf.make_ndarray(value.tensor))
        for event in map(event_pb2.Event.FromString, (raw.numpy() for raw in tf.data.TFRecordDataset(str(events))))
        for value in event.summary.value
        if event.step == 2
    }
    assert scalars["epoch_loss"] == pytest.approx(metrics["train/loss"], rel=1e-5)
    assert "epoch_dev/f1" in scalars
    assert list(board.glob("plugins/profile/*/*.xplane.pb"))


def test_a_damaged_checkpoint(tmp_path):
    options = (*LIGHT, "tracking=off", "export=off", "trainer.epochs=1")
    run(tmp_path / "run", *options)
    (tmp_path / "run/metrics.json").unlink()
    path = tmp_path / "run/checkpoints/last.npz"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"last.npz: damaged checkpoint .*; delete it to start") as raised:
            run(tmp_path / "run", *options, "resume=true")
        assert "\n" not in str(raised.value)


def test_tracking_off_does_not_import_mlflow(tmp_path):
    script = (
        "import sys; from pathlib import Path; from tests.pipelines.runs import run\n"
        f"run(Path('run'), *{LIGHT}, 'tracking=off', 'export=off', 'trainer.epochs=1')\n"
        "assert 'mlflow' not in sys.modules"
    )
    done = python("-c", script, cwd=tmp_path, PYTHONPATH=os.pathsep.join([str(ROOT), *sys.path]))
    assert done.returncode == 0, done.stderr


def test_debug_overfit_learns_its_sentences_by_heart(tmp_path):
    fast = ("model.units=32", "optimizer.learning_rate=0.01", "trainer.epochs=25")
    metrics = run(tmp_path / "run", "debug=overfit", "limit.sentences=16", *fast)
    assert metrics["test/f1"] > 0.97
