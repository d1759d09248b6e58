"""Scores of translations, against published figures and against texts small enough to count by hand."""

import csv
import gzip
import itertools
import math
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import sacrebleu
import snowballstemmer

from trellis.components.metrics import translation
from trellis.components.metrics.correlation import correlations
from trellis.components.metrics.direction import is_better
from trellis.components.metrics.meteor import LANGUAGES, Meteor, align
from trellis.components.metrics.significance import paired_bootstrap, paired_randomization
from trellis.components.metrics.translation import translation_metric
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
    with pytest.raises(ValueError, match="bleu_13a: not a metric of tokenized text, which has bleu_tok_lc, chrf"):
        translation.corpus_scores(["it"], [["it"]], tokenized=True, names=["bleu_13a"])


def test_a_segment_may_have_fewer_references_than_others():
    assert translation.corpus_scores(HYPOTHESES, REFERENCES, tokenized=True)["ter"] == 0
    segments = translation.segment_scores(HYPOTHESES, [[HYPOTHESES[0], "a dog barked"]], tokenized=True, names=["ter"])
    assert segments["ter"] == pytest.approx([0, 100 / 3])
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
    hypotheses, post_edits = ["a b", "c d e", "a c"], ["A B", "x", "a b"]
    assert translation.hter(hypotheses, post_edits) == [0, 100, 50]
    scores = translation.corpus_scores(hypotheses, [post_edits], tokenized=True, names=["hter", "ter"])
    assert scores == pytest.approx({"hter": 50, "ter": 100 * 4 / 5})
    with pytest.raises(ValueError, match="hter: 2 sets of references; a translation has one post-edit"):
        translation.corpus_scores(hypotheses, [post_edits, post_edits], tokenized=True, names=["hter"])


@pytest.mark.parametrize("name", ["bleu_13a", "bleu_13a_lc", "bleu_tok_lc", "chrf", "chrf_lc", "chrfpp", "ter"])
def test_scores_are_those_of_the_public_methods_of_sacrebleu(name):
    definition = translation.DEFINITIONS[name]
    options = {**definition.options, **({"effective_order": True} if definition.kind == "BLEU" else {})}
    peer = getattr(sacrebleu, definition.kind)(**definition.options)
    segment_peer = getattr(sacrebleu, definition.kind)(**options)
    tokenized = bool(definition.tokenized)
    hypotheses = ["The cat sat on the mat .", "a dog barks", "", "It ’s over , they said ."]
    references = [
        ["the cat sat on a mat .", "A dog barked loudly", "Nothing", "it is over , he said ."],
        ["A cat was sitting there .", None, "No", "They said it was over ."],
    ]
    scores = translation.corpus_scores(hypotheses, references, tokenized=tokenized, names=[name])
    assert scores[name] == pytest.approx(peer.corpus_score(hypotheses, references).score)
    assert translation.signatures(references, tokenized=tokenized, names=[name])[name] == str(peer.get_signature())
    segments = translation.segment_scores(hypotheses, references, tokenized=tokenized, names=[name])
    assert segments[name] == pytest.approx(
        [
            segment_peer.sentence_score(text, [each[row] for each in references if each[row] is not None]).score
            for row, text in enumerate(hypotheses)
        ]
    )
    signature = translation.signatures(references[:1], tokenized=tokenized, names=[name], segments=True)[name]
    assert signature == str(segment_peer.get_signature()).replace("nrefs:2", "nrefs:1")


# What METEOR 1.5 prints for these segments with `-l en -lower -m "exact stem"`.
METEOR = [
    ("the cat sat on the mat", "the cat sat on the mat", 100),
    ("a b c", "a b d", 27.2954092584186),
    ("the dogs ran home", "the dog runs home", 25.91064468043587),
    ("x y", "z w", 0),
    ("the a b the", "the b a the", 40),
]
METEOR_OF_THEM_ALL = 32.87367479482616


def test_meteor_is_that_of_the_reference_implementation():
    hypotheses, references, expected = zip(*METEOR, strict=True)
    keys = {"tokenized": True, "names": ["meteor"], "language": "en"}
    assert translation.segment_scores(hypotheses, [references], **keys)["meteor"] == pytest.approx(expected)
    assert translation.corpus_scores(hypotheses, [references], **keys)["meteor"] == pytest.approx(METEOR_OF_THEM_ALL)
    assert translation.signatures([references], **keys)["meteor"].startswith(
        "nrefs:1|case:lc|tok:none|lang:en|alpha:0.85|beta:0.2|gamma:0.6|delta:0.75|exact:1.0|stem:0.6|function_words:92|"
    )


def test_meteor_takes_the_best_reference():
    metric = Meteor("en", tokenized=False)
    statistics = metric.statistics(["The dogs ran home."], [["Cats sleep."], ["the dogs ran home ."], [None]])
    assert metric.segment_score(statistics[0]) == pytest.approx(100)


