"""What taggers are made of: layers, heads, feature templates, constraints and optimizers, from training to export."""

import gc
import weakref
from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.pipelines.runs import ROOT, configured, run
from tests.pipelines.test_tagging import SMALL, load, served_tags
from trellis.components.errors import InputError
from trellis.components.readers import conll
from trellis.pipelines import training
from trellis.pipelines.tag_predictions import predictor
from trellis.pipelines.tagging import Tagging
from trellis.serve import predict


@pytest.mark.parametrize(
    ("options", "possible"),
    [
        ((), False),
        (("model.constraints=decoding",), True),
        (("model.constraints=training", "data.scheme=iobes"), True),
        (("model=bilstm_memm", "model.constraints=training"), True),
        (("model=feature_crf", "model.constraints=decoding"), True),
    ],
)
def test_constraints_leave_no_impossible_sequence(options, possible):
    """What a tagger gives out that has learned nothing yet."""
    keras.utils.set_random_seed(1)
    task = Tagging(configured(*options, "limit.sentences=60"))
    encoded = task.encode(task.read())
    model = task.build(encoded, task.batch(encoded))
    transitions = model.get_layer("head").transitions
    transitions.assign(np.random.default_rng(0).normal(size=transitions.shape))
    names, batching = encoded.data.output_tags, task.config.batching
    predicted = predictor(model, encoded.held_out, names, batching, with_entities=True)("dev", False).tags
    pairs = [pair for tags in predicted for pair in pairwise(("O", *tags))]
    assert any(b[0] == "B" for _, b in pairs)
    assert possible == (not any(b[0] == "I" and (a == "O" or a[2:] != b[2:]) for a, b in pairs))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (("data=ud_english_ewt",), "data.task=pos has no scheme"),
        (("model=bilstm_softmax",), "model.head=softmax takes each tag on its own; use crf or memm"),
    ],
)
def test_constraints_that_cannot_be(override, message):
    task = Tagging(configured(*override, "model.constraints=decoding"))
    with pytest.raises(InputError, match=message):
        task._constraints("decoding", ["O", "B-PER"])


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.characters.kind=lstm", "model.layers=2", "model.bidirectional=false"),
        ("model.casing.dim=0", "optimizer=adamw", "model.bidirectional=false"),
        ("model=gru_crf", "model.precision=mixed_bfloat16"),
        ("model=lstm_crf", "model.characters.kind=none", "optimizer=sgd"),
    ],
    ids=" ".join,
)
def test_options_train_and_export(tmp_path, overrides):
    options = ("tracking=off", f"export.dir={tmp_path}/exports", "debug=limit", "limit.sentences=30")
    metrics = run(tmp_path / "run", *overrides, *options)
    assert np.isfinite(metrics["train/loss"])
    assert served_tags(tmp_path / "exports/1", conll.read(ROOT / "samples/ner/dev.conll")[:3])
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=hmm",),
        ("model=hmm", "model.labelled=0.5", "trainer.epochs=3"),
        ("model=feature_crf", "trainer.epochs=4", "model.buckets=5000"),
        ("model=memm", "trainer.epochs=4", "model.buckets=5000"),
        ("model=bilstm_memm", *SMALL),
    ],
    ids=" ".join,
)
def test_classical_models_from_train_to_export(tmp_path, overrides):
    test_part = conll.read(ROOT / "samples/ner/test.conll", 0, 1)
    metrics = run(tmp_path / "run", *overrides, "tracking=off", f"export.dir={tmp_path}/it")
    if "bilstm_memm" not in overrides[0]:
        assert metrics["test/f1"] > 0.3
    model = keras.saving.load_model(tmp_path / "run/checkpoints/best.keras")
    assert served_tags(tmp_path / "it/1", test_part[:20]) == served_tags(tmp_path / "it/1", test_part)[:20]
    vectorizer_free = load(tmp_path / "it/1").signatures["from_text"](
        text=tf.constant(["", "Mary flew to Xyzzyville."])
    )
    assert vectorizer_free["tags"].shape == (2, 5) and model.name == overrides[0].split("=")[1]


def test_words_in_a_list_are_told_apart_in_training_and_export(tmp_path):
    """Words that carry nothing else: the list is all there is to learn from."""
    rng = np.random.default_rng(3)
    words = [f"w{number}" for number in range(400)]
    places = set(words[::2])
    for part, known in (("train", words[:300]), ("dev", words[300:]), ("test", words[300:])):
        rows = [[(w, "B-LOC" if w in places else "O") for w in rng.permutation(known)[:6]] for _ in range(60)]
        (tmp_path / f"{part}.conll").write_text("".join("".join(f"{w} {t}\n" for w, t in row) + "\n" for row in rows))
    (tmp_path / "places.txt").write_text("\n".join(sorted(places)))
    options = (
        "model=feature_crf", "data=conll", f"data.path={tmp_path}", "trainer.epochs=5", "tracking=off",
        "model.templates=['in(places)']",
    )  # fmt: skip
    metrics = run(
        tmp_path / "run", *options, f"model.lists={{places: {tmp_path}/places.txt}}", f"export.dir={tmp_path}/exports"
    )
    assert metrics["test/f1"] == 1.0
    (tmp_path / "places.txt").unlink()
    model = tf.saved_model.load(str(tmp_path / "exports" / "1"))
    tags = model.signatures["serving_default"](tokens=tf.constant([["w398", "w399"]]))["tags"].numpy()[0].tolist()
    assert tags == [b"B-LOC", b"O"]
    with pytest.raises(InputError, match=r"model.templates: in\(places\): no such list in model.lists \(none\)"):
        run(tmp_path / "again", *options, "export=off")
    with pytest.raises(InputError, match=r"places.txt: "):
        run(tmp_path / "again", *options, "export=off", f"model.lists={{places: {tmp_path}/places.txt}}")


