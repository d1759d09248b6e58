"""The command `trellis convert`."""

import json

import pytest

from trellis.components.readers import conll
from trellis.serve.convert import main

PAIR = ["Mary’s in Lima", {"entities": [[0, 4, "PER"], [10, 14, "LOC"]]}]


def test_texts_are_converted_and_counted(tmp_path, write, capsys):
    source = write("a.jsonl", json.dumps(PAIR) + "\n" + json.dumps(PAIR))
    assert main([str(source), str(tmp_path / "b.conll")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/b.conll: 2 sentences (spacy to conll)\n"
    assert conll.read(tmp_path / "b.conll")[1].tokens == ("Mary", "'s", "in", "Lima")
    assert main([str(source), str(tmp_path / "c/")]) == 2  # neither a folder nor a name with a suffix
    assert main([str(source), f"{tmp_path}/c/"]) == 0
    assert sorted(file.name for file in (tmp_path / "c").iterdir())[:2] == ["000001.ann", "000001.txt"]
    assert main([f"{tmp_path}/c", f"{tmp_path}/d.json", "--to", "doccano"]) == 0
    assert json.loads((tmp_path / "d.json").read_text())[0] == {
        "id": "000001",
        "text": PAIR[0],
        "label": PAIR[1]["entities"],
    }
    assert main([f"{tmp_path}/b.conll", f"{tmp_path}/e.ann"]) == 0
    assert (tmp_path / "e.txt").read_text() == "Mary 's in Lima\n" * 2
    assert (tmp_path / "e.ann").read_text().splitlines()[3] == "T4\tLOC 27 31\tLima"


def test_misaligned_spans_are_an_error_unless_something_else_is_asked_for(tmp_path, write, capsys):
    source = write("a.jsonl", json.dumps([PAIR[0], {"entities": [[0, 3, "PER"]]}]))
    assert main([str(source), str(tmp_path / "b.conll")]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert "a.jsonl:1: span 0-3 PER 'Mar' ends inside of the token 'Mary'" in said.err
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]
    assert main([str(source), str(tmp_path / "b.conll"), "--spans", "snap"]) == 0
    assert conll.read(tmp_path / "b.conll")[0].tags[0] == "B-PER"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("a.jsonl b.jsonl", "b.jsonl: which format? --to spacy, prodigy, doccano, label_studio or huggingface"),
        ("a.jsonl a.jsonl --to doccano", "a.jsonl: is the input; choose another output"),
        ("a.jsonl b.conllu", "b.conllu: CoNLL-U is read, not written; use conll"),
        ("a.jsonl b.conll --to-offsets utf16", "--to-offsets: has no effect from spacy to conll"),
        ("a.jsonl b.jsonl --to doccano --tokenizer spaces", "--tokenizer: has no effect from spacy to doccano"),
        ("a.jsonl b.conll --tag ner", "a.jsonl: tag has no effect on the format spacy; it is for conllu, csv, hugging"),
        ("a.jsonl b.conll --spans cut", "--spans: invalid choice: 'cut' (choose from"),
        ("nowhere.jsonl b.conll", "nowhere.jsonl: no such file"),
        ("pos.conll b.jsonl --to spacy", "pos.conll:1: tag 'NN' is in no scheme of entities"),
        ("a.jsonl nowhere/b.conll", "nowhere/b.conll: cannot be written (No such file or directory)"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(tmp_path, write, monkeypatch, capsys, arguments, message):
    write("a.jsonl", json.dumps(PAIR))
    write("pos.conll", "dog NN\nruns VBZ\n")
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments.split())
    except SystemExit as stopped:
        status = stopped.code
    said = capsys.readouterr()
    assert status == 2 and said.out == ""
    assert said.err.startswith(f"trellis convert: error: {message}") and said.err.count("\n") == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.jsonl", "pos.conll"]
