"""The language modelling pipeline from text to exports that generate, and what it does with bad input."""

import json
import math
import re

import numpy as np
import pytest
import tensorflow as tf

from tests import warm_python
from tests.pipelines.runs import ROOT, check_segments, configured, heading, run, run_killed
from trellis.components.errors import InputError
from trellis.components.readers import running_text, token_files
from trellis.pipelines import gradient_report
from trellis.pipelines.language_modeling import LanguageModeling, mixture_weight
from trellis.serve import generate, predict

SMALL = ("tracking=off", "model.units=24", "model.dim=24", "trainer.epochs=2", "optimizer.learning_rate=0.01")
# Traced in half the time.
SHALLOW = (*SMALL, "model.layers=1")
PAIRS = "trainer.steps_per_call=2"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, database):
    folder = tmp_path_factory.mktemp("lm")
    metrics = run(
        folder / "run", "model=lstm_lm", f"export.dir={folder}/exports", f"tracking.uri={database(folder)}",
        *SMALL[1:], "trainer.epochs=4", "diagnostics.gradient_flow=true",
    )  # fmt: skip
    return folder, metrics, folder / "exports" / "1"


@pytest.fixture(scope="module")
def export(trained):
    return tf.saved_model.load(str(trained[2]))


def test_metrics_are_those_of_every_token(trained):
    folder, metrics, _ = trained
    lines = (ROOT / "samples" / "text" / "test.txt").read_text().split("\n")[:-1]
    tokens = sum(len(line.split(" ")) + 1 for line in lines)
    characters = sum(len(line) + 1 for line in lines)
    nats = metrics["test/loss"] * tokens
    check_segments(folder / "run", metrics)
    assert metrics["test/perplexity"] == pytest.approx(math.exp(metrics["test/loss"]))
    assert metrics["test/bits_per_token"] == pytest.approx(metrics["test/loss"] / math.log(2))
    assert metrics["test/nats_per_character"] == pytest.approx(nats / characters)
    assert metrics["test/bits_per_character"] == pytest.approx(nats / characters / math.log(2))
    # Mixed with what an n-gram model knows, as dev weighs them, it is no worse on dev than the better of both.
    assert metrics["dev/perplexity_mixture"] < metrics["dev/perplexity"]
    assert 0 < metrics["mixture/weight"] < 1
    assert metrics["test/perplexity"] < 30
    assert {"epoch/train/gradient_norm", "epoch/train/clipped"} <= set(json.loads(_epoch(folder)))


def _epoch(folder):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("trellis-sample_text").experiment_id])
    return json.dumps(found.data.metrics)


def test_reports(trained, tmp_path):
    reports = trained[0] / "run" / "reports"
    assert len((reports / "samples.txt").read_text().split("\n\n")) == 8
    assert "<span" in (reports / "surprise.html").read_text()
    for title in heading(reports / "surprise.html"):
        assert re.fullmatch(r"Surprise:? lstm_lm · sample_text · .* seed 1", title)
    flow = json.loads((reports / "gradient_flow.json").read_text())
    before = flow["before"]["flow"]
    # What is far from the loss hardly reaches an LSTM that was not trained.
    assert len(before) == 34 and before[0] < 0.01 * before[-1]
    assert max(flow["before"]["clipped"]) <= max(flow["before"]["larger"])
    folder = str(trained[0] / "run")
    assert gradient_report.main([folder, folder, "--picture", str(tmp_path / "flow.png")]) == 0
    assert (tmp_path / "flow.png").stat().st_size > 5000
    assert gradient_report.main([str(tmp_path)]) == 2