def test_what_other_columns_say_is_learned_and_asked_for(tmp_path, capsys):
    """Words that carry nothing: the column is all there is to learn from, and the export says where it is missing."""
    rng = np.random.default_rng(3)
    for part in ("train", "dev", "test"):
        rows = [
            [(f"w{rng.integers(9)}", *(("N", "B-LOC"), ("V", "O"))[rng.integers(2)]) for _ in range(6)]
            for _ in range(60)
        ]
        (tmp_path / f"{part}.conll").write_text(
            "".join("".join(f"{w} {p} {t}\n" for w, p, t in row) + "\n" for row in rows)
        )
    options = (
        "model=feature_crf", "data=conll", f"data.path={tmp_path}", "trainer.epochs=5", "tracking=off",
        "model.templates=['column(pos)', 'word[-1:1]']",
    )  # fmt: skip
    metrics = run(tmp_path / "run", *options, "data.reader.columns={pos: 1}", f"export.dir={tmp_path}/exports")
    assert metrics["test/f1"] == 1.0
    assert "predict  trellis predict" in capsys.readouterr().out
    for flags in ([], ["--tokens"]):
        assert predict.main([str(tmp_path / "exports"), "w1\tN w1\tV w\u00a0x\tN", *flags]) in (0, None)
        assert [line.split()[-2] for line in capsys.readouterr().out.strip().split("\n")] == ["B-LOC", "·", "B-LOC"]
    assert predict.main([str(tmp_path / "exports"), "w1 w2"]) == 2
    assert "a token is WORD pos, with a tab before each column" in capsys.readouterr().err
    with pytest.raises(
        InputError, match=r"model.templates: column\(pos\): no such column in data.reader.columns \(none\)"
    ):
        run(tmp_path / "again", *options, "export=off")
    with pytest.raises(InputError, match=r"train.conll:1: 3 columns, but data.reader.columns.pos is 7"):
        run(tmp_path / "again", *options, "export=off", "data.reader.columns={pos: 7}")
    with pytest.raises(InputError, match=r"columns=\[1\]: must be {KEY: a whole number, …} or \[text, …\]"):
        run(tmp_path / "again", *options, "export=off", "data.reader.columns=[1]")


def test_templates_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"model.templates: feature template 'suffix\[0\]'"):
        run(tmp_path / "run", "model=feature_crf", "model.templates=['suffix[0]']", "tracking=off", "export=off")


def test_pretrained_vectors(write, tmp_path):
    path = write("v.txt", "".join(f"{word} {' '.join(['0.5'] * 16)}\n" for word in ("oslo", "zzz", "mary")))
    options = (*SMALL, "tracking=off", "export=off", f"model.vectors.path={path}")
    run(tmp_path / "run", *options, "model.words.tune=false")
    model = keras.saving.load_model(tmp_path / "run/checkpoints/best.keras")
    table = model.get_layer("word_embedding").get_weights()[0]
    assert (table == 0.5).all(axis=1).sum() in (1, 2)
    with pytest.raises(InputError, match=r"v.txt:1: a vector of width 16, but model.words.dim is 8"):
        run(tmp_path / "other", *options, "model.words.dim=8")


LBFGS = ("model=feature_crf", "optimizer=lbfgs", "model.l2=0.0001", "limit.sentences=30", "model.buckets=256",
         "batching.tokens=150", "trainer.patience=50", "tracking=off", "export=off")  # fmt: skip


def test_lbfgs_sees_the_whole_corpus_whatever_the_batches_are():
    losses = []
    for seed in (1, 2):  # which shuffles the batches
        config = configured(*LBFGS, f"seed={seed}")
        task = Tagging(config)
        encoded = task.encode(task.read())
        batches = task.batch(encoded)
        keras.utils.set_random_seed(0)
        model = task.build(encoded, batches)
        training.compile_model(model, task.loss(encoded, batches), config, batches.steps, task.epochs)
        epochs = (batches.epoch_dataset(lambda epoch=epoch: epoch) for epoch in range(4))
        losses.append([model.fit(epoch, verbose=0).history["loss"][0] for epoch in epochs])
    assert batches.steps > 2
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_lbfgs_trains_log_linear_models(tmp_path):
    whole = run(tmp_path / "whole", *LBFGS, "trainer.epochs=14")
    usual = run(tmp_path / "usual", *LBFGS, "optimizer=adagrad", "trainer.epochs=14")
    assert whole["train/loss"] < usual["train/loss"]
    for override, message in (
        ("model=bilstm_crf", "optimizer=lbfgs: suits only feature_crf and memm"),
        ("model.l1=0.1", "optimizer=lbfgs: suits only feature_crf and memm without model.l1"),
        ("trainer.clip_norm=5", "set trainer.clip_norm=null"),
    ):
        options = [each for each in LBFGS if override != "model=bilstm_crf" or not each.startswith("model")]
        with pytest.raises(InputError, match=message):
            run(tmp_path / "wrong", *options, override)


def test_a_run_leaves_nothing_in_memory(tmp_path, monkeypatch):
    models, compile_model = [], training.compile_model

    def remember(model, *arguments):
        models.append(weakref.ref(model))
        compile_model(model, *arguments)

    monkeypatch.setattr(training, "compile_model", remember)
    run(
        tmp_path, "model=lstm_crf", "model.units=4", "model.characters.kind=none", "trainer.epochs=1",
        "limit.sentences=20", "tracking=off", "export=off",
    )  # fmt: skip
    assert len(models) == 1
    gc.collect()
    assert models[0]() is None
