"""The command `trellis label errors`, folds that are left out, and labels that are missing."""

import itertools
import json

import keras
import numpy as np
import pytest
from scipy.special import logsumexp

from tests.pipelines.runs import ROOT, configured, run
from trellis.components.errors import InputError
from trellis.components.layers.sequence_head import scoring_of
from trellis.components.readers import tagged
from trellis.components.readers.sentence import Sentence
from trellis.components.text.tag_schemes import Scheme, entities
from trellis.label import main
from trellis.pipelines import label_errors
from trellis.pipelines.left_out import Fold
from trellis.pipelines.tagging import Tagging

TINY = ("model.units=4", "model.words.dim=4", "model.characters.kind=none", "text.min_count=1", "trainer.epochs=1",
        "tracking=off", "export=off")  # fmt: skip
TEXT = [
    "Mary B-PER\nSmith I-PER\nsang O\n",
    "to O\nLima B-LOC\n. O\n",
    "Oslo B-LOC\nsleeps O\n",
    "Mary B-PER\nsang O\n",
]


def spans(*found):
    return [dict(zip(("type", "start", "end", "probability"), span, strict=True)) for span in found]


def sentence(tokens, probabilities, predicted_probabilities, gold, predicted):
    tokens = tokens.split()
    return {
        "places": [f"train.conll:{line}" for line in range(7, 7 + len(tokens))], "tokens": tokens,
        "tags": ["O"] * len(tokens), "predicted_tags": ["O"] * len(tokens),
        "probabilities": probabilities, "predicted_probabilities": predicted_probabilities,
        "gold": spans(*gold), "predicted": spans(*predicted),
    }  # fmt: skip


LEFT_OUT = [
    sentence("John Smith met <Mary> .", [0.02, 0.3, 0.9, 0.1, 1.0], [0.93, 0.95, 0.9, 0.85, 1.0],
             [("PER", 1, 2, 0.05)], [("PER", 0, 2, 0.9), ("PER", 3, 4, 0.8)]),
    sentence("Oslo is quiet", [0.4, 1.0, 1.0], [0.4, 1.0, 1.0], [("LOC", 0, 1, 0.4)], [("LOC", 0, 1, 0.4)]),
    sentence("Mills fell", [0.001, 1.0], [0.97, 1.0], [("PER", 0, 1, 0.001)], []),
]  # fmt: skip


@pytest.fixture
def trained(monkeypatch):
    """Runs that leave out sentences with known posteriors, and what each was asked for."""
    asked = []

    def train(common, own, folder):
        asked.append(([*common.overrides, *own], folder.name))
        fold = [LEFT_OUT[:2], LEFT_OUT[2:]][len(asked) - 1]
        (folder / "reports").mkdir(parents=True)
        (folder / "reports" / "left_out.jsonl").write_text("".join(json.dumps(each) + "\n" for each in fold))
        return {"left_out/f1": 0.5}

    monkeypatch.setattr(label_errors, "train", train)
    return asked