def test_what_mlflow_has(trained):
    import mlflow
    import pandas

    client = mlflow.MlflowClient(f"sqlite:///{trained[0]}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("trellis-sample_text").experiment_id])
    mlflow.set_tracking_uri(f"sqlite:///{trained[0]}/mlflow.db")
    model = mlflow.pyfunc.load_model(f"models:/{found.outputs.model_outputs[0].model_id}")
    (answer,) = model.predict(pandas.DataFrame({"prompt": ["the king"]}))["text"]
    assert answer.startswith(" ")


def call(export, name, **inputs):
    return {key: value.numpy() for key, value in export.signatures[name](**inputs).items()}


SCALARS = {"count": 12, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition": 0.0}


def generated(export, prompts, seeds, **changes):
    scalars = {name: tf.constant(value) for name, value in (SCALARS | changes).items()}
    seeds = tf.constant(seeds, tf.int64)
    return [t.decode() for t in call(export, "generate", prompt=tf.constant(prompts), seed=seeds, **scalars)["text"]]


def test_generated_text(trained, export):
    together = generated(export, ["the king", "", "she opened the door"], [3, 4, 5])
    alone = [generated(export, [p], [s])[0] for p, s in [("the king", 3), ("", 4), ("she opened the door", 5)]]
    assert together == alone
    assert together[0].startswith(" ") and together[1][:1] != " "
    for text_ in generated(export, [""] * 40, list(range(40)), temperature=2.0):
        assert "<unk>" not in text_ and "</s>" not in text_ and len(text_.split()) <= 12
    greedy = generated(export, ["the king"], [1], temperature=0.0)
    assert greedy == generated(export, ["the king"], [2], top_k=1)
    assert call(export, "serving_default", prompt=tf.constant(["the king"]))["text"][0].startswith(b" ")


def test_scores_are_those_of_the_model(trained, export):
    import keras

    model = keras.saving.load_model(trained[0] / "run" / "checkpoints" / "best.keras")
    words = json.loads((trained[0] / "run" / "vocabulary.json").read_text())
    texts = ["the king opened the door .", "zebra", "", " ".join(["the"] * 150)]
    ids = [[words.index(w) + 2 if w in words else 1 for w in t.split()] + [2] for t in texts]
    scored = call(export, "score", text=tf.constant(texts))
    for row, each in enumerate(ids):
        assert scored["log_probability"][row] == pytest.approx(
            float(tf.reduce_sum(model(tf.constant([each])))), rel=1e-4
        )
    assert scored["tokens"].tolist() == [7, 2, 1, 151]
    assert scored["unknown"].tolist() == [0, 1, 0, 0]


def test_next_words(export):
    found = call(export, "next", prompt=tf.constant(["in the"]), count=tf.constant(5))
    assert found["tokens"].shape == (1, 5) and (np.diff(found["probabilities"][0]) <= 0).all()
    every = call(export, "next", prompt=tf.constant(["in the"]), count=tf.constant(10**6))
    assert every["probabilities"].sum() == pytest.approx(1, abs=1e-4)
    texts = [
        "in the evening rain falls on the mill , and she waits .",
        "mill the on falls waits in rain she . and the ,",
    ]
    one, other = call(export, "score", text=tf.constant(texts))["log_probability"]
    assert one > other + 10


def test_beam_is_no_worse_than_greedy(export):
    found = call(export, "beam", prompt=tf.constant(["the king"]), count=tf.constant(5), width=tf.constant(8))
    assert found["text"][0].startswith(b" ") and found["log_probability"][0] < 0


def test_prompts_of_any_kind(export):
    for prompt in (b"\xff\xfe", b"zzz yyy", b"a\x00b", " ".join(["the"] * 5000).encode()):
        call(export, "serving_default", prompt=tf.constant([prompt]))


def test_the_command_line(trained, capsys):
    folder = str(trained[2].parent)
    assert generate.main([folder, "the king", "--samples", "2", "--count", "6"]) == 0
    out = capsys.readouterr().out.strip().split("\n")
    assert len(out) == 2 and all(line.startswith("the king") for line in out)
    assert generate.main([folder, "qwerty king", "--next", "3", "--json"]) == 0
    captured = capsys.readouterr()
    assert [set(json.loads(line)) for line in captured.out.strip().split("\n")] == [
        {"prompt", "next", "probability"}
    ] * 3
    assert "1 of 2 tokens are unknown" in captured.err
    assert generate.main([folder, "the king", "--score"]) == 0
    assert "perplexity" in capsys.readouterr().out
    assert generate.main([folder, "the king", "--beam", "3", "--count", "4"]) == 0
    assert predict.main([folder, "the king"]) == 2
    assert "use trellis generate" in capsys.readouterr().err


def test_the_export_needs_tensorflow_alone(trained, tmp_path):
    code = (
        "import sys, tensorflow as tf; m = tf.saved_model.load(sys.argv[1]);"
        "print(m.signatures['score'](text=tf.constant(['the king']))['tokens'].numpy());"
        "assert not {'trellis', 'components'} & set(sys.modules)"
    )
    answer = warm_python.python("-c", code, trained[2], cwd=tmp_path)
    assert "[3]" in answer.stdout, answer.stderr


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=rnn_lm", *SHALLOW[1:]),
        ("model=gru_lm", *SHALLOW[1:], "batching.carry=false"),
        ("model=lstm_lm", *SMALL[1:], "model.cell=peephole", "model.tied=false", "model.softmax.kind=sampled"),
        ("model=lstm_lm", *SHALLOW[1:], "model.tied=false", "model.softmax.kind=adaptive",
         "model.softmax.cutoffs=[50,100]"),
        ("model=lstm_lm", *SMALL[1:], "model.backwards=true"),
        ("model=feedforward_lm", *SMALL[1:]),
        ("model=maxent_lm", "trainer.epochs=2", "model.buckets=512"),
        ("model=ngram", "model.order=3"),
        ("model=ngram", "model.order=1"),
        ("model=ngram", "model.smoothing=add_k", "model.order=2"),
        ("model=gru_lm", *SHALLOW[1:], "data.unit=characters", "data.lines=text", "batching.rows=8"),
    ],
    ids=lambda each: "-".join(each[0:1] + each[-1:]),
)  # fmt: skip
def test_every_model_from_train_to_export(tmp_path, overrides):
    metrics = run(
        tmp_path / "run", *overrides, "limit.sentences=300", "report.mixture=null", "tracking=off",
        f"export.dir={tmp_path}/exports",
    )  # fmt: skip
    assert metrics["test/perplexity"] < 400
    export = tf.saved_model.load(f"{tmp_path}/exports/1")
    (answer,) = call(export, "serving_default", prompt=tf.constant(["the"]))["text"]
    assert isinstance(answer, bytes)
    # The same text, scored by the export and by the pipeline's way over whole parts, where lines stand alone.
    if "model=ngram" in overrides:
        lines = (ROOT / "samples" / "text" / "test.txt").read_text().split("\n")[:300]
        scored = call(export, "score", text=tf.constant([line for line in lines if line]))
        loss = -scored["log_probability"].sum() / scored["tokens"].sum()
        assert loss == pytest.approx(metrics["test/loss"], rel=1e-5)


