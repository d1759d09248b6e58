"""The translation pipeline from sentence pairs to exports that translate, and bad input."""

import csv
import io
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import yaml

from tests.pipelines.runs import ROOT, check_segments, configured, run, run_killed
from trellis import load
from trellis.components.errors import InputError
from trellis.components.metrics.translation import corpus_scores
from trellis.pipelines import reading, settings
from trellis.pipelines.attributes_to_text import AttributesToText
from trellis.pipelines.translation import Translation
from trellis.serve import predict, rescore, translate
from trellis.serve.inference import Search

SAMPLE = ROOT / "samples" / "bitext"
SMALL = (
    "model=gru_translation", "model.dim=64", "model.encoder.units=32", "model.decoder.units=64",
    "model.attention={kind: general}", "model.dropout={input: 0, between: 0, output: 0.1}",
    "optimizer.learning_rate=0.01", "trainer.average=null", "text.subwords=700", "batching.tokens=400", "tracking=off",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translation")
    metrics = run(folder / "run", *SMALL, f"export.dir={folder}/exports", "trainer.epochs=10")
    return folder, metrics, folder / "exports" / "1"


@pytest.fixture(scope="module")
def signatures(trained):
    return tf.saved_model.load(str(trained[2])).signatures


def lines(name):
    return (SAMPLE / name).read_text(encoding="utf-8").splitlines()


def test_the_sample_is_learned(trained):
    _, metrics, _ = trained
    assert metrics["test/bleu_tok_lc"] > 25
    assert {"dev/loss", "dev/perplexity", "test/chrf", "test/ter", "dev/best"} <= set(metrics)


def test_reports_are_parallel_to_the_data(trained):
    folder, metrics, _ = trained
    rows = list(csv.DictReader((folder / "run/reports/translations.test.tsv").open(encoding="utf-8"), delimiter="\t"))
    assert [row["source"] for row in rows] == lines("test.en") and [row["reference"] for row in rows] == lines(
        "test.es"
    )
    scores = corpus_scores([row["translation"] for row in rows], [lines("test.es")], tokenized=True)
    assert scores["bleu_tok_lc"] == pytest.approx(metrics["test/bleu_tok_lc"])
    check_segments(folder / "run", metrics)
    assert "tok:none" in (folder / "run/reports/signatures.txt").read_text()
    assert (folder / "run/reports/attention.png").stat().st_size > 5000


def test_the_export_translates_as_the_pipeline_did(trained, signatures):
    folder, *_ = trained
    rows = list(csv.DictReader((folder / "run/reports/translations.test.tsv").open(encoding="utf-8"), delimiter="\t"))
    found = signatures["serving_default"](text=tf.constant(lines("test.en")))["text"].numpy()
    assert [text.decode() for text in found] == [row["translation"] for row in rows]


def test_signatures_agree_with_each_other(signatures):
    text = ["", *lines("test.en")[:5], "  "]
    settings = {"width": 4, "best": 2, "count": 60, "minimum": 0, "no_repeat": 0}
    scalars = {name: tf.constant(value) for name, value in settings.items()}
    found = signatures["translate"](
        text=tf.constant(text), alpha=tf.constant(1.0), coverage=tf.constant(0.0), **scalars
    )
    assert found["text"].numpy()[[0, -1]].tolist() == [[b"", b""], [b"", b""]]
    best = found["text"][1:-1, 0]
    scored = signatures["score"](text=tf.constant(text[1:-1]), translation=best)
    # A text may be spelled in other subwords than those that were generated, but not by this model here.
    np.testing.assert_allclose(scored["log_probability"], found["log_probability"][1:-1, 0], atol=1e-3)
    np.testing.assert_allclose(tf.reduce_sum(found["piece_log_probability"], -1), found["log_probability"], atol=1e-3)
    attention = found["attention"].numpy()
    real = found["pieces"].numpy() != b""
    np.testing.assert_allclose(attention.sum(-1)[real], 1.0, atol=1e-4)
    aligned = signatures["align"](text=tf.constant(text[1:-1]), translation=best)
    assert aligned["alignment"].numpy().tolist() == found["alignment"].numpy()[1:-1, 0].tolist()
    for links, source, target in zip(aligned["alignment"].numpy(), text[1:-1], best.numpy(), strict=True):
        positions = [tuple(map(int, link.split(b"-"))) for link in links.split()]
        assert [j for _, j in positions] == list(range(len(target.split())))
        assert all(i < len(source.split()) for i, _ in positions)


def test_a_translation_never_depends_on_its_company(signatures):
    model = signatures["serving_default"]
    texts = ["the doctor sees a box .", "", b"\xff", b"a\x00b", "x " * 300, *lines("test.en")[:6]]
    together = model(text=tf.constant(texts))["text"].numpy()
    for text, found in zip(texts, together, strict=True):
        assert model(text=tf.constant([text]))["text"].numpy()[0] == found


def test_the_command_keeps_lines_parallel(trained, capsys, monkeypatch):
    given = ["the doctor sees a box .", "", "word " * 1001, "the teacher is here ."]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(given).encode())))
    assert translate.main([str(trained[2]), "-"]) == 0
    said = capsys.readouterr()
    found = said.out.split("\n")
    assert len(found) == 5 and found[0] and found[1] == found[2] == "" and found[3]
    assert said.err == "text 3: 1001 words, more than 1000; not translated\n"


