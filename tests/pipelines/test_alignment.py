"""The alignment pipeline from the sample bitext to its export, and what it does with bad input."""

import functools
import json

import numpy as np
import pytest
import tensorflow as tf

from tests import warm_python
from tests.pipelines.runs import ROOT, check_segments, configured, run
from trellis.components.alignment import soft_alignments
from trellis.components.errors import InputError
from trellis.components.layers import ibm1
from trellis.components.readers import conll
from trellis.components.readers.bitext import SentencePair
from trellis.pipelines import alignment_reports
from trellis.pipelines.alignment import Alignment
from trellis.pipelines.pictures import figure
from trellis.serve import inference, predict, project
from trellis.serve.export_model import LocalModel

SAMPLE = ROOT / "samples" / "bitext"


def lines(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, database):
    folder = tmp_path_factory.mktemp("alignment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ibm1, "COMPILED", True)
        metrics = run(
            folder / "run", "model=agreement", f"export.dir={folder}/exports",
            f"tracking.uri={database(folder)}", "report.posteriors=true",
        )  # fmt: skip
    return folder, metrics, folder / "exports" / "1"


def test_scores_and_metrics(trained):
    folder, metrics, _ = trained
    assert metrics["test/aer"] < 0.06
    check_segments(folder / "run", metrics)
    assert metrics["train/epochs"] == 10
    assert set(metrics) > {"test/aer", "test/precision", "test/recall", "test/f", "train/loss"}


def test_the_axes_of_grids_are_named(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(alignment_reports, "figure", lambda *size: drawn.append(figure(*size)) or drawn[0])
    pair = SentencePair(("a", "b"), ("x",), sure=frozenset({(0, 0)}), possible=frozenset({(0, 0)}))
    alignment_reports.draw_grids(tmp_path / "grids.png", [(pair, np.ones((2, 1)) / 2, {(1, 0)})])
    ((_, axis),) = drawn
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("source", "target")


def test_reports(trained):
    folder, _, _ = trained
    reports = folder / "run" / "reports"
    assert (reports / "grids.png").stat().st_size > 10_000
    links = lines(reports / "alignments.txt")
    assert len(links) == 600
    source, target = (lines(SAMPLE / f"train.{side}")[0].split(" ") for side in ("en", "es"))
    for link in links[0].split(" "):
        i, j = map(int, link.split("-"))
        assert i < len(source) and j < len(target)
    for name, (word, translation) in {"forward": ("house", "casa"), "reverse": ("casa", "house")}.items():
        rows = [line.split("\t") for line in lines(reports / f"lexicon.{name}.tsv")]
        assert rows[0] == ["word", "translation", "probability", "count"]
        of_word = [(other, float(p)) for given, other, p, _ in rows[1:] if given == word]
        assert of_word[0][0] == translation and of_word[0][1] > 0.7
        assert [p for _, p in of_word] == sorted((p for _, p in of_word), reverse=True)
        assert all(float(p) >= 0.01 for _, _, p, _ in rows[1:])
    soft = soft_alignments.read(reports / "posteriors.npz")
    assert len(soft) == 600
    assert soft[0].shape == (len(source), len(target))


def test_what_mlflow_has(trained):
    import mlflow

    folder, metrics, _ = trained
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("trellis-sample_bitext").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.metrics["test/aer"] == pytest.approx(metrics["test/aer"])
    assert {each.path for each in client.list_artifacts(found.info.run_id, "reports")} > {"reports/grids.png"}
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    (logged,) = found.outputs.model_outputs
    model = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
    import pandas

    answer = model.predict(pandas.DataFrame({"source": ["the house"], "target": ["la casa"]}))
    assert answer["alignment"].tolist() == ["0-0 1-1"]


load = functools.cache(LocalModel)


def served(export, pairs):
    return list(inference.align(load(export), [f"{source} ||| {target}".encode() for source, target in pairs]))


def test_the_export_gives_what_training_gave(trained):
    folder, _, export = trained
    pairs = list(zip(*(lines(SAMPLE / f"test.{side}") for side in ("en", "es")), strict=True))
    answers = served(export, pairs)
    expected = lines(folder / "run" / "reports" / "alignments.txt")[540:]
    assert [" ".join(f"{i}-{j}" for i, j in links) for _, _, links, *_ in answers] == expected
    soft = soft_alignments.read(folder / "run" / "reports" / "posteriors.npz")[540:]
    for (_, _, _, forward, reverse), cells in zip(answers, soft, strict=True):
        np.testing.assert_allclose((forward + reverse) / 2, cells, atol=2e-3)


def test_a_pair_alone_is_aligned_as_in_company(trained):
    _, _, export = trained
    pairs = list(zip(*(lines(SAMPLE / f"test.{side}")[:6] for side in ("en", "es")), strict=True))
    for pair, together in zip(pairs, served(export, pairs), strict=True):
        ((*_, forward, reverse),) = served(export, [pair])
        np.testing.assert_allclose(forward, together[3], atol=1e-5)
        np.testing.assert_allclose(reverse, together[4], atol=1e-5)


def test_corners_of_the_export(trained):
    _, _, export = trained
    answers = served(
        export,
        [
            ("the zebra", "la cebra"),  # words never seen
            ("", "la casa"),
            ("the house", ""),
            ("", ""),
            ("  the  house ", "la   casa"),
            ("THE House", "LA CASA"),
            ("houseboats", "casas"),  # never seen, but its beginning was
        ],
    )
    links = [answer[2] for answer in answers]
    assert links[1:4] == [[], [], []]
    assert links[4] == links[5] == [(0, 0), (1, 1)]
    assert (0, 0) in links[0]
    assert all(np.isfinite(each).all() for answer in answers for each in answer[3:])
    assert answers[6][3][0, 0] > 0.3


def test_long_sentences(trained, capsys):
    """Hundreds of words are aligned; thousands would take minutes and gigabytes, and cost no other pair."""
    _, _, export = trained
    hundreds, thousands = ((" ".join(["the house"] * n), " ".join(["la casa"] * n)) for n in (250, 2500))
    first, last, long = served(export, [hundreds, ("the house", "la casa"), thousands])
    assert np.isfinite(first[3]).all()
    assert last[2] == [(0, 0), (1, 1)]
    assert (len(long[0]), len(long[1])) == (5000, 5000)
    assert long[2:] == ([], None, None)
    assert capsys.readouterr().err == "text 3: 5000 and 5000 words, more than 1000; not aligned\n"


def test_the_export_loads_with_tensorflow_alone(trained, tmp_path):
    _, _, export = trained
    code = (
        "import sys, tensorflow as tf\n"
        "answer = tf.saved_model.load(sys.argv[1]).signatures['serving_default']"
        "(source=tf.constant(['the house']), target=tf.constant(['la casa']))\n"
        "assert not any(name.split('.')[0] in ('trellis', 'components', 'pipelines') for name in sys.modules)\n"
        "print(answer['alignment'].numpy()[0].decode())"
    )
    done = warm_python.python("-c", code, export, cwd=tmp_path)
    assert done.stdout.strip() == "0-0 1-1", done.stderr[-2000:]


def test_from_the_command_line(trained, capsys):
    folder, _, _ = trained
    assert predict.main([str(folder / "exports"), "the house ||| la casa", "the ||| el"]) == 0
    assert capsys.readouterr().out == "0-0 1-1\n0-0\n"
    assert predict.main([str(folder / "exports"), "--json", "--posteriors", "the house ||| la casa"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["alignment"] == [[0, 0], [1, 1]]
    assert np.array(answer["forward"]).shape == (2, 2)
    assert all(value == round(value, 4) for row in answer["forward"] for value in row)
    assert predict.main([str(folder / "exports"), "the house ||| la casa", "the house"]) == 2
    assert "text 2: 0 × |||, expected source ||| target" in capsys.readouterr().err


def test_project_labels_and_train_on_them(trained, tmp_path, capsys):
    """English entities over the aligner to Spanish, and a tagger trained on what came out."""
    folder, _, _ = trained
    kinds = {"girl": "PER", "boy": "PER", "teacher": "PER", "doctor": "PER", "school": "LOC", "park": "LOC"}
    for part, rows in (("train", slice(0, 300)), ("dev", slice(300, 400))):
        tagged = (
            "".join(f"{word}\tB-{kinds[word]}\n" if word in kinds else f"{word}\tO\n" for word in line.split(" "))
            for line in lines(SAMPLE / "train.en")[rows]
        )
        (tmp_path / f"{part}.en").write_text("\n".join(tagged))
        (tmp_path / f"{part}.es").write_text("\n".join(lines(SAMPLE / "train.es")[rows]) + "\n")
        arguments = (tmp_path / f"{part}.en", tmp_path / f"{part}.es", "-o", tmp_path / f"{part}.conll")
        assert project.main([str(folder / "exports"), *map(str, arguments)]) == 0
    assert "of 300 sentences" in capsys.readouterr().out
    words = {
        (token, tag)
        for sentence in conll.read(tmp_path / "train.conll")
        for token, tag in zip(sentence.tokens, sentence.tags, strict=True)
        if tag != "O"
    }
    assert words >= {("niña", "B-PER"), ("médico", "B-PER"), ("escuela", "B-LOC")}
    metrics = run(
        tmp_path / "run", "model=bilstm_crf", "data=conll", f"data.path={tmp_path}",
        "data.files={train: train.conll, dev: dev.conll}", "~data.files.test", "trainer.epochs=8",
        "model.units=32", "model.characters.kind=none", "optimizer.learning_rate=0.01", "tracking=off", "export=off",
    )  # fmt: skip
    assert metrics["dev/f1"] > 0.7
    (tmp_path / "dev.es").write_text("una\n")
    bad = project.main([str(folder / "exports"), *map(str, arguments)])
    assert bad == 2
    assert "has 100 sentences" in capsys.readouterr().err


def test_a_killed_run_resumes_to_the_same_metrics(tmp_path, monkeypatch):
    from trellis.pipelines import training

    small = ("model=hmm_align", "limit.sentences=60", "tracking=off", "export=off")
    whole = run(tmp_path / "whole", *small)

    def stop(self, epoch, logs=None):
        original(self, epoch, logs)
        if epoch == 6:
            raise KeyboardInterrupt

    original = training.EpochEnd.on_epoch_end
    monkeypatch.setattr(training.EpochEnd, "on_epoch_end", stop)
    with pytest.raises(SystemExit):
        run(tmp_path / "cut", *small)
    monkeypatch.undo()
    resumed = run(tmp_path / "cut", *small, "resume=true")
    speeds = ("train/tokens_per_second", "train/step_ms")
    assert {k: v for k, v in resumed.items() if k not in speeds} == {k: v for k, v in whole.items() if k not in speeds}


@pytest.mark.parametrize("model", ["ibm1", "ibm2", "fast_align", "hmm_align"])
def test_every_model(tmp_path, model):
    metrics = run(tmp_path / "run", f"model={model}", f"export.dir={tmp_path}/exports", "tracking=off")
    assert metrics["test/aer"] < 0.2
    ((source, target, *_),) = served(tmp_path / "exports" / "1", [("the house", "la casa")])
    assert (source, target) == (["the", "house"], ["la", "casa"])


@pytest.mark.parametrize(
    "override",
    ["model.stepwise=0.7", "model.concentration=0.01", "model.symmetrization=intersection", "text.case=keep"],
)
def test_options(tmp_path, override):
    metrics = run(
        tmp_path / "run", "model=ibm1", override, "batching.cells=4096", "trainer.epochs=3", "tracking=off",
        "export=off",
    )  # fmt: skip
    assert metrics["train/epochs"] == 3
    assert metrics["test/aer"] < 0.45


def test_batches_on_disk_change_nothing(trained, tmp_path):
    folder, metrics, _ = trained
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found = run(
        tmp_path / "run", "model=agreement", f"batching.folder={scratch}", "report.posteriors=true", "tracking=off",
        "export=off",
    )  # fmt: skip
    assert found["test/aer"] == metrics["test/aer"]
    assert found["train/loss"] == pytest.approx(metrics["train/loss"], rel=1e-6)
    for name in ("alignments.txt", "lexicon.forward.tsv"):
        assert lines(tmp_path / "run" / "reports" / name) == lines(folder / "run" / "reports" / name)
    assert not list(scratch.iterdir())
    with pytest.raises(InputError, match=r"batching\.folder: .*/nowhere cannot be written to"):
        run(tmp_path / "none", "model=ibm1", f"batching.folder={tmp_path}/nowhere", "tracking=off")


def test_a_vocabulary_with_an_end(tmp_path):
    """Rare words are one word, and so is what the export has never seen."""
    metrics = run(
        tmp_path / "run", "model=ibm1", "text.max_words=100", f"export.dir={tmp_path}/exports", "tracking=off",
    )  # fmt: skip
    assert metrics["test/aer"] < 0.5
    words = {line.split("\t")[0] for line in lines(tmp_path / "run" / "reports" / "lexicon.forward.tsv")[1:]}
    assert len(words) <= 100
    assert "<unk>" in words
    first, second = served(tmp_path / "exports" / "1", [("the zebra", "la cebra"), ("the gnu", "la ñu")])
    assert np.isfinite(first[3]).all()
    np.testing.assert_allclose(first[3], second[3], atol=1e-6)


def test_other_bitexts_are_trained_on_as_well(write, caplog):
    folder = write("train.source", "the house\nthe\na b c\n").parent
    write("train.target", "la casa\nla\nx\n")
    own = ("model=ibm1", "data=bitext", f"data.path={folder}")
    data = Alignment(configured(*own, "data.also=[sample_bitext]")).read()
    assert data.tokens.count == 603
    assert data.scored == {}  # gold of what is only mixed in is not scored
    with pytest.raises(InputError, match="no bitext 'sample_bitex'; did you mean sample_bitext"):
        Alignment(configured("model=ibm1", "data.also=[sample_bitex]")).read()
    data = Alignment(configured(*own, "data.max_length=2")).read()
    assert (data.tokens.count, data.tokens.skipped) == (3, 1)
    assert "1 pairs of over 2 words left out" in caplog.text


def test_data_of_another_task():
    with pytest.raises(InputError, match="model=ibm1 needs sentence pairs; data=wnut17 has sentences with entities"):
        Alignment(configured("model=ibm1", "data=wnut17"))
    from trellis.pipelines.tagging import Tagging

    with pytest.raises(InputError, match=r"model=bilstm_crf needs tagged sentences; .* \(try data=sample_ner\)"):
        Tagging(configured("model=bilstm_crf", "data=czenali"))


def test_the_whole_corpus_of_one_pair(write, tmp_path):
    folder = write("train.source", "the house\n").parent
    write("train.target", "la casa\n")
    metrics = run(
        tmp_path / "run", "model=agreement", "data=bitext", f"data.path={folder}", f"export.dir={tmp_path}/exports",
        "tracking=off",
    )  # fmt: skip
    assert np.isfinite(metrics["train/loss"])
    assert tf.io.gfile.exists(str(tmp_path / "exports" / "1" / "saved_model.pb"))


# Own bitexts

SMALL = ("model=ibm1", "model.iterations.ibm1=1", "tracking=off", "export=off")


def own_bitext(write, folder="own"):
    sides = {"source": "a b\n\nc d\na\n", "target": "x y\nz\nz w\n\n"}
    for part in ("train", "test"):
        for side, text in sides.items():
            path = write(f"{folder}/{part}.{side}", text)
    write(f"{folder}/test.naacl", "1 1 1 S\n3 2 2 S\n")
    return path.parent


def test_alignments_are_line_parallel_to_the_input(write, tmp_path):
    folder = own_bitext(write)
    run(tmp_path / "run", *SMALL, "data=bitext", f"data.path={folder}")
    written = lines(tmp_path / "run" / "reports" / "alignments.txt")
    assert [bool(line) for line in written] == [True, False, True, False]


@pytest.mark.parametrize("way", ["files", "path", "nested"])
def test_gold_alignments_of_a_bitext_of_ones_own(write, way):
    folder = own_bitext(write)
    names = {part: {side: f"{part}.{side}" for side in ("source", "target")} for part in ("train", "test")}
    names["test"]["naacl"] = "test.naacl"

    def shown(roles):
        return ", ".join(f"{role}: {file if way == 'files' else folder / file}" for role, file in roles.items())

    if way == "path":
        pairs = ", ".join(f"{p}.{role}: {folder / f}" for p, roles in names.items() for role, f in roles.items())
        overrides = [f"++data.path={{{pairs}}}"]
    else:
        files = ", ".join(f"{part}: {{{shown(roles)}}}" for part, roles in names.items())
        overrides = [f"++data.files={{{files}}}", f"data.path={folder}"]
        overrides = overrides if way == "files" else [f"++data.path={{{files}}}"]
    data = Alignment(configured("model=ibm1", "data=bitext", *overrides)).read()
    assert {part: len(rows) for part, rows in data.scored.items()} == {"test": 2}
    assert data.tokens.count == 8


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{train.source: a, train.target: b, test.nacl: c}", "data.path.test: there is no 'nacl'; did you mean naacl"),
        ("{trian.source: a, train.target: b}", "data.path: there is no 'trian'; did you mean train"),
        ("{train.source: a}", "data.path: no train.target, which the reader needs"),
        ("{train: a}", "data.path: train is one file, but the reader needs source and target"),
    ],
)
def test_misspelt_names_of_files_are_refused(path, message):
    with pytest.raises(InputError, match=message):
        Alignment(configured("model=ibm1", "data=bitext", f"++data.path={path}")).read()
    if path.startswith("{trian"):
        with pytest.raises(InputError, match=r"data.files: there is no 'trian'"):
            Alignment(configured("model=ibm1", "data=bitext", "data.path=x", "++data.files={trian: a}")).read()


def test_xl_wa_in_any_of_its_languages(write):
    row = "a b\tx y\t0-0 1-1\n"
    for part in ("train", "dev", "test"):
        folder = write(f"pt/{part}.tsv", row).parent
    data = Alignment(configured("model=ibm1", "data=xlwa", "data.language=pt", f"data.path={folder}")).read()
    assert data.tokens.count == 3 and set(data.scored) == {"dev", "test"}
    config = configured("model=ibm1", "data=xlwa", "data.language=pt").data
    assert config.folder == "xlwa/pt" and config.download.dev.url.endswith("/pt/dev.tsv")