def test_the_same_seed_gives_the_same_metrics(tmp_path):
    options = ("model=lstm_lm", *SHALLOW, "limit.sentences=200", "export=off", "report.mixture=null",
               "trainer.threads.inter_op=1")  # fmt: skip
    first, second = (run(tmp_path / name, *options) for name in "ab")
    for key in ("train/loss", "test/loss", "dev/loss"):
        assert first[key] == second[key]


def test_a_killed_run_resumes_to_the_same_metrics(tmp_path, monkeypatch, capfd):
    options = ("model=lstm_lm", *SHALLOW, "limit.sentences=200", "export=off", "report.mixture=null")
    whole = run(tmp_path / "whole", *options)
    again = run_killed(tmp_path / "killed", monkeypatch, *options)
    assert again["test/loss"] == pytest.approx(whole["test/loss"], rel=1e-6)
    # Killed within the first epoch: states are carried over to the next segment, and the loss is a mean over all.
    within = run_killed(tmp_path / "within", monkeypatch, *options, "trainer.checkpoint_every=3", PAIRS)
    assert "resuming after epoch 0 of 2 and 4 of " in capfd.readouterr().err
    for key in ("train/loss", "dev/loss", "test/loss"):
        assert within[key] == pytest.approx(whole[key], rel=1e-6)


