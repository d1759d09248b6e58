"""Entities and readings of an export, against the enumeration of all readings of its lattice."""

import json
import re
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import trellis
from tests.components.test_linear_chain import Enumerated
from trellis.components.errors import InputError
from trellis.components.metrics.calibration import Calibration, Scale
from trellis.components.models.tagger import tagger as build
from trellis.components.readers import conll
from trellis.components.saved_model import package
from trellis.components.saved_model.tagger_module import READINGS, TaggerModule
from trellis.components.text import tag_schemes
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.serve import entities, predict
from trellis.serve.export_model import ExportModel
from trellis.serve.server.batches import Settings
from trellis.serve.server.models import Version
from trellis.serve.server.requests import Refused, answer

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
CALIBRATION = Calibration(Scale(1.5, -0.3), {"PER": Scale(2.0, 0.4)}, threshold=0.5)
TEXTS = [
    "Mary Smith flew to Lima .",
    "Zoë’s  friend, from 日本 👩\u200d💻 and Oslo",
    "",
    "a",
    "Oslo\tLima\n is\u3000cold",
]
TEXTS += ["Bad \udcff byte Oslo Lima"]


@pytest.fixture(scope="module")
def module():
    """A tagger that has learned nothing, and is sure of some things nevertheless."""
    keras.utils.set_random_seed(7)
    vectorizer = TokenVectorizer.adapt(
        ["Mary", "Smith", "Oslo", "Lima", "flew", "to", ".", "is", "a"], features=["words"]
    )
    model = build(
        vectorizer.sizes, len(TAGS), cell="gru", bidirectional=False, layers=1, units=6, head="crf",
        words={"dim": 6, "tune": True}, characters={"kind": "none"}, casing={"dim": 0},
        dropout=dict.fromkeys(("word", "input", "recurrent", "output"), 0.0),
    )  # fmt: skip
    for layer in ("emissions", "word_embedding", "head"):
        model.get_layer(layer).set_weights([5 * weight for weight in model.get_layer(layer).get_weights()])
    return TaggerModule(model, vectorizer, TAGS, "words", CALIBRATION)


