"""Scores of translations, against published figures and against texts small enough to count by hand."""

import csv
import gzip
import math
import subprocess
import sys

import pytest

from trellis.components.metrics import translation
from trellis.components.metrics.direction import is_better
from trellis.components.readers.lines import read_lines

HYPOTHESES = ["the cat sat on the mat .", "A dog barks"]
REFERENCES = [["the cat sat on the mat .", "a dog barked"], [None, "a dog barks"]]


def lines(path):
    return [line for _, line in read_lines(path)]


def test_a_perfect_translation_has_perfect_scores():
    scores = translation.corpus_scores(["the cat sat here"], [["the cat sat here"]], tokenized=True)
    assert scores == pytest.approx({"bleu_tok_lc": 100, "chrf": 100, "chrfpp": 100, "ter": 0})


def test_names_say_which_text_is_compared():
    raw = translation.corpus_scores(["The cat sat on it."], [["the cat sat on it ."]], tokenized=False)
    assert raw["bleu_13a_lc"] == pytest.approx(100)
    assert raw["bleu_13a"] == pytest.approx(100 * math.exp(sum(map(math.log, (5 / 6, 4 / 5, 3 / 4, 2 / 3))) / 4))
    assert set(raw) == {"bleu_13a", "bleu_13a_lc", "chrf", "chrfpp", "ter"}
    assert translation.corpus_scores(["It."], [["it ."]], tokenized=True, names=["bleu_tok_lc"])["bleu_tok_lc"] == 0
    with pytest.raises(ValueError, match="bleu_13a: not a score of tokenized text: bleu_tok_lc, chrf, chrfpp, ter"):
        translation.corpus_scores(["it"], [["it"]], tokenized=True, names=["bleu_13a"])


def test_a_segment_may_have_fewer_references_than_others():
    assert translation.corpus_scores(HYPOTHESES, REFERENCES, tokenized=True)["ter"] == 0
    assert translation.segment_scores(HYPOTHESES, REFERENCES[:1], "ter") == pytest.approx([0, 100 / 3])
    signatures = translation.signatures(REFERENCES, tokenized=True)
    assert signatures["bleu_tok_lc"].startswith("nrefs:var|case:lc|eff:no|tok:none|smooth:exp|version:")
    assert translation.signatures(REFERENCES[:1], tokenized=False)["bleu_13a"].startswith("nrefs:1|case:mixed|")


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([], [[]], "0 hypotheses and 1 sets of references"),
        (["a"], [], "1 hypotheses and 0 sets of references"),
        (["a", "b"], [["a", "b"], ["a"]], r"references\[1\] has 1 segments, expected 2"),
        (["a", "b"], [["a", None]], "segment 1 has no reference"),
    ],
)
def test_lists_that_do_not_fit_together_are_an_error(hypotheses, references, message):
    with pytest.raises(ValueError, match=message):
        translation.corpus_scores(hypotheses, references, tokenized=True)


def test_hter_is_at_most_100():
    assert translation.hter(["a b", "c d e"], ["A B", "x"]) == [0, 100]


def test_importing_the_module_loads_no_library():
    code = "import sys, trellis.components.metrics.translation; print('sacrebleu' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("metric", "better"), [("bleu_tok_lc", 2), ("chrf", 2), ("meteor", 2), ("coverage", 2), ("ter", 1), ("hter", 1)]
)
def test_the_better_score(metric, better):
    assert is_better(better, 3 - better, f"dev/{metric}")


PUBLISHED_BLEU = {
    "slug": 66.19, "tgen": 65.93, "zhang": 65.45, "harv": 64.96, "tr1": 63.36, "sheff1": 60.15, "dangnt": 59.90,
    "chen": 58.59, "tuda": 56.57, "adapt": 50.92, "tr2": 42.02,
}  # fmt: skip


@pytest.fixture(scope="module")
def e2e_references(real):
    """References of the E2E test part, one list per set."""
    texts = {}
    with gzip.open(real / "e2e" / "test.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            texts.setdefault(row["mr"], []).append(row["ref"])
    sets = range(max(map(len, texts.values())))
    return [[each[index] if index < len(each) else None for each in texts.values()] for index in sets]


@pytest.mark.real
@pytest.mark.parametrize("system", PUBLISHED_BLEU)
def test_bleu_of_the_e2e_challenge_is_the_published_one(system, e2e_references, real):
    hypotheses = lines(real / "e2e" / "systems" / f"{system}.txt.gz")
    scores = translation.corpus_scores(hypotheses, e2e_references, tokenized=False, names=["bleu_13a_lc"])
    assert scores["bleu_13a_lc"] == pytest.approx(PUBLISHED_BLEU[system], abs=0.01)


@pytest.mark.real
@pytest.mark.parametrize("part", ["dev", "test"])
def test_hter_is_the_published_one(part, real):
    hypotheses, post_edits, published = (
        lines(real / "mlqe_pe_en_de" / f"{part}.{extension}.gz") for extension in ("mt", "pe", "hter")
    )
    expected = [100 * float(score) for score in published]
    assert translation.hter(hypotheses, post_edits) == pytest.approx(expected, abs=0.0005)
