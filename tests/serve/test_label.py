"""The command `trellis label`."""

import json

import numpy as np
import pytest

import trellis
from trellis.components.annotation import formats
from trellis.label import main

TEXTS = [
    "Mary Smith flew from Oslo to Lima .",
    "It rains .",
    "",
    "It rains .",
    "The University of Riga hired Ann Lee .",
]


@pytest.fixture
def texts(write):
    return write("texts.jsonl", "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(TEXTS, 5)))


def test_texts_come_in_the_order_of_the_measure_with_what_the_model_finds(tagger, texts, tmp_path, capsys):
    export = trellis.load(tagger)
    readings = {text: [reading.probability for reading in export.n_best(text)] for text in TEXTS if text}
    lengths = {text: len(text.split()) for text in readings}
    expected = {
        "margin": {text: 1 - best[0] + best[1] for text, best in readings.items()},
        "confidence_per_token": {text: -np.log(best[0]) / lengths[text] for text, best in readings.items()},
    }
    for by, scores in expected.items():
        assert main(["suggest", str(tagger), str(texts), "--by", by]) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {record["text"]: record["score"] for record in found} == pytest.approx(scores, abs=1e-4)
        assert [record["score"] for record in found] == sorted((r["score"] for r in found), reverse=True)
        for record in found:
            entities = [[entity.start, entity.end, entity.type] for entity in export.entities(record["text"])]
            assert [[span["start"], span["end"], span["label"]] for span in record["ents"]] == entities
    out = tmp_path / "tasks.json"
    arguments = ["-o", str(out), "--to", "label_studio", "--count", "2", "--by", "entropy", "--diversity", "0.3"]
    assert main(["suggest", str(tagger), str(texts), *arguments]) == 0
    assert "tasks.json: 2 of 5 texts, highest entropy" in capsys.readouterr().out
    tasks = json.loads(out.read_text())
    assert [sorted(task) for task in tasks] == [["data", "id", "predictions"]] * 2
    assert {task["id"] for task in tasks} < {5, 6, 9}
    assert formats.read(out) == []  # predictions are no annotations
    # Tasks are texts, too.
    assert main(["suggest", str(tagger), str(out)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("suggest nowhere texts.jsonl", "nowhere: no such export"),
        ("suggest nowhere empty.txt", "empty.txt: no texts in this file"),
        ("suggest nowhere broken.jsonl", "broken.jsonl:1: the text is missing, expected a string"),
        ("suggest nowhere texts.jsonl --diversity 1", "--diversity: '1' must be a number of at least 0 and below 1"),
        ("suggest nowhere texts.jsonl --by chance", "--by: invalid choice: 'chance'"),
        ("suggest run texts.jsonl", "run: the export of this run is not in exports/x; name an export"),
    ],
)
def test_a_mistake_is_one_line(texts, write, monkeypatch, capsys, arguments, message):
    write("empty.txt", " \n\n")
    write("broken.jsonl", '{"x": 1}')
    write("run/metrics.json", "{}")
    write("run/.hydra/config.yaml", "export: {dir: exports/x}")
    monkeypatch.chdir(texts.parent)
    try:
        status = main(arguments.split())
    except SystemExit as stopped:
        status = stopped.code
    said = capsys.readouterr()
    assert status == 2 and said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"trellis label suggest: error: {message}")


def test_a_misspelt_action_is_answered_with_the_nearest(capsys):
    assert main(["sugest", "x"]) == 2
    assert capsys.readouterr().err == "trellis label: error: sugest: no such action; did you mean suggest?\n"
    assert main(["--help"]) == 0
    assert "trellis label forecast data=" in capsys.readouterr().out