def test_the_most_suspicious_labels_come_first(trained, tmp_path, capsys):
    assert main(["errors", "model=gru_crf", "data=sample_ner", "--folds", "2", "--folder", str(tmp_path)]) == 0
    assert trained[1] == (
        ["model=gru_crf", "data=sample_ner", "limit.leave_out=2/2", "tracking=off", "export=off"], "leave_out=2of2",
    )  # fmt: skip
    records = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    found = [tuple(each[key] for key in ("text", "probability", "predicted_probability", "place")) for each in records]
    assert found == [
        ("Mills", 0.001, 0.97, "train.conll:7"), ("John Smith", 0.02, 0.9, "train.conll:7"),
        ("<Mary>", 0.1, 0.8, "train.conll:10"),
    ]  # fmt: skip
    assert records[1]["gold"] == spans(("PER", 1, 2, 0.05)) and records[1]["predicted"] == spans(("PER", 0, 2, 0.9))
    assert records[1]["tokens"][2] == "met" and records[1]["probabilities"] == [0.02, 0.3]
    output = capsys.readouterr().out
    assert "fold 2 of 2        1 sentences  f1 0.5000" in output
    assert "John [Smith PER]" in output and "[John Smith PER]" in output and "[Oslo" not in output
    assert "3 improbable labels in 2 of 3 sentences" in output
    page = (tmp_path / "errors.html").read_text()
    assert (
        page.index("[Mills PER]") < page.index("<mark>John Smith</mark> met") < page.index("<mark>&lt;Mary&gt;</mark>")
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("data=sample_ner --folds 1", "--folds 1: at least two are needed"),
        ("data=sample_ner limit.leave_out=1/5", "limit.leave_out: not here; --folds says how many folds"),
        (f"data=conll data.path={ROOT}/samples/ner data.unlabelled=?", "data.unlabelled: not here; every token needs"),
        ("model=ibm1", "model=ibm1: is no tagger; a search for label errors is for taggers"),
        ("data=sample_ner limit.leave_out=x", "limit.leave_out=x: must be a fold, such as 2/5, or null"),
    ],
)
def test_a_mistake_is_one_line(trained, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["errors", *arguments.split()]) == 2
    said = capsys.readouterr()
    assert not trained and said.out == "" and said.err.count("\n") == 1 and message in said.err
    assert list(tmp_path.iterdir()) == []


