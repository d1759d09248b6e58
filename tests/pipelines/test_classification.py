"""The classification pipeline from labelled text to exports that classify and search, and bad input."""

import csv
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.pipelines.runs import ROOT, check_segments, configured, heading, run
from trellis.components.errors import InputError
from trellis.components.models.classifier import SmoothedCrossentropy
from trellis.components.readers import labelled
from trellis.pipelines import settings
from trellis.pipelines.classification import Classification
from trellis.serve import predict, search

SAMPLE = ROOT / "samples" / "sentiment"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, database):
    folder = tmp_path_factory.mktemp("classes")
    metrics = run(
        folder / "run", "model=bilstm_classifier", f"export.dir={folder}/exports",
        f"tracking.uri={database(folder)}", "trainer.epochs=12", "model.units=48",
    )  # fmt: skip
    return folder, metrics, folder / "exports" / "1"


def examples(part):
    return labelled.read(SAMPLE / f"{part}.tsv")


def test_the_sample_is_what_it_says():
    parts = {part: examples(part) for part in ("train", "dev", "test")}
    assert sum(map(len, parts.values())) >= 400
    texts = [example.text for each in parts.values() for example in each]
    assert len(set(texts)) == len(texts)


def test_scores(trained):
    folder, metrics, _ = trained
    assert metrics["test/accuracy"] > 0.85
    check_segments(folder / "run", metrics)
    assert {"test/macro_f1", "test/loss", "test/f1/positive", "test/f1/negative", "dev/accuracy"} <= set(metrics)


def test_reports(trained):
    reports = trained[0] / "run" / "reports"
    assert (reports / "confusion.png").stat().st_size > 5000
    rows = list(csv.reader((reports / "per_class.csv").open()))
    assert rows[0] == ["class", "precision", "recall", "f1", "support"] and {r[0] for r in rows[1:]} == {
        "positive", "negative",
    }  # fmt: skip
    predicted = list(csv.DictReader((reports / "predictions.test.tsv").open(encoding="utf-8"), delimiter="\t"))
    assert [row["text"] for row in predicted] == [example.text for example in examples("test")]
    right = sum(row["label"] == row["predicted"] for row in predicted)
    assert right / len(predicted) == pytest.approx(trained[1]["test/accuracy"])
    assert "wrong" in (reports / "errors.html").read_text()
    for title in heading(reports / "errors.html"):
        assert re.fullmatch(
            r"Most confident errors:? bilstm_classifier · sample_sentiment · .*units=48 .* seed 1", title
        )


