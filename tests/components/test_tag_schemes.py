"""Entities against an independent transcription of conlleval's rules, and the conversions between schemes."""

import random

import pytest
from seqeval.metrics import f1_score, precision_score, recall_score

from trellis.components.metrics.tagging_scores import accuracy_by_familiarity, entity_scores, tag_scores, token_accuracy
from trellis.components.readers.sentence import Sentence
from trellis.components.text import tag_schemes
from trellis.components.text.tag_schemes import Entity, entities


def conlleval(tags):
    """Entities by the start and end conditions of conlleval.pl, tag pair by tag pair."""
    found, begun = [], None
    last_tag, last_type = "O", ""
    for index, each in enumerate([*tags, "O"]):
        tag, _, kind = each.partition("-")
        end = (last_tag, tag) in {("B", "B"), ("B", "O"), ("I", "B"), ("I", "O"), ("E", "E"), ("E", "I"), ("E", "O")}
        end = end or (last_tag != "O" and last_type != kind)
        start = (last_tag, tag) in {("B", "B"), ("I", "B"), ("O", "B"), ("O", "I"), ("E", "E"), ("E", "I"), ("O", "E")}
        start = start or (tag != "O" and last_type != kind)
        if end and begun is not None:
            found.append((last_type, begun, index))
            begun = None
        if start:
            begun = index
        last_tag, last_type = tag, kind
    return found


def random_tags(rng, valid):
    tags = []
    for _ in range(rng.randint(0, 12)):
        choices = ["O", "B-A", "B-B"]
        if not valid:
            choices += ["I-A", "I-B", "I-C"]
        elif tags and tags[-1] != "O":
            choices += ["I" + tags[-1][1:]] * 2
        tags.append(rng.choice(choices))
    return tags


def test_entities_equal_conlleval_on_thousands_of_random_sequences():
    rng = random.Random(0)
    for _ in range(10_000):
        tags = random_tags(rng, valid=False)
        assert [tuple(each) for each in entities(tags)] == conlleval(tags), tags


def test_scores_equal_seqeval():
    rng = random.Random(1)
    for valid in (True, False):
        gold = [random_tags(rng, valid) for _ in range(3000)]
        predicted = [[rng.choice([tag, tag, "O", "I-A", "B-B"]) for tag in tags] for tags in gold]
        ours = entity_scores(gold, predicted)
        theirs = [measure(gold, predicted) for measure in (precision_score, recall_score, f1_score)]
        assert [ours["precision"], ours["recall"], ours["f1"]] == pytest.approx(theirs)


def test_scores_by_hand():
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-ORG"]]
    predicted = [["B-PER", "I-PER", "O", "I-LOC"], ["B-ORG", "I-ORG"]]
    result = entity_scores(gold, predicted)
    assert (result["precision"], result["recall"]) == (2 / 3, 2 / 3)
    assert result["types"]["ORG"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert entity_scores([["O"]], [["O"]])["f1"] == 0.0
    assert token_accuracy(gold, predicted) == 3 / 6
    assert token_accuracy([], []) == 0.0
    assert tag_scores(gold, predicted)["B-ORG"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    familiar = accuracy_by_familiarity([Sentence(("a", "b"), ("X", "Y"))], [("X", "X")], {"a"})
    assert familiar == {"known": 1.0, "unknown": 0.0}


def test_bad_continuations_begin_entities():
    assert entities(["I-A", "I-B", "O", "I-A", "B-A"]) == [
        Entity("A", 0, 1), Entity("B", 1, 2), Entity("A", 3, 4), Entity("A", 4, 5),
    ]  # fmt: skip


def test_schemes_are_detected():
    assert tag_schemes.detect([["I-A", "I-A", "B-A", "O"]]) == "iob1"
    assert tag_schemes.detect([["I-A", "O"], ["O"]]) == "iob1"
    assert tag_schemes.detect([["I-A", "O"], ["B-A", "I-A"]]) == "bio2"
    assert tag_schemes.detect([["B-A", "I-A", "O"]]) == "bio2"
    assert tag_schemes.detect([["S-A", "O"]]) == "iobes"
    assert tag_schemes.detect([["O"]]) == "bio2"


def test_conversions_keep_the_entities():
    rng = random.Random(2)
    for _ in range(2000):
        tags = random_tags(rng, valid=True)
        long = tag_schemes.convert(tags, "iobes")
        assert tag_schemes.convert(long, "bio2") == tuple(tags)
        assert tuple(map(tag_schemes.to_bio2, long)) == tuple(tags)
        assert tag_schemes.detect([long]) in ("iobes", "bio2")
    assert tag_schemes.convert(["I-A", "I-A", "B-A", "I-B"], "bio2") == ("B-A", "I-A", "B-A", "B-B")
    assert tag_schemes.convert(["B-A", "B-A", "I-A", "I-A"], "iobes") == ("S-A", "B-A", "I-A", "E-A")