def test_each_sentence_is_in_one_fold_and_documents_and_copies_are_not_divided():
    sentences = [Sentence((f"w{index % 37}", "x"), ("O", "O"), document=index // 3) for index in range(40)]
    rows = [Fold(number, 3).rows(sentences, seed=1) for number in (1, 2, 3)]
    assert sorted(itertools.chain(*rows)) == list(range(40))
    for number, own in enumerate(rows, start=1):
        rest = Fold(number, 3).without(sentences, own)
        for attribute in ("document", "tokens"):
            seen = {getattr(each, attribute) for each in rest}
            assert not seen & {getattr(sentences[row], attribute) for row in own}
    assert {len(own) for own in (Fold(number, 10).rows(sentences, 1) for number in range(1, 11))} == {4}
    with pytest.raises(InputError, match=r"limit.leave_out=6/5: no such fold"):
        Fold.parse("6/5")
    with pytest.raises(InputError, match=r"limit.leave_out=1/5: 1 sentences of training are too few"):
        Fold(1, 5).without(sentences[:1], [0])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for part, repeated in (("train", 4), ("dev", 1), ("test", 1)):
        lines = [text.replace("sang", f"sang{copy}") for copy in range(repeated) for text in TEXT]
        (folder / f"{part}.conll").write_text("\n".join(lines))
    return folder


def paths_of(model, features):
    """Every path of each sentence with its score; and the potentials' sizes."""
    scoring = scoring_of(model(features))
    unary, pairwise = (each.numpy() for each in scoring.head.lattice(scoring.emissions, scoring.lengths))
    for row, length in enumerate(scoring.lengths.numpy()):
        paths = np.array(list(itertools.product(range(unary.shape[2]), repeat=length)))
        scores = sum(unary[row, t, paths[:, t]] for t in range(length))
        yield paths, scores + sum(pairwise[row, t, paths[:, t], paths[:, t + 1]] for t in range(length - 1))


def test_what_is_left_out_has_the_posteriors_of_an_enumeration(corpus, tmp_path, monkeypatch):
    from trellis.pipelines import pipeline

    kept, original = [], pipeline.run
    monkeypatch.setattr(pipeline, "run", lambda *arguments: kept.append(original(*arguments)))
    overrides = (
        "model=rnn_crf",
        "data=conll",
        f"data.path={corpus}",
        "data.scheme=iobes",
        "limit.leave_out=2/3",
        *TINY,
    )
    metrics = run(tmp_path / "run", *overrides)
    assert "left_out/f1" in metrics
    task = Tagging(configured(*overrides))
    encoded = task.encode(task.read())
    sentences, names = encoded.data.left_out.sentences, encoded.data.output_tags
    records = [json.loads(line) for line in (tmp_path / "run/reports/left_out.jsonl").read_text().splitlines()]
    assert [tuple(record["tokens"]) for record in records] == [each.tokens for each in sentences]
    features, _ = encoded.held_out["left_out"].batch(np.arange(len(sentences), dtype=np.int32), 3)
    for record, (paths, scores) in zip(records, paths_of(kept[0].model, features), strict=True):
        weights = np.exp(scores - logsumexp(scores))
        tags = np.array(names, object)[paths]
        expected = [weights[tags[:, t] == tag].sum() for t, tag in enumerate(record["tags"])]
        assert record["probabilities"] == pytest.approx(expected, rel=2e-3)
        expected = [weights[tags[:, t] == tag].sum() for t, tag in enumerate(record["predicted_tags"])]
        assert record["predicted_probabilities"] == pytest.approx(expected, rel=2e-3)
        for name in ("gold", "predicted"):
            for span in record[name]:
                own = (span["type"], span["start"], span["end"])
                has = [own in entities(each, Scheme("BIO2")) for each in tags]
                assert span["probability"] == pytest.approx(weights[has].sum(), rel=2e-3)
        line = int(record["places"][0].rpartition(":")[2])
        assert record["places"][0] == f"{corpus}/train.conll:{line}"
        assert (corpus / "train.conll").read_text().splitlines()[line - 1].startswith(record["tokens"][0])


@pytest.mark.parametrize("head", ["crf", "softmax"])
def test_the_loss_of_missing_labels_sums_over_an_enumeration(corpus, tmp_path, head):
    text = (corpus / "train.conll").read_text().replace("Smith I-PER", "Smith ?").replace("Lima B-LOC", "Lima ?")
    (tmp_path / "train.conll").write_text(text)
    for part in ("dev", "test"):
        (tmp_path / f"{part}.conll").write_text((corpus / "dev.conll").read_text())
    config = configured("data=conll", f"data.path={tmp_path}", "data.unlabelled=?", "model=rnn_crf",
                        f"model.head={head}", *TINY)  # fmt: skip
    keras.utils.set_random_seed(1)
    task = Tagging(config)
    data = task.read()
    assert data.tags == ["B-LOC", "B-PER", "O"] and "; 8 of the training part without a label" in data.description
    encoded = task.encode(data)
    batches = task.batch(encoded)
    model = task.build(encoded, batches)
    features, gold = encoded.train.batch(np.array([0, 1, 2, 3, -1], np.int32), 3)
    losses = []
    for sentence, (paths, scores) in zip(data.parts["train"][:4], paths_of(model, features), strict=False):
        known = [(t, data.tags.index(tag)) for t, tag in enumerate(sentence.tags) if tag]
        allowed = np.all([paths[:, t] == tag for t, tag in known], axis=0)
        losses.append(logsumexp(scores) - logsumexp(scores[allowed]))
    loss = task.loss(encoded, batches).of_batch(gold, model(features))
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-4)


def test_missing_labels_do_not_change_what_is_known_of_entities():
    sentences = [Sentence(("a", "b", "c", "d"), ("?", "I-PER", "O", "I-LOC")), Sentence(("a", "b"), ("B-PER", "O"))]
    files, parts = {"train": "t", "dev": "d"}, {"train": sentences, "dev": sentences[1:]}
    hidden = tagged.unlabelled(files, parts, "?")
    known, scheme = tagged.in_bio2(files, hidden)
    assert scheme == Scheme("BIO2") and known["train"][0].tags == ("", "I-PER", "O", "I-LOC")
    assert tagged.possible(files, known)["train"][0].tags == ("", "I-PER", "O", "B-LOC")
    with pytest.raises(
        InputError, match=r"^d: sentence 1, token 1: the tag is data.unlabelled=B-PER; dev and test need"
    ):
        tagged.unlabelled(files, parts, "B-PER")
    with pytest.raises(InputError, match=r"^t: no token has the tag data.unlabelled=_"):
        tagged.unlabelled(files, parts, "_")
    iobes = {"train": [Sentence(("a", "b", "c"), ("S-PER", "?", "E-PER"))]}
    with pytest.raises(InputError, match=r"^t: tags are written in IOBES; data.unlabelled needs BIO2"):
        tagged.in_bio2(files, tagged.unlabelled(files, iobes, "?"))