def test_the_export_says_what_the_pipeline_scored(trained):
    _, metrics, export = trained
    model = tf.saved_model.load(str(export))
    test = examples("test")
    out = model.signatures["serving_default"](text=tf.constant([example.text for example in test]))
    labels = [label.decode() for label in out["label"].numpy()]
    right = np.mean([label == example.label for label, example in zip(labels, test, strict=True)])
    assert right == pytest.approx(metrics["test/accuracy"])
    np.testing.assert_allclose(out["probabilities"].numpy().sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(out["probability"], out["probabilities"].numpy().max(1))
    assert out["labels"].shape == out["probabilities"].shape


def test_a_text_never_depends_on_its_company(trained):
    embed = tf.saved_model.load(str(trained[2])).signatures["embed"]
    texts = ["the soup was cold .", "", "what a warm and moving film this turned out to be , from first to last !"]
    together = embed(text=tf.constant(texts))["vector"]
    for row, text in enumerate(texts):
        np.testing.assert_allclose(embed(text=tf.constant([text]))["vector"][0], together[row], atol=1e-5)
    for odd in (b"\xff", b"a\x00b", b"word " * 3000):
        embed(text=tf.constant([odd]))


def test_the_command_lines(trained, capsys, tmp_path):
    folder = str(trained[2].parent)
    assert predict.main([folder, "the soup was wonderful", "", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.strip().split("\n")]
    assert [set(line["probabilities"]) for line in lines] == [{"positive", "negative"}] * 2
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(f"{example.text}\n\n" for example in examples("dev")))
    wanted = examples("dev")[3].text
    assert search.main([folder, str(corpus), wanted, "--count", "2", "--json"]) == 0
    first, second = [json.loads(line) for line in capsys.readouterr().out.strip().split("\n")]
    assert (first["text"], first["line"]) == (wanted, 7) and first["similarity"] == pytest.approx(1, abs=1e-3)
    assert second["similarity"] <= first["similarity"]
    assert search.main([folder, str(tmp_path / "none.txt"), "x"]) == 2
    corpus.write_text("\n")
    assert search.main([folder, str(corpus), "x"]) == 2
    assert "no sentences in it" in capsys.readouterr().err


def test_the_last_epoch_where_it_is_asked_for(tmp_path):
    small = ("model=cbow", "trainer.epochs=4", "trainer.monitor=dev/loss", "tracking=off",
             "export=off", "optimizer.learning_rate=0.1")  # fmt: skip
    best, last = (run(tmp_path / keep, *small, f"trainer.keep={keep}") for keep in ("best", "last"))
    epochs = json.loads(str(np.load(tmp_path / "last" / "checkpoints" / "last.npz")["state"]))["epochs"]
    assert best["dev/loss"] == pytest.approx(min(each["dev/loss"] for each in epochs), rel=1e-5)
    assert last["dev/loss"] == pytest.approx(epochs[-1]["dev/loss"], rel=1e-5)
    assert last["dev/loss"] > best["dev/loss"]
    with pytest.raises(InputError, match=r"trainer\.keep=first: must be best or last"):
        run(tmp_path / "first", *small, "trainer.keep=first")


def test_what_mlflow_has(trained):
    import mlflow
    import pandas

    client = mlflow.MlflowClient(f"sqlite:///{trained[0]}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("trellis-sample_sentiment").experiment_id])
    assert found.data.metrics["test/accuracy"] == pytest.approx(trained[1]["test/accuracy"])
    mlflow.set_tracking_uri(f"sqlite:///{trained[0]}/mlflow.db")
    model = mlflow.pyfunc.load_model(f"models:/{found.outputs.model_outputs[0].model_id}")
    answer = model.predict(pandas.DataFrame({"text": ["the soup was cold .", "a warm film"]}))
    assert set(answer["label"]) <= {"positive", "negative"} and answer["probability"].between(0.5, 1).all()


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=bow",),
        ("model=cbow",),
        ("model=rnn_classifier", "model.pooling=attention+max"),
        ("model=gru_classifier", "model.pooling=mean", "text.tokenizer=characters"),
        ("model=lstm_classifier", "model.layers=2", "model.class_weights=balanced", "model.bidirectional=true"),
        ("model=bilstm_classifier", "model.auxiliary=0.1", "model.pooling=last", "model.label_smoothing=0.2"),
    ],
    ids=lambda each: "-".join(each),
)
def test_every_model_from_train_to_export(tmp_path, overrides):
    metrics = run(
        tmp_path / "run", *overrides, "trainer.epochs=2", "tracking=off", f"export.dir={tmp_path}/exports"
    )  # fmt: skip
    model = tf.saved_model.load(f"{tmp_path}/exports/1")
    out = model.signatures["serving_default"](text=tf.constant([example.text for example in examples("test")]))
    right = np.mean([a.decode() == b.label for a, b in zip(out["label"].numpy(), examples("test"), strict=True)])
    assert right == pytest.approx(metrics["test/accuracy"])


def test_smoothed_cross_entropy():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(6, 5)).astype("float32"), rng.integers(0, 5, 6)
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    of_label = logs[np.arange(6), labels]
    for share in (0.0, 0.2):
        loss = SmoothedCrossentropy(share, reduction="none")
        wanted = -(1 - share) * of_label - share * logs.mean(axis=1)
        np.testing.assert_allclose(loss(labels, scores), wanted, rtol=1e-5)
        again = SmoothedCrossentropy.from_config(loss.get_config())
        np.testing.assert_allclose(
            again(labels, scores, sample_weight=np.arange(6.0)), wanted * np.arange(6), rtol=1e-5
        )
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert float(SmoothedCrossentropy(0.0)(labels, scores)) == pytest.approx(float(plain(labels, scores)), rel=1e-6)
    with pytest.raises(ValueError, match=r"share=1.5: must be at least 0 and below 1"):
        SmoothedCrossentropy(1.5)


# Own data


def read(*overrides):
    return Classification(configured("model=bow", *overrides)).read()


def own(path):
    return read("data=labelled", f"data.path={path}")


def pairs(data):
    return sorted((e.text, e.label) for part in data.parts.values() for e in part)


ROWS = [(f"text number {n} , really", "ab"[n % 2]) for n in range(40)]


