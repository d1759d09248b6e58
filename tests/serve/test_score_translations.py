"""`trellis score-translations`."""

import gzip
import json

import pytest
import sacrebleu

from trellis.__main__ import main

FILES = {
    "hyp": "The cat sat on the mat.\nA dog barks loudly.\nIt rains.\n",
    "worse": "Cat mat on.\nDogs.\nIt rains.\n",
    "ref": "The cat sat on a mat.\nA dog barks loudly.\nIt is raining.\n",
    "ref2": "There was a cat on the mat.\n\nIt rains.\n",
    "human": "0.5\n1.5\n-1\n",
}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def output(capsys):
    """Run the command, which has to succeed in silence, and return its output."""

    def run(arguments):
        assert main(["score-translations", *arguments.split()]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return run


def test_each_score_has_its_signature(output):
    lines = output("hyp ref").splitlines()
    assert [line.split()[0] for line in lines] == ["bleu_13a", "bleu_13a_lc", "chrf", "chrfpp", "ter"]
    hypotheses, references = (FILES[name].splitlines() for name in ("hyp", "ref"))
    score = sacrebleu.corpus_bleu(hypotheses, [references]).score
    signature = f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    assert lines[0] == f"bleu_13a      {score:.2f}  {signature}"


def test_an_empty_line_means_that_there_is_no_such_reference(output):
    scores = json.loads(output("hyp ref ref2 --json --metric ter,bleu_13a"))
    assert scores["segments"] == 3
    assert list(scores["scores"]) == ["ter", "bleu_13a"]
    assert scores["scores"]["ter"] == pytest.approx(100 * 1 / (6.5 + 4 + 2.5))
    assert scores["signatures"]["ter"].startswith("nrefs:var|")


def test_tokenized_text_has_other_scores(output):
    for name in ("hyp", "ref"):
        with gzip.open(f"{name}.tok.gz", "wt", encoding="utf-8") as file:
            file.write(FILES[name].replace(".", " ."))
    scores = json.loads(output("hyp.tok.gz ref.tok.gz --tokenized --language en --json"))["scores"]
    assert list(scores) == ["bleu_tok_lc", "chrf", "chrfpp", "ter", "meteor"]
    assert scores["bleu_tok_lc"] == pytest.approx(json.loads(output("hyp ref --json"))["scores"]["bleu_13a_lc"])


def test_raw_text_that_looks_tokenized_is_noted(capsys, tmp_path):
    (tmp_path / "hyp").write_text(FILES["hyp"].replace(".", " ."))
    assert main(["score-translations", "hyp", "ref", "--metric", "chrf"]) == 0
    note = "note: hyp: 3 of 3 lines end in a space and a full stop; use --tokenized for tokenized text\n"
    assert capsys.readouterr().err == note


def test_segments_have_a_line_each(output):
    lines = output("hyp ref --segments --metric ter,hter").splitlines()
    assert lines == ["ter\thter", "16.6667\t16.6667", "0.0000\t0.0000", "66.6667\t66.6667"]
    rows = [json.loads(line) for line in output("hyp ref --segments --metric ter --json").splitlines()]
    assert [row["ter"] for row in rows] == pytest.approx([100 / 6, 0, 200 / 3])


def test_two_systems_are_compared(output):
    lines = output("hyp ref --compare worse --metric chrf").splitlines()
    assert lines[0].split("  ")[-1] == "p, randomization"
    assert lines[1].split()[0] == "chrf"
    row = json.loads(output("hyp ref --compare worse --metric chrf --json"))["compared"]["chrf"]
    assert row["score"] - row["baseline"] == row["difference"] > 0
    assert row["low"] <= row["difference"] <= row["high"]
    assert 0.2 < row["p_randomization"] < 0.8  # of three segments, one does not differ
    same = json.loads(output("hyp ref --compare hyp --metric chrf --json"))["compared"]["chrf"]
    assert same["p_bootstrap"] == same["p_randomization"] == 1


def test_scores_correlate_with_human_ones(output):
    row = json.loads(output("hyp ref --human human --metric ter --json"))["correlations"]["ter"]
    assert row == pytest.approx({"pearson": -0.9990, "spearman": -1, "kendall": -1}, abs=0.02)
    assert "pearson" in output("hyp ref --human human --metric ter").splitlines()[0]


MISTAKES = {
    "hyp nothing": "nothing: no such file",
    "nothing ref": "nothing: no such file",
    "hyp folder": "folder: cannot be read (Is a directory)",
    "hyp short": "short has 2 lines, hyp has 3",
    "hyp ref long": "long has 4 lines, hyp has 3",
    "hyp ref --compare short": "short has 2 lines, hyp has 3",
    "hyp ref --human short": "short has 2 lines, hyp has 3",
    "hyp empty": "empty: empty",
    "empty ref": "empty: empty",
    "hyp latin": "latin:2: not UTF-8 (byte 0xe9 at column 4); convert the file to UTF-8",
    "hyp ref2": "ref2:2: empty; every segment needs a reference",
    "hyp ref2 ref2": "ref2:2: empty or any other reference; every segment needs a reference",
    "hyp ref --metric blue": "--metric: blue: no such metric; did you mean bleu_13a",
    "hyp ref --metric ,": "--metric: names no metric; such as bleu_13a,chrf",
    "hyp ref --metric bleu_tok_lc": "--metric: bleu_tok_lc: not a metric of raw text, which has bleu_13a, bleu_13a_lc",
    "hyp ref --metric bleu_13a --tokenized": "--metric: bleu_13a: not a metric of tokenized text",
    "hyp ref --metric meteor": "--metric: meteor: needs the language of the texts, such as en",
    "hyp ref --language xx": "--language: xx: no stemmer of this language; did you mean",
    "hyp ref ref2 --metric hter": "--metric hter: 2 references; a translation has one post-edit",
    "hyp ref --human ref": "ref:1: 'The cat sat on a mat.' is not a number",
    "hyp hyp --human human --metric ter": "ter and human: scores: all are 0, so they correlate with nothing",
    "hyp ref --human human --segments": "--segments: not allowed with argument --human",
    "hyp": "the following arguments are required: references",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_is_answered_in_one_line(arguments, tmp_path, capsys):
    (tmp_path / "short").write_text("one\ntwo\n")
    (tmp_path / "long").write_text("1\n2\n3\n4\n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "latin").write_bytes("a\ncaf\xe9\nb\n".encode("latin-1"))
    (tmp_path / "folder").mkdir()
    try:
        status = main(["score-translations", *arguments.split()])
    except SystemExit as stopped:
        status = stopped.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.startswith(f"trellis score-translations: error: {MISTAKES[arguments]}")
    assert captured.err.count("\n") == 1