@pytest.fixture(scope="module")
def folder(module, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports") / "untaught"
    (folder / "1").mkdir(parents=True)
    package.write(folder / "1", module, "untaught", [text for text in TEXTS if text.isprintable() and text], {})
    return folder


@pytest.fixture(scope="module")
def export(folder):
    return trellis.load(folder)


def enumerated(export, text):
    lattice = export.lattice(text)
    zeros, unary = np.zeros(len(TAGS)), lattice.unary.astype(float)
    return Enumerated(unary, len(lattice.tokens), lattice.pairwise.astype(float), zeros, zeros)


def test_probabilities_are_the_calibrated_posteriors_of_entities_among_all_readings(export):
    found = 0
    for text in TEXTS[:1] + TEXTS[3:]:
        oracle = enumerated(export, text)
        readings = [frozenset(tag_schemes.entities([TAGS[tag] for tag in path])) for path in oracle.paths]
        best = readings[int(oracle.scores.argmax())]
        given = export.entities(text, threshold=0.0)
        assert {(each.type, each.start_token, each.end_token) for each in given} == best
        for each in given:
            own = (each.type, each.start_token, each.end_token)
            posterior = sum(p for p, reading in zip(oracle.posteriors, readings, strict=True) if own in reading)
            wanted = CALIBRATION.of(each.type).apply(np.array([posterior]))[0]
            assert each.probability == pytest.approx(wanted, abs=2e-5)
        found += len(given)
    assert found >= 5


def test_an_entity_is_what_stands_at_its_places(export):
    several = export.entities(TEXTS, threshold=0.0)
    assert sum(map(len, several)) >= 6
    for text, found in zip(TEXTS, several, strict=True):
        encoded, tokens = text.encode("utf-8", "surrogateescape"), export.tag(text).tokens
        for each in found:
            assert encoded[each.start_byte : each.end_byte].decode("utf-8", "replace") == each.text
            surface = text[each.start : each.end].encode("utf-8", "surrogateescape")
            assert surface == encoded[each.start_byte : each.end_byte]
            words = "".join(tokens[each.start_token : each.end_token])
            assert re.sub(r"[ \t\n]", "", each.text).replace("’", "'") == words
        assert [each.start for each in found] == sorted(each.start for each in found)


def test_the_threshold_of_the_export_holds_unless_a_request_has_another(export):
    every = [each for found in export.entities(TEXTS, threshold=0.0) for each in found]
    kept = [each for found in export.entities(TEXTS) for each in found]
    assert kept == [each for each in every if each.probability >= CALIBRATION.threshold]
    assert 0 < len(kept) < len(every)
    assert export.entities(TEXTS, threshold=1.0) == [[]] * len(TEXTS)


def test_tokens_are_taken_as_they_are(export):
    tokens, text = "Mary don't Oslo-Lima ’s .", "Mary don't  Oslo-Lima ’s . "
    found = export.entities(text, tokenized=True, threshold=0.0)
    assert found
    for each in found:
        assert tokens[each.start : each.end] == each.text == " ".join(tokens.split()[each.start_token : each.end_token])
    above = export.entities([text], tokenized=True)[0]
    assert above == [each for each in found if each.probability >= CALIBRATION.threshold]


def test_readings_are_the_most_probable_of_all_paths(export):
    for text in ("Mary Smith flew", "a"):
        oracle, readings = enumerated(export, text), export.n_best(text)
        order = np.argsort(-oracle.scores)[: len(readings)]
        assert len(readings) == min(READINGS, len(oracle.paths))
        np.testing.assert_allclose([each.probability for each in readings], oracle.posteriors[order], atol=2e-5)
        assert [each.tags for each in readings] == [[TAGS[tag] for tag in oracle.paths[index]] for index in order]
        assert readings[0].tags == export.tag(text).tags and readings[0].tokens == export.tag(text).tokens
    assert sum(each.probability for each in export.n_best("a")) == pytest.approx(1, abs=1e-5)
    assert export.n_best("") == [([], [], 1.0)]


def test_entities_never_depend_on_their_company(export):
    together, readings = export.entities(TEXTS, threshold=0.0), export.n_best(TEXTS)
    for text, found, best in zip(TEXTS, together, readings, strict=True):
        alone = export.entities(text, threshold=0.0)
        assert [each._replace(probability=0) for each in alone] == [each._replace(probability=0) for each in found]
        for one, other in ((alone, found), (export.n_best(text), best)):
            np.testing.assert_allclose(*([each.probability for each in each_] for each_ in (one, other)), atol=1e-5)


def test_texts_have_the_places_of_their_tokens(folder):
    model, text = tf.saved_model.load(str(folder / "1")), "Zoë’s  friend"
    outputs = {
        name: array.numpy()[0].tolist()
        for name, array in model.signatures["from_text"](text=tf.constant([text])).items()
    }
    assert outputs["tokens"] == ["Zoë".encode(), b"'s", b"friend"]
    assert [text[a:b] for a, b in zip(outputs["start"], outputs["end"], strict=True)] == ["Zoë", "’s", "friend"]
    assert outputs["start_byte"] == [0, 4, 10] and outputs["end_byte"] == [4, 8, 16]


@pytest.fixture(scope="module")
def version(folder):
    made = Version("untaught", 1, folder / "1", Settings(workers=1))
    yield made
    made.close()


def ask(version, signature, **inputs):
    arrays = {name: np.array(value, np.float32 if name == "threshold" else object) for name, value in inputs.items()}
    return version.batches[signature].submit(arrays, time.monotonic() + 60, version.check(signature, arrays))


def test_a_server_answers_in_rows_and_batches_as_if_each_request_were_alone(version):
    rows = [text.encode("utf-8", "surrogateescape") for text in TEXTS]
    requests = [("entities", {"text": [row], "threshold": [0.0]}) for row in rows]
    requests += [
        ("token_entities", {"tokens": [[b"Mary", b"Lima"] + [b"Oslo"] * n], "threshold": [-1.0]}) for n in (0, 5)
    ]
    requests += [("n_best", {"text": rows[:2]}), ("entities", {"text": rows, "threshold": [-1.0] * len(rows)})]
    alone = [ask(version, signature, **inputs).result() for signature, inputs in requests]
    together = [ask(version, signature, **inputs) for signature, inputs in requests]
    for one, other in zip(alone, (future.result() for future in together), strict=True):
        assert {name: array.shape for name, array in one.items()} == {
            name: array.shape for name, array in other.items()
        }
        for name, array in one.items():
            if array.dtype.kind == "f":
                np.testing.assert_allclose(other[name], array, atol=1e-5)
            else:
                np.testing.assert_array_equal(other[name], array)
    predictions = answer(alone[-1], in_rows=True)["predictions"]
    assert len(predictions) == len(TEXTS) and {type(row["count"]) for row in predictions} == {int}
    assert all(len(row["type"]) >= row["count"] for row in predictions)


def test_readings_count_in_the_limits_of_the_server(version):
    text = np.array([b"a " * 700] * 10, object)
    assert version.check("entities", {"text": text, "threshold": np.zeros(10, np.float32)}).cells == 7_000
    with pytest.raises(Refused, match="70,000 cells, above the limit of 65,536"):
        version.check("n_best", {"text": text})


class Older(ExportModel):
    """An export of a version without these signatures."""

    name, inputs = "exports/old/1", {"serving_default": ["tokens"], "from_text": ["text"]}

    def call(self, signature, **inputs):
        raise AssertionError(signature)


def test_what_an_export_lacks_is_said():
    for function in (entities.entities, entities.n_best):
        with pytest.raises(InputError, match=r"this export has no signature `.*`; train the model again to export it"):
            list(function(Older(), [b"Oslo"]))
    other = Older()
    other.inputs = {**Older.inputs, "n_best": ["text"]}
    with pytest.raises(InputError, match="the tags of this export are not of entities"):
        list(entities.entities(other, [b"Oslo"]))


@pytest.fixture
def printed(export, capsys, monkeypatch):
    """A function that returns what `trellis predict` prints about texts."""
    monkeypatch.setattr(predict, "open_model", lambda options: export._model)  # loaded once

    def printed(*arguments):
        assert predict.main(["untaught", *arguments]) == 0
        return capsys.readouterr().out

    return printed


def test_entities_are_printed_in_every_format(export, printed, write):
    texts, every = TEXTS[:2], ("--threshold", "0.000001")
    found = export.entities(texts, threshold=0.0)
    assert len(found[0]) >= 1 and len(found[1]) >= 1
    columns = [line.split(None, 3) for line in printed(*texts, "--format", "entities", *every).splitlines() if line]
    assert [(place, kind) for place, kind, *_ in columns] == [
        (f"{e.start}-{e.end}", e.type) for own in found for e in own
    ]
    objects = [json.loads(line) for line in printed(*texts, "--format", "jsonl", *every).splitlines()]
    assert [each["text"] for each in objects] == texts
    for each, own in zip(objects, found, strict=True):
        assert [(e["type"], e["start"], e["end"], e["text"]) for e in each["entities"]] == [
            (e.type, e.start, e.end, e.text) for e in own
        ]
    sentences = conll.read(write("out.conll", printed(*texts, "--format", "conll", *every)))
    for sentence, own in zip(sentences, found, strict=True):
        assert [tuple(e) for e in tag_schemes.entities(sentence.tags)] == [
            (e.type, e.start_token, e.end_token) for e in own
        ]
    assert printed(texts[0], "--format", "tokens") == printed(texts[0])


def test_a_page_shows_texts_with_their_entities_and_runs_nothing(export, printed):
    text = "<script>alert(1)</script> Oslo & Lima"
    page = printed(text, TEXTS[-1], "--format", "html", "--threshold", "0.000001")
    assert "<script" not in page and "http" not in page and page.startswith("<!doctype html>")
    paragraph = re.search('<p dir="auto">(.*?)</p>', page)[1]
    assert paragraph.count("<mark") == len(export.entities(text, threshold=0.0)) > 0
    shown = re.sub(r"<span> <b>\w+</b> [\d.]+</span>", "", paragraph)
    assert re.sub("<.*?>", "", shown) == "&lt;script&gt;alert(1)&lt;/script&gt; Oslo &amp; Lima"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "0.5"], "--threshold: is for entities; add --format entities"),
        (["--threshold", "2", "--format", "html"], "must be a number above 0 and at most 1"),
        (["--format", "jsonl", "--json"], "--format jsonl: not with --json"),
        (["--format", "xml"], "invalid choice"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, arguments, message):
    try:
        status = predict.main([str(folder), "Oslo", *arguments])
    except SystemExit as error:
        status = error.code
    said = capsys.readouterr()
    assert status == 2 and message in said.err and said.err.count("\n") == 1 and not said.out
