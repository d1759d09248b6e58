"""A second reading of sentences (`data.documents`): what it knows of a document, and what it may not know."""

import json
import random
from collections import defaultdict

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import trellis
from tests.pipelines.runs import check_segments, run
from trellis.components.errors import InputError
from trellis.components.models.second_reading import Fitter, Lattice, SecondReading
from trellis.components.readers import conll
from trellis.components.text.document_evidence import SMALLEST, document_evidence
from trellis.serve import predict
from trellis.serve.server.limits import Limits
from trellis.serve.server.requests import Signature, Spec

CLEAR = {"PER": "Mr {} slept .", "ORG": "shares of {} rose ."}
UNCLEAR = ("{} spoke today .", "yesterday came {} .")


def documents(count, seed):
    """Names that are people in one document and companies in another, which one sentence in three makes clear."""
    draw, written = random.Random(seed), []
    for number in range(count):
        sentences = []
        for name in draw.sample(["Alba", "Bora", "Cara", "Dora", "Elba"], 3):
            kind = draw.choice(["PER", "ORG"])
            sentences += [(text, name, kind) for text in (CLEAR[kind], *UNCLEAR)]
        draw.shuffle(sentences)
        written.append("-DOCSTART- O\n\n" if number else "")
        for text, name, kind in sentences:
            words = text.split(" ")
            written += [f"{name} B-{kind}\n" if word == "{}" else f"{word} O\n" for word in words]
            written.append("\n")
    return "".join(written)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents")
    for part, count, seed in (("train", 40, 1), ("dev", 16, 2), ("test", 16, 3)):
        (folder / f"{part}.conll").write_text(documents(count, seed))
    return folder


@pytest.fixture(scope="module")
def trained(data):
    """A finished run: its folder, metrics and export."""
    metrics = run(
        data / "run", "data=conll", f"data.path={data}", "data.documents=true", "model=bilstm_crf", "model.units=16",
        "model.words.dim=16", "model.bidirectional=false", "model.characters.kind=none", "trainer.epochs=25",
        "trainer.patience=25", "optimizer.learning_rate=0.02", "tracking=off", f"export.dir={data}/exports/it",
        "export.verify=true",
    )  # fmt: skip
    return data / "run", metrics, data / "exports" / "it" / "1"


def test_sentences_are_tagged_better_when_their_document_is_known(trained):
    folder, metrics, _ = trained
    assert metrics["test/sentence_f1"] < 0.8 and metrics["dev/sentence_f1"] < 0.8
    assert metrics["test/f1"] > 0.95 and metrics["dev/f1"] > 0.95
    assert 0 < metrics["test/loss"] < 0.5
    check_segments(folder, metrics)