def test_the_weight_of_a_mixture():
    rng = np.random.default_rng(0)
    first, second = np.log(rng.uniform(size=(2, 500)))
    weight = mixture_weight(first, second)
    every = [-np.logaddexp(np.log(w) + first, np.log(1 - w) + second).mean() for w in np.linspace(0.01, 0.99, 99)]
    assert weight == pytest.approx(np.linspace(0.01, 0.99, 99)[int(np.argmin(every))], abs=0.02)


# Own texts


def test_a_text_on_disk_gives_the_same_numbers(tmp_path, caplog):
    options = (
        "model=lstm_lm",
        *SHALLOW,
        "export=off",
        "limit.sentences=200",
        "data.lines=text",
        "batching.rows=4",
        "batching.length=9",
    )
    found = {}
    for storage in ("memory", "disk"):
        found[storage] = run(tmp_path / storage, *options, f"text.storage={storage}", f"text.cache={tmp_path}/cache")
        assert ("report.mixture=5: left out" in caplog.text) == (storage == "disk")
    same = [name for name in found["disk"] if not name.endswith(("per_second", "step_ms"))]
    assert {name: found["disk"][name] for name in same} == {name: found["memory"][name] for name in same}
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_large_texts_are_kept_on_disk(write, monkeypatch, tmp_path):
    path = write("own.txt", "a b c d e\n" * 100)
    monkeypatch.setattr(token_files, "LARGE", 999)
    assert not any(
        text.in_memory for text in read("data=text", f"data.path={path}", f"text.cache={tmp_path}").parts.values()
    )
    monkeypatch.setattr(token_files, "LARGE", 1000)
    assert all(text.in_memory for text in read("data=text", f"data.path={path}").parts.values())


def read(*overrides):
    return LanguageModeling(configured("model=lstm_lm", *overrides)).read()


def test_a_file_is_divided(write):
    path = write("own.txt", "".join(f"line {n} of the text\n" for n in range(100)))
    data = read("data=text", f"data.path={path}")
    sizes = {part: sum(map(len, d)) for part, d in data.parts.items()}
    assert sizes == {"train": pytest.approx(90, abs=1), "dev": 5, "test": pytest.approx(5, abs=1)}
    lines = [line for part in data.parts.values() for d in part for line in d]
    assert lines == [line for d in running_text.read(path) for line in d]


def test_one_long_line_is_divided_by_its_tokens(write):
    path = write("text8", " ".join(f"w{n % 50}" for n in range(10_000)))
    data = read("data=text", f"data.path={path}")
    sizes = {part: sum(len(line) for d in documents for line in d) for part, documents in data.parts.items()}
    assert sizes == {
        "train": pytest.approx(9000, rel=0.02),
        "dev": pytest.approx(500, rel=0.1),
        "test": pytest.approx(500, rel=0.1),
    }
    assert sum(sizes.values()) == 10_000 and all(len(d) == 1 for part in data.parts.values() for d in part)
    few = write("few.txt", "a\nb\n")
    with pytest.raises(InputError, match=r"few\.txt: 2 tokens cannot be divided into train, dev, test"):
        read("data=text", f"data.path={few}")


def test_a_folder_whose_dev_part_is_called_valid(write):
    for part in ("train", "valid", "test"):
        folder = write(f"parts/wiki.{part}.txt", f"the part is {part}\n" * 3).parent
    assert {part: d[0][0][-1] for part, d in read("data=text", f"data.path={folder}").parts.items()} == {
        "train": "train", "dev": "valid", "test": "test",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"data.path: there is no 'tst'; did you mean test"):
        read("data=text", f"++data.path={{train: {folder}/wiki.train.txt, tst: x}}")


def test_a_folder_of_documents_and_a_folder_of_parts(write):
    for n in range(3):
        folder = write(f"folder/{n}.txt", f"the text of document {n}\n" * 10).parent
    assert len(read("data=text", f"data.path={folder}").parts["train"]) == 3
    for part in ("train", "dev", "test"):
        folder = write(f"parts/{part}.txt", f"the part is {part}\n" * 3).parent
    assert {part: d[0][0][-1] for part, d in read("data=text", f"data.path={folder}").parts.items()} == {
        "train": "train", "dev": "dev", "test": "test",
    }  # fmt: skip