def test_best_alignment_and_json(trained, capsys):
    text = "the doctor sees a box ."
    assert translate.main([str(trained[2]), text, "--best", "3", "--alignment"]) == 0
    rows = [line.split(" ||| ") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["0"] * 3 and len({row[1] for row in rows}) == 3
    assert all(len(row[3].split()) == len(row[1].split()) for row in rows)
    assert translate.main([str(trained[2]), text, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["translations"]
    assert answer["text"] == rows[0][1] and len(answer["attention"]) == len(answer["pieces"])
    assert all(weight == round(weight, 4) for step in answer["attention"] for weight in step)
    (loaded,) = load(trained[2]).translate(text)
    assert loaded.text == answer["text"] and len(load(trained[2]).translate([text, text], Search(best=2))) == 2


def test_attributes_of_ones_own_are_read(tmp_path):
    for part in ("train", "dev"):
        shutil.copy(ROOT / "samples" / "attributes" / f"{part}.csv", tmp_path)
    paths = f"data.path={{train: {tmp_path}/train.csv, dev: {tmp_path}/dev.csv}}"
    config = configured("model=vector_to_text", "data=attributes", "data.open_classes=[name]", paths)
    reading.check_first_lines(config)
    settings.validate(config)
    data = AttributesToText(config).read()
    assert len(data.sources["train"]) == 665 and len(data.references["dev"][0]) == len(data.sources["dev"]) == 35
    with (tmp_path / "dev.csv").open("a", encoding="utf-8") as file:
        file.write("a single room,A single room.\n")
    with pytest.raises(InputError, match=r"dev.csv:70: 'a single room' is not an attribute such as name\[value\]"):
        reading.check_first_lines(config)


@pytest.mark.parametrize("model", ["gru_translation", "vector_to_text"])
def test_models_without_attention_are_exported_too(model, tmp_path, capsys):
    small = ("model.dim=8", "model.decoder.units=8", "text.subwords=400", "limit.sentences=40", "trainer.epochs=1")
    metrics = run(
        tmp_path / "run", f"model={model}", *small, "model.attention.kind=none", "tracking=off",
        f"export.dir={tmp_path}/exports",
    )  # fmt: skip
    assert metrics["test/loss"] > 0 and capsys.readouterr()
    assert translate.main([str(tmp_path / "exports"), "", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["translations"]
    assert answer["text"] == "" and "attention" not in answer
    assert translate.main([str(tmp_path / "exports"), "", "--alignment"]) == 2
    assert "has no attention" in capsys.readouterr().err


def test_options_replace_settings_of_the_export(trained, capsys, monkeypatch):
    metadata = {"config": {"decoding": {"width": 2, "alpha": 0}}}
    assert Search.of(metadata) == Search(width=2, alpha=0.0) and Search.of({}) == Search()
    monkeypatch.setattr(translate, "read_metadata", lambda version: metadata)
    assert translate.main([str(trained[2]), "the doctor", "--best", "3"]) == 2
    assert "--best 3: a beam of width 2 has no more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--best", "9"], "--best 9: a beam of width 5 has no more; add --width 9"),
        (["--width", "0"], "--width: '0' must be a whole number of at least 1"),
        (["--alpha", "-1"], "--alpha: '-1' must be a number of at least 0"),
    ],
)
def test_mistakes_at_the_command_are_one_line(trained, arguments, message, capsys):
    try:
        status = translate.main([str(trained[2]), "the doctor", *arguments])
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr()
    assert status == 2 and message in said.err and said.err.count("\n") == 1 and not said.out


def test_other_commands_name_the_right_one(trained, capsys):
    assert predict.main([str(trained[2]), "the doctor"]) == 2
    assert "a translator; use trellis translate" in capsys.readouterr().err


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """The overrides of a run that an aligner guides, and its metrics."""
    folder = tmp_path_factory.mktemp("guided")
    aligned = ("model=ibm1", "data=sample_translation", "tracking=off", "export=off", "model.iterations={ibm1: 3}")
    run(folder / "aligner", *aligned, "report.posteriors=true")
    few = (*SMALL, "export=off", "trainer.epochs=2", "decoding.width=1", "report.pictures=0")
    overrides = (*few, f"guide.run={folder}/aligner", "data=sample_bitext")
    return overrides, run(folder / "guided", *overrides)


def test_a_guide_is_an_aligner_of_the_same_pairs(guided, tmp_path):
    overrides, metrics = guided
    assert 0 < metrics["test/aer"] < 1 and 0 < metrics["test/aer_shift1"] < 1
    for others, message in (
        (["model.attention.kind=none"], "guide.run: model.attention.kind=none leaves nothing to guide"),
        ([f"guide.run={tmp_path}"], "posteriors.npz: no soft alignments can be read from it"),
        (
            ["data=bitext", f"data.path={SAMPLE}", "data.files={train: {source: test.en, target: test.es}}"],
            "other data",
        ),
    ):
        with pytest.raises(InputError, match=message):
            run(tmp_path / "wrong", *overrides, *others)


def test_a_killed_run_resumes_to_the_same_metrics(guided, tmp_path, monkeypatch):
    overrides, whole = guided
    again = run_killed(tmp_path / "killed", monkeypatch, *overrides)
    for name in ("test/loss", "test/bleu_tok_lc", "test/aer"):
        assert again[name] == pytest.approx(whole[name], rel=1e-5)


def test_rescoring_chooses_by_the_sum_of_weighted_scores(trained, tmp_path, capsys):
    *_, export = trained
    (tmp_path / "test.en").write_text("\n".join(lines("test.en")[:12]) + "\n", encoding="utf-8")
    (tmp_path / "test.es").write_text("\n".join(lines("test.es")[:12]) + "\n", encoding="utf-8")
    assert translate.main([str(export), *lines("test.en")[:12], "--best", "4"]) == 0
    nbest = capsys.readouterr().out
    (tmp_path / "nbest").write_text(nbest, encoding="utf-8")
    given = [str(tmp_path / "nbest"), str(tmp_path / "test.en"), "--reverse", str(export)]
    weights = ["--weights", str(tmp_path / "weights.json")]
    assert rescore.main([*given, *weights, "--tune", str(tmp_path / "test.es"), "--tokenized"]) == 0
    said = capsys.readouterr()
    before, after = re.search(r"BLEU ([\d.]+) → ([\d.]+)", said.err).groups()
    assert float(after) >= float(before)
    assert rescore.main([*given, *weights]) == 0
    assert capsys.readouterr().out == said.out and said.out.count("\n") == 12
    scores = corpus_scores(said.out.splitlines(), [lines("test.es")[:12]], tokenized=True)
    assert scores["bleu_tok_lc"] == pytest.approx(float(after), abs=0.01)
    first = [line.split(" ||| ")[1] for line in nbest.splitlines()[::4]]
    (tmp_path / "weights.json").write_text('{"forward": 1, "reverse": 0, "language_model": 0, "words": 0}')
    assert rescore.main([*given, *weights]) == 0
    assert capsys.readouterr().out.splitlines() == first
    for change, message in (
        ((["--weights", str(tmp_path / "none")], None), "none does not exist; --tune REFERENCES chooses"),
        ((weights, "0 ||| a\n"), "nbest:1: '0 ||| a', expected index ||| translation ||| score"),
        ((weights, "99 ||| a ||| 1\n"), "nbest:1: index 99, expected 0 to 11"),
        (([*weights, "--tune", str(SAMPLE / "test.es")], None), "test.es has 60 lines"),
    ):
        options, content = change
        (tmp_path / "nbest").write_text(nbest if content is None else content, encoding="utf-8")
        assert rescore.main([*given, *options]) == 2
        said = capsys.readouterr()
        assert message in said.err and said.err.count("\n") == 1 and not said.out


@pytest.fixture(scope="module")
def describer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attributes")
    metrics = run(
        folder / "run", "model=vector_to_text", "model.units=48", "model.decoder.units=48", "model.dim=48",
        "optimizer.learning_rate=0.01", "trainer.average=null", "tracking=off", "trainer.epochs=8",
        "batching.tokens=400", "text.subwords=600", f"export.dir={folder}/exports",
    )  # fmt: skip
    return metrics, folder / "exports" / "1"


def test_attributes_are_put_into_words(describer, capsys):
    metrics, export = describer
    assert metrics["test/coverage"] > 0.8 and metrics["test/bleu_13a_lc"] > 30
    given = "kind[single], name[No Such \\1 House], view[sea]"
    assert translate.main([str(export), given, "view[sea],kind[single],name[No Such \\1 House]"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and "No Such \\1 House" in first and "single room" in first


def test_unknown_attributes_are_refused_with_the_nearest_valid_one(describer, capsys):
    _, export = describer
    for text, message in (
        ("kind[singel]", "text 1: kind[singel]: unknown attribute; did you mean kind[single], "),
        ("a single room", "text 1: 'a single room' is not an attribute such as name[value]"),
    ):
        assert translate.main([str(export), text]) == 2
        said = capsys.readouterr()
        assert message in said.err and said.err.count("\n") == 1 and not said.out
    with pytest.raises(InputError, match="unknown attribute: kind = singel"):
        load(export).translate("kind[singel]")


def task(*overrides):
    config = configured("model=gru_translation", "tracking=off", *overrides)
    settings.validate(config)
    return Translation(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=ptb"], "model=gru_translation needs sentence pairs; data=ptb has running text"),
        (["trainer.monitor=dev/bleu_13a"], "data=sample_translation is tokens, which has dev/bleu_tok_lc"),
        (["trainer.monitor=dev/f1"], "model=gru_translation has dev/bleu_tok_lc"),
        (["model.attention.kind=cosine"], "must be"),
        (["model.decoder.layers=0"], "must be"),
        (["text.vocabulary=shared"], "must be joint or separate"),
    ],
)
def test_settings_that_cannot_be_are_refused_first(overrides, message):
    with pytest.raises(InputError, match=message):
        task(*overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["text.subwords=20"], "20 subwords are too few"),
        (["text.max_length=1"], "text.max_length=1: every training pair has more subwords on a side"),
        (
            ["model.attention.kind=dot", "model.encoder.units=8", "model.decoder.units=9"],
            "dot attention needs queries as wide",
        ),
        (["model.decoder.input_feeding=true", "model.dropout.recurrent=0.1"], "model.dropout.recurrent: must be 0"),
        (["data.also=[sample_bitext]"], "data.also: for word aligners"),
    ],
)
def test_what_data_cannot_give_is_one_line(overrides, message):
    translation = task("limit.sentences=40", *overrides)
    with pytest.raises(InputError, match=message):
        encoded = translation.encode(translation.read())
        translation.build(encoded, translation.batch(encoded))


def test_every_bitext_says_whether_it_is_tokenized():
    for path in sorted((ROOT / "conf" / "data").glob("*.yaml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert config["task"] != "alignment" or isinstance(config["tokenized"], bool), path.name


def test_a_folder_of_ones_own_has_the_parts_that_are_in_it(tmp_path):
    for part in ("train", "valid", "test"):
        for side, language in (("source", "en"), ("target", "es")):
            (tmp_path / f"{part}.{side}").write_text("\n".join(lines(f"test.{language}")[:30]) + "\n", encoding="utf-8")
    assert task("data=bitext", f"data.path={tmp_path}", "data.tokenized=true").bleu == "bleu_tok_lc"
    data = task("data=bitext", f"data.path={tmp_path}").read()
    assert {part: len(texts) for part, texts in data.sources.items()} == {"train": 30, "dev": 30, "test": 30}
    (tmp_path / "test.target").write_text("una\n")
    with pytest.raises(InputError, match=r"test.source has 30 lines, .*test.target has 1"):
        task("data=bitext", f"data.path={tmp_path}").read()