def test_files_of_every_kind(write):
    bars = write("bars.txt", "".join(f"{label} ||| {text}\n" for text, label in ROWS))
    table = write("t.tsv", "id\tlabel\ttext\r\n" + "".join(f"{n}\t{y}\t{x}\r\n" for n, (x, y) in enumerate(ROWS)))
    quoted = write("t.csv", "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS))
    for path in (bars, table, quoted):
        task = own(path)
        assert pairs(task) == sorted(ROWS)
        assert {part: len(each) for part, each in task.parts.items()} == {"train": 32, "dev": 4, "test": 4}
        assert all({e.label for e in part} == {"a", "b"} for part in task.parts.values())


def test_folders_of_every_kind(write):
    for text, label in ROWS:
        folders = write(f"folders/{label}/{text.split(' ')[2]}.txt", text).parents[1]
    for label in "ab":
        files = write(f"files/{label}.txt", "".join(f"{text}\n" for text, y in ROWS if y == label)).parent
    for part in ("train", "dev", "test"):
        parts = write(f"parts/{part}.csv", "text,label\n" + "".join(f'"{x} {part}",{y}\n' for x, y in ROWS)).parent
    assert pairs(own(folders)) == pairs(own(files)) == sorted(ROWS)
    assert {part: each[0].text.split(" ")[-1] for part, each in own(parts).parts.items()} == {
        "train": "train", "dev": "dev", "test": "test",
    }  # fmt: skip


def test_a_quoted_field_may_hold_lines(write):
    path = write("t.csv", 'label,text\nx,"one\ntwo, ""three"""\ny,four\n')
    assert labelled.read(path) == [('one\ntwo, "three"', "x"), ("four", "y")]


def test_the_division_follows_from_its_seed_alone(write):
    rows = [labelled.Labelled(str(n), "abc"[min(n % 10, 2)]) for n in range(200)]
    shares = {"train": 0.7, "dev": 0.1, "test": 0.2}
    first, again, other = (labelled.divide(rows, shares, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted((e for part in first.values() for e in part), key=lambda e: int(e.text)) == rows
    for label, count in (("a", 20), ("b", 20), ("c", 160)):
        assert sum(e.label == label for e in first["test"]) == 0.2 * count


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "text,class\nx,y\n", r"t\.csv: no column 'label' in its first line; it has text, class"),
        ("t.tsv", "text\tlabel\nx\ty\nz\n", r"t\.tsv:3: 1 columns, expected 2"),
        ("t.tsv", "text\tlabel\nx\t \n", r"t\.tsv:2: no label"),
        ("t.txt", "a ||| b\nno bars here\n", r"t\.txt:2: expected label \|\|\| text"),
        ("t.txt", "a ||| x\na ||| y\nb ||| z\n", "class 'b' has one example"),
        ("t.txt", "a ||| x\n" * 30, "every example has the label 'a'"),
        ("t.tsv", "", r"no column 'text' in its first line; it has none"),
    ],
)
def test_files_that_cannot_be(write, name, content, message):
    with pytest.raises(InputError, match=message):
        own(write(name, content))


def test_a_label_that_training_lacks(write):
    for part in ("train", "dev", "test"):
        path = write(f"{part}.txt", "good ||| x\nbad ||| y\n" * 3 + ("goood ||| z\n" if part == "test" else ""))
    with pytest.raises(InputError, match="test part: label 'goood' is not in train; did you mean good"):
        own(path.parent)


def test_a_class_with_one_example(write):
    for part in ("train", "dev", "test"):
        path = write(f"{part}.txt", "good ||| x\n" * 3 + "bad ||| y\n")
    with pytest.raises(InputError, match="class 'bad' has one example in train"):
        own(path.parent)


def test_configurations_that_cannot_be(write):
    with pytest.raises(InputError, match="needs labelled texts"):
        read("data=sample_text")
    with pytest.raises(InputError, match="model=bow has dev/accuracy, dev/macro_f1, dev/loss"):
        read("trainer.monitor=dev/f1")
    with pytest.raises(InputError, match="no such file or folder"):
        own("/nowhere/at/all")
    with pytest.raises(InputError, match="neither train, dev and test files nor"):
        own(write("empty/readme.md", "x").parent)


def test_folders_of_parts_as_imdb_has_them(write, caplog):
    for part in ("train", "test"):
        for label in ("pos", "neg"):
            for number in range(10):
                folder = write(f"aclImdb/{part}/{label}/{number}_7.txt", f"{part} {label} {number}").parents[2]
    write("aclImdb/train/unsup/0_0.txt", "no label")
    data = own(folder)
    assert data.labels == ["neg", "pos"]
    assert {part: len(rows) for part, rows in data.parts.items()} == {"train": 18, "dev": 2, "test": 20}
    assert all(e.text.startswith("test") for e in data.parts["test"])
    assert "unsup: left out" in caplog.text and "no dev part" in caplog.text


def test_classes_whose_names_have_dots(write):
    for label in ("comp.graphics", "comp.windows.x"):
        folder = write(f"news/{label}.txt", "".join(f"{label} {n}\n" for n in range(10))).parent
    assert own(folder).labels == ["comp.graphics", "comp.windows.x"]
    write("news/comp.graphics.txt.gz", "x\n")
    with pytest.raises(InputError, match=r"two files for the class comp.graphics: comp.graphics.txt and comp"):
        own(folder)