def test_words_with_similar_vectors_are_synonyms():
    vectors = {"glad": [3.0, 0.1], "happy": [1.0, 0.0], "sad": [-1.0, 0.2]}
    metric = Meteor("en", tokenized=True, vectors=vectors)
    happy, sad = (
        metric.segment_score(row) for row in metric.statistics(["i am happy"] * 2, [["i am glad", "i am sad"]])
    )
    assert happy > sad == Meteor("en", tokenized=True).score(metric.statistics(["i am happy"], [["i am sad"]])[0])


def test_a_language_without_a_stemmer_is_an_error():
    with pytest.raises(ValueError, match=r"xx: no stemmer of this language; did you mean .*en"):
        Meteor("xx", tokenized=True)
    with pytest.raises(ValueError, match="meteor: needs the language of the texts, such as en"):
        translation.corpus_scores(["a"], [["a"]], tokenized=True, names=["meteor"])
    assert set(LANGUAGES.values()) <= set(snowballstemmer.algorithms())


def rank(links, candidates):
    """Negative weight, chunks and distances of an alignment."""
    chunks = sum((i - 1, j - 1) not in links for i, j in links)
    return -sum(candidates[i][j] for i, j in links), chunks, sum(abs(i - j) for i, j in links)


def alignments(candidates):
    """Every alignment of words to their candidates."""
    for choice in itertools.product(*([None, *positions] for positions in candidates)):
        taken = [j for j in choice if j is not None]
        if len(set(taken)) == len(taken):
            yield [(i, j) for i, j in enumerate(choice) if j is not None]


@hypothesis.given(st.lists(st.dictionaries(st.integers(0, 4), st.sampled_from([1.0, 0.5]), max_size=3), max_size=5))
def test_no_alignment_is_better_than_the_one_found(candidates):
    found = align(candidates)
    assert rank(found, candidates) == min(rank(links, candidates) for links in alignments(candidates))


def test_systems_that_hardly_differ_are_not_significantly_different():
    references = [[f"sentence {row} of the test" for row in range(50)]]
    baseline = [text.replace("of", "in") for text in references[0]]
    other = [*baseline[:-1], references[0][-1]]
    for hypotheses in (baseline, other):
        metric = translation_metric("bleu_tok_lc", tokenized=True)
        rows = [metric.statistics(each, references) for each in (baseline, hypotheses)]
        assert paired_randomization(metric.score, *rows, trials=200) == 1
        assert paired_bootstrap(metric.score, *rows, samples=200).p_value > 0.5


def test_a_system_that_is_better_everywhere_is_significantly_better():
    references = [[f"sentence {row} of the test" for row in range(50)]]
    baseline = [text.replace("of", "in") for text in references[0]]
    metric = translation_metric("ter", tokenized=True)
    rows = [metric.statistics(each, references) for each in (baseline, references[0])]
    result = paired_bootstrap(metric.score, *rows, samples=200)
    assert result == pytest.approx((-20, -20, -20, 2 / 201, 0))
    assert paired_randomization(metric.score, *rows, trials=200) == 1 / 201


def test_randomization_converges_to_the_exact_test():
    def mean(total):
        return float(total[0]) / 8

    change = [3.0, -1, 2, 2, 1, -0.5, 1, 0.5]
    rows = np.zeros((8, 1)), np.array(change)[:, None]
    signs = itertools.product([1, -1], repeat=8)
    exact = sum(abs(np.dot(sign, change)) >= sum(change) for sign in signs) / 2**8
    assert paired_randomization(mean, *rows, trials=20_000) == pytest.approx(exact, abs=0.01)
    with pytest.raises(ValueError, match="the same segments are needed"):
        paired_randomization(mean, rows[0], rows[1][:-1])


def test_correlations():
    assert correlations([1, 2, 3, 4], [1, 2, 3, 8]) == pytest.approx(
        {"pearson": 11 / math.sqrt(5 * 29), "spearman": 1, "kendall": 1}
    )
    with pytest.raises(ValueError, match="scores: all are 1, so they correlate with nothing"):
        correlations([1, 1], [1, 2])
    with pytest.raises(ValueError, match="judgements: not all finite"):
        correlations([1, 2], [1, math.nan])
    with pytest.raises(ValueError, match="1 scores and 2 judgements"):
        correlations([1], [1, 2])


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


# Pearson correlation of the scores of segments with direct assessments, one reference.
CORRELATIONS = {"bleu_13a": 0.417, "chrf": 0.508, "ter": -0.401, "meteor": 0.514}


@pytest.mark.real
@pytest.mark.parametrize("name", CORRELATIONS)
def test_correlations_with_human_judgement_are_the_known_ones(name, real):
    hypotheses, references, judgements = (
        lines(real / "mlqe_et_en_multiref" / f"{file}.gz") for file in ("mt.en", "ref1.en", "da_z.txt")
    )
    scores = translation.segment_scores(hypotheses, [references], tokenized=False, names=[name], language="en")
    pearson = correlations(scores[name], [float(judgement) for judgement in judgements])["pearson"]
    assert pearson == pytest.approx(CORRELATIONS[name], abs=0.0005)