def test_words_are_split_at_the_ascii_space_alone(write):
    path = write("own.txt", "a\u00a0b  c\u3000d \n" * 40)
    assert running_text.read(path)[0][0] == ["a\u00a0b", "c\u3000d"]
    assert running_text.read(path, "characters")[0][0][1] == "\u00a0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no text in it"),
        ("\n \n\n", "no text in it"),
        ("a\nb\n", "cannot be divided into train, dev, test"),
        ("word\n" * 50, "too few words in its train part"),
        (b"caf\xe9 au lait\n" * 9, r"own\.txt:1: not UTF-8"),
    ],
)
def test_texts_that_cannot_be(write, content, message):
    with pytest.raises(InputError, match=message):
        read("data=text", f"data.path={write('own.txt', content)}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data=sample_ner",), "model=lstm_lm needs running text"),
        (("trainer.monitor=dev/f1",), "model=lstm_lm has dev/perplexity, dev/loss"),
        (("data=text", "data.path=/nowhere/at/all"), "no such file or folder"),
    ],
)
def test_configurations_that_cannot_be(overrides, message):
    with pytest.raises(InputError, match=message):
        read(*overrides)


def test_models_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="cannot share the input embedding"):
        run(tmp_path / "a", "model=lstm_lm", *SMALL, "limit.sentences=50", "model.softmax.kind=adaptive")
    with pytest.raises(InputError, match="words to come"):
        run(tmp_path / "b", "model=maxent_lm", "tracking=off", "limit.sentences=50", "model.templates=['word[1]']")
    with pytest.raises(InputError, match="no states through time"):
        run(tmp_path / "c", "model=feedforward_lm", *SMALL, "limit.sentences=50", "diagnostics.gradient_flow=true")


def test_a_checkpoint_of_other_shapes(tmp_path):
    options = ("model=lstm_lm", *SHALLOW, "limit.sentences=50", "export=off", "model.tied=false")
    run(tmp_path / "run", *options)
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"kernel is \(24, 96\) there, \(24, 80\) in this model"):
        run(tmp_path / "run", *options, "model.units=20", "resume=true")


def test_an_arpa_file_gives_the_scores_of_the_model_that_wrote_it(tmp_path):
    common = ("limit.sentences=100", "tracking=off", "export=off")
    options = (*common, "model=ngram", "model.order=3")
    counted = run(tmp_path / "counted", *options, "report.arpa=true")
    path = tmp_path / "counted" / "reports" / "model.arpa"
    read = run(tmp_path / "read", *options, f"model.arpa={path}")
    for name in ("train/loss", "dev/loss", "test/perplexity"):
        assert read[name] == pytest.approx(counted[name], rel=1e-5)
    for overrides, message in (
        ((f"model.arpa={path}", "model.order=4"), r"model\.arpa: its order is 3; set model\.order to it"),
        (("report.arpa=true", "data.lines=text"), "report.arpa=true: ARPA models read words, each line on its own"),
        (("model.arpa=nowhere.arpa",), r"nowhere\.arpa: "),
    ):
        with pytest.raises(InputError, match=message):
            run(tmp_path / "wrong", *options, *overrides)
    with pytest.raises(InputError, match=r"report\.arpa=true: model=maxent_lm has no n-grams; use model=ngram"):
        run(tmp_path / "wrong", *common, "model=maxent_lm", "report.arpa=true")
    (tmp_path / "text").mkdir()
    for part in ("train", "dev", "test"):
        (tmp_path / "text" / f"{part}.txt").write_text("<s> the king sleeps\n<s> the king sings\n" * 3)
    with pytest.raises(InputError, match=r"report\.arpa=true: <s> is a word of the text"):
        run(
            tmp_path / "wrong", *options, "data=text", f"data.path={tmp_path}/text", "data.lines=sentences",
            "report.arpa=true",
        )  # fmt: skip