def test_folders_of_files_without_a_suffix_in_another_encoding(write):
    for label in ("a.b", "c"):
        for number in range(10):
            folder = write(f"news/{label}/{number}", f"caf\u00e9 {number}".encode("latin-1")).parents[1]
    with pytest.raises(InputError, match="not UTF-8"):
        own(folder)
    data = read("data=labelled", f"data.path={folder}", "data.encoding=latin-1")
    assert data.labels == ["a.b", "c"] and data.parts["train"][0].text.startswith("caf\u00e9")
    with pytest.raises(InputError, match=r"data.encoding=latin-x: no such encoding"):
        read("data=labelled", f"data.path={folder}", "data.encoding=latin-x")


SPAM = [("ham", "Go until jurong point"), ("spam", "Free entry in 2 a wkly comp")] * 10


@pytest.mark.parametrize(
    ("name", "separator", "options"),
    [
        ("SMSSpamCollection", "\t", ("data.separator=tab", "data.header=false")),
        ("a.tsv", "\t", ("data.header=false",)),
        ("a.txt", ";", ("data.separator=semicolon", "data.header=false", "data.columns={text: 1, label: 0}")),
    ],
)
def test_a_table_without_names_of_columns(write, name, separator, options):
    path = write(name, "".join(f"{label}{separator}{text}\n" for label, text in SPAM))
    data = read("data=labelled", f"data.path={path}", *options)
    assert pairs(data) == sorted((text, label) for label, text in SPAM)
    with pytest.raises(InputError) as raised:
        own(path)
    assert "data.header=false" in str(raised.value) or name == "a.txt"


def test_no_text_is_printed_as_the_name_of_a_column(write):
    long = "word " * 500
    with pytest.raises(InputError) as raised:
        own(write("a.tsv", f"ham\t{long}\n" * 5))
    assert len(str(raised.value)) < 400


def test_a_csv_field_may_be_long(write):
    rows = "".join(f'"{"x " * 100_000}{n}",{"ab"[n % 2]}\n' for n in range(20))
    assert len(pairs(own(write("a.csv", f"text,label\n{rows}")))) == 20


@pytest.mark.parametrize("row", ['"a"b,c\n', '"never closed,a\nb,c\n'])
def test_broken_csv_is_named_with_its_line(write, row):
    with pytest.raises(InputError, match=r"a\.csv:3: not CSV"):
        own(write("a.csv", f"text,label\nx,y\n{row}"))


@pytest.mark.parametrize("size", range(3, 14))
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.7, 0.3)])
def test_data_of_any_size_are_divided_fairly(size, classes, shares):
    rows = [labelled.Labelled(str(n), f"class {n % classes}") for n in range(size * classes)]
    shares = dict(zip(("train", "dev", "test"), shares, strict=False))
    parts = labelled.divide(rows, shares, 1)
    assert sorted(map(int, (e.text for part in parts.values() for e in part))) == list(range(len(rows)))
    for part, share in shares.items():
        assert abs(len(parts[part]) - share * len(rows)) <= max(1, 0.1 * share * len(rows)) or size * share < 2
        assert parts[part]
    assert all(sum(e.label == f"class {c}" for e in parts["train"]) >= 2 for c in range(classes))


def test_too_few_examples_for_the_parts(write):
    path = write("a.txt", "a ||| x\na ||| y\nb ||| x\nb ||| y\n")
    with pytest.raises(InputError, match=r"a\.txt: 4 examples of 2 classes are too few for train, dev, test"):
        own(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{train: a, dev: b, tst: c}", "data.path: there is no 'tst'; did you mean test"),
        ("{trian: a}", r"a: no such file|there is no 'trian'"),
    ],
)
def test_misspelt_parts_are_refused(path, message):
    with pytest.raises(InputError, match=message):
        read("data=labelled", f"++data.path={path}")


def test_shares_that_do_not_add_up_are_refused():
    config = configured("model=bow", "data=labelled", "data.path=x", "++data.split={train: 0.5, dev: 0.5}")
    with pytest.raises(InputError, match=r"data.split=\{train: 0.5, dev: 0.5, test: 0.1\}: the shares add up to 1.1"):
        settings.validate(config)


def test_classes_whose_names_mlflow_does_not_take(write, tmp_path, database):
    import mlflow

    rows = "".join(f"{label} ||| text {n} of {label}\n" for n in range(10) for label in ("C#", "R&D", "a/../b"))
    uri = database(tmp_path)
    options = ("model=bow", "data=labelled", "trainer.epochs=1", "export=off", f"tracking.uri={uri}")
    metrics = run(tmp_path / "run", *options, f"data.path={write('a.txt', rows)}")
    assert "test/f1/C#" in metrics
    client = mlflow.MlflowClient(uri)
    (record,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert record.info.status == "FINISHED"
    assert record.data.metrics["test/f1/C:23"] == pytest.approx(metrics["test/f1/C#"])
