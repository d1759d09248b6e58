"""Entities against an independent transcription of conlleval's rules, and the conversions between schemes."""

import random

import pytest
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES

from trellis.components.metrics.tagging_scores import accuracy_by_familiarity, entity_scores, tag_scores, token_accuracy
from trellis.components.readers.sentence import Sentence
from trellis.components.text import tag_schemes
from trellis.components.text.tag_schemes import Entity, Scheme, UnknownTagError, entities, recognize


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
    assert tag_schemes.detect([["U-A", "O"]]) == "bilou"
    assert tag_schemes.detect([["O"]]) == "bio2"


WRITTEN = {
    "BIO2": ("BI", "BI"), "IOBES": ("BIES", "BIES"), "BILOU": ("BILU", "BIES"), "BMEWO": ("BMEW", "BIES"),
    "BMES": ("BMES", "BIES"),
}  # fmt: skip
FORMS = {"B-TYPE": "{}-{}", "B_TYPE": "{}_{}", "TYPE-B": "{1}-{0}", "TYPE_B": "{1}_{0}", "B": "{}"}


def written(tags, scheme, form):
    """Tags in BIO2 in another scheme and form."""
    letters, canonical = WRITTEN[scheme]
    names = dict(zip(canonical, letters, strict=True))
    converted = tag_schemes.convert(tags, "bio2" if scheme == "BIO2" else "iobes")
    split = (tag.partition("-")[::2] for tag in converted)
    return ["O" if position == "O" else FORMS[form].format(names[position], kind) for position, kind in split]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scheme", WRITTEN)
@pytest.mark.parametrize("case", [str, str.lower])
def test_every_way_of_writing_tags_is_recognised(scheme, form, case):
    rng = random.Random(5)
    for _ in range(20):
        bio2 = [random_tags(rng, valid=True) for _ in range(50)]
        if form == "B":  # one type
            bio2 = [[tag.replace("-B", "-A") for tag in tags] for tags in bio2]
        rows = [[case(tag) for tag in written(tags, scheme, form)] for tags in bio2]
        found = recognize(rows)
        assert found == Scheme(scheme, form) and (form in str(found) or form == "B-TYPE")
        untyped = ("-A", f"-{tag_schemes.UNTYPED}")
        for before, after in zip(bio2, rows, strict=True):
            converted = " ".join(tag_schemes.convert(after, "bio2", found)).upper()
            assert converted == " ".join(before).replace(*(untyped if form == "B" else ("", "")))


@pytest.mark.parametrize(("scheme", "theirs"), [("IOBES", IOBES), ("BILOU", BILOU), ("BIO2", IOB2)])
@pytest.mark.parametrize("form", ["B-TYPE", "TYPE-B"])
def test_scores_of_any_scheme_equal_seqeval(scheme, theirs, form):
    rng = random.Random(3)
    gold = [random_tags(rng, valid=True) for _ in range(500)]
    predicted = [tags if rng.random() < 0.5 else random_tags(rng, valid=True)[: len(tags)] for tags in gold]
    predicted = [[*tags, *["O"] * (len(g) - len(tags))] for tags, g in zip(predicted, gold, strict=True)]
    rows = [[written(tags, scheme, form) for tags in part] for part in (gold, predicted)]
    expected = f1_score(*rows, mode="strict", scheme=theirs, suffix=form == "TYPE-B")
    assert 0.3 < expected < 0.9
    assert entity_scores(*rows)["f1"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gold", "predicted", "f1"),
    [
        (["U-PER", "U-PER", "O"], ["U-PER", "O", "O"], 2 / 3),
        (["B-PER", "L-PER", "U-PER"], ["U-PER", "U-PER", "U-PER"], 0.4),
        (["B", "B", "I", "O"], ["B", "B", "O", "O"], 0.5),
        (["b-per", "b-per", "o"], ["b-per", "i-per", "o"], 0),
        (["PER-B", "PER-B", "O"], ["PER-B", "O", "O"], 2 / 3),
        (["W-PER", "W-PER", "B-PER", "M-PER", "E-PER"], ["W-PER", "W-PER", "B-PER", "E-PER", "O"], 2 / 3),
        (["PER", "PER", "O", "LOC"], ["PER", "PER", "O", "PER"], 0.5),
        (["I-PER", "I-PER", "O"], ["I-PER", "I-PER", "O"], 1),
    ],
)
def test_scores_of_other_schemes_by_hand(gold, predicted, f1):
    assert entity_scores([gold], [predicted])["f1"] == pytest.approx(f1)


def test_scores_of_iob1_equal_seqeval():
    gold = [["I-A", "I-A", "B-A", "O", "I-B"], ["I-B", "I-A", "B-A"]]
    predicted = [["I-A", "I-A", "I-A", "O", "I-B"], ["I-B", "I-A", "B-A"]]
    expected = f1_score(gold, predicted, mode="strict", scheme=IOB1)
    assert entity_scores(gold, predicted)["f1"] == pytest.approx(expected)


def test_types_may_hold_what_separates_positions():
    assert recognize([["B-geo-loc", "I-geo-loc", "O"]]) == Scheme("BIO2")
    assert Scheme("BIO2").split("B-geo-loc") == ("B", "geo-loc")
    assert recognize([["B-WORK_OF_ART", "O"], ["E-WORK_OF_ART"]]) == Scheme("IOBES")
    assert recognize([["WORK_OF_ART", "O", "E-MAIL"]]) == Scheme("IO", "TYPE")
    assert recognize([["WORK_OF_ART-B", "WORK_OF_ART-I"]]) == Scheme("BIO2", "TYPE-B")
    assert entities(["B-S", "B-S", "I-B"]) == [Entity("S", 0, 1), Entity("S", 1, 2), Entity("B", 2, 3)]


@pytest.mark.parametrize(
    ("rows", "tag"),
    [
        ([["B-PER", "O"], ["O", "X-PER"]], "X-PER"),
        ([["B-PER", "I-PER", "O"], ["O", "PER"]], "PER"),
        ([["B-PER", "I-PER", "O"], ["O", "PER-B"]], "PER-B"),
        ([["B-PER", "I-PER", "E-PER", "S-PER"], ["O", "U-PER"]], "U-PER"),
        ([["B-PER", "I-PER", "I-PER", "O"], ["O", "B_PER"]], "B_PER"),
        ([["O", "B-PER", "I-PER"], ["O", "B-"]], "B-"),
        ([["B", "I", "O"], ["O", "Q"]], "Q"),
        ([["NN"], ["VB", "DT"]], "NN"),
    ],
)
def test_what_is_no_scheme_is_refused_with_its_place(rows, tag):
    with pytest.raises(UnknownTagError) as raised:
        recognize(rows)
    assert raised.value.tag == tag == rows[raised.value.sentence][raised.value.token]
    assert repr(tag) in str(raised.value)


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