def test_the_export_tags_documents_as_they_were_scored(trained, data, capsys, monkeypatch):
    folder, metrics, export = trained
    assert json.loads((export / "assets.extra" / "metadata.json").read_text())["metrics"] == pytest.approx(metrics)
    predicted = conll.read(folder / "reports" / "predictions.test.conll", 0, 2)
    of_documents = defaultdict(list)
    for sentence, tags in zip(conll.read(data / "test.conll", 0, 1), predicted, strict=True):
        of_documents[sentence.document].append((" ".join(sentence.tokens), list(tags.tags)))
    model = trellis.load(export)
    assert "tag_document" in model.methods
    texts = []
    for sentences in of_documents.values():
        tagged = model.tag_document([text for text, _ in sentences])
        assert [each.tags for each in tagged] == [tags for _, tags in sentences]
        texts += [*(text for text, _ in sentences), ""]
    assert predict.main([str(export), "--documents", "--json", *texts]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(texts)
    expected = [tags for sentences in of_documents.values() for tags in (*(tags for _, tags in sentences), [])]
    assert [line["tags"] for line in lines] == expected


def test_no_document_knows_another(trained):
    loaded = tf.saved_model.load(str(trained[2]))
    tag = loaded.signatures["document"]
    person, company = ["Mr Alba slept .", "Alba spoke today ."], ["Alba spoke today .", "shares of Alba rose ."]
    rows = [person, company, ["", "Alba spoke today ."], ["", ""]]
    together = {name: values.numpy() for name, values in tag(text=tf.constant(rows)).items()}
    assert together["tags"][:2, :, :].tolist() == [
        [[b"O", b"B-PER", b"O", b"O", b""], [b"B-PER", b"O", b"O", b"O", b""]],
        [[b"B-ORG", b"O", b"O", b"O", b""], [b"O", b"O", b"B-ORG", b"O", b"O"]],
    ]
    for index, row in enumerate(rows):
        alone = {name: values.numpy() for name, values in tag(text=tf.constant([row])).items()}
        for name, values in alone.items():
            width = values.shape[2]
            if values.dtype == object:
                assert together[name][index, :, :width].tolist() == values[0].tolist()
            else:
                np.testing.assert_allclose(together[name][index, :, :width], values[0], atol=1e-6)
            assert not together[name][index, :, width:].any()
    start, end = together["start"][1, 1], together["end"][1, 1]
    assert [company[1][a:b] for a, b in zip(start, end, strict=True)] == company[1].split(" ")


def test_without_documents_there_is_nothing_to_read_again(data, tmp_path, tagger, capsys):
    whole = tmp_path / "whole"
    whole.mkdir()
    for part in ("train", "dev", "test"):
        (whole / f"{part}.conll").write_text((data / f"{part}.conll").read_text().replace("-DOCSTART- O\n\n", ""))
    with pytest.raises(InputError, match=r"dev.conll: data.documents=true needs at least 2 documents in the dev part"):
        run(tmp_path / "run", "data=conll", f"data.path={whole}", "data.documents=true", "tracking=off")
    assert predict.main([str(tagger), "Mary flew.", "--documents"]) == 2
    assert "reads sentences alone; for documents, train with data.documents=true" in capsys.readouterr().err
    assert predict.main([str(tagger), "Mary flew.", "--documents", "--format", "html"]) == 2
    assert "--documents: not with --format html" in capsys.readouterr().err
    assert "tag_document" not in trellis.load(tagger).methods


def test_a_document_costs_all_of_its_sentences():
    limits = Limits.of(Signature({"text": Spec("string", (-1, -1))}, {"tags": Spec("string", (-1, -1, -1))}), {}, {})
    texts = np.array([[b"a b c", b"d", b""], [b"e", b"f", b"g"]], object)
    assert limits.cost({"text": texts}).cells == 2 * 3 * 3


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["a", "A", "ä", "Ä", "b", "a\tb", ""])), min_size=1, max_size=12
    )
)
def test_evidence_is_that_of_the_other_occurrences(tokens):
    posteriors = np.random.default_rng(len(tokens)).dirichlet([0.3] * 4, len(tokens)).astype(np.float32)
    posteriors[::3] = posteriors[0]  # ties
    found = document_evidence(
        tf.constant(posteriors), [word for _, word in tokens], [document for document, _ in tokens]
    )
    for index, (document, word) in enumerate(tokens):
        others = [
            posteriors[other]
            for other, (of, same) in enumerate(tokens)
            if other != index and of == document and same.lower() == word.lower()
        ]
        expected = np.zeros(9)
        if others:
            expected = [*np.log(np.mean(others, axis=0) / SMALLEST + 1), *np.max(others, axis=0), 1]
        np.testing.assert_allclose(found[index], expected, atol=2e-3)


def test_the_fit_is_the_optimum_of_a_convex_loss():
    random, tags, rows, time = np.random.default_rng(5), 3, 24, 6
    batches = []
    for _ in range(2):
        lattice = Lattice(
            tf.constant(random.normal(size=(rows, time, tags)), tf.float32),
            tf.constant(np.broadcast_to(random.normal(size=(tags, tags)), (rows, time - 1, tags, tags)), tf.float32),
            tf.constant(random.integers(1, time + 1, rows), tf.int32),
        )
        gold = random.integers(0, tags, (rows, time))
        evidence = random.normal(size=(rows, time, 2 * tags + 1)) + np.eye(2 * tags + 1)[gold]
        batches.append((lattice, tf.constant(evidence, tf.float32), tf.constant(gold, tf.int32)))

    def objective(second):
        nats = sum(tf.reduce_sum(second.lattice(first, evidence).losses(gold)) for first, evidence, gold in batches)
        squares = [
            tf.reduce_sum(tf.square(weight)) for weight in (second.scale - 1, second.evidence, second.transitions)
        ]
        return float(nats + np.dot([100.0, 1.0, 10.0], squares))

    fitted = Fitter(tags).fit(batches)
    least = objective(fitted)
    assert least < 0.8 * objective(SecondReading.unchanged(tags))
    for _ in range(20):
        moved = SecondReading(
            *(weight + 0.02 * random.normal(size=np.shape(weight)).astype(np.float32) for weight in fitted)
        )
        assert objective(moved) > least
