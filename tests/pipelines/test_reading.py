"""Errors in the user's own files are reported before TensorFlow starts."""

import os
import sys

import pytest

import trellis
from tests.pipelines.runs import configured, python
from trellis.components.errors import InputError
from trellis.pipelines import reading
from trellis.pipelines.command_line import checked
from trellis.pipelines.configuration import plain
from trellis.pipelines.reading import FIRST, SETTLED, check_first_lines

SENTENCES = "Mary B-PER\nsleeps O\n\n"


def conll(folder, **parts):
    for part, text in ({"train": SENTENCES * 3, "dev": SENTENCES, "test": SENTENCES} | parts).items():
        (folder / f"{part}.conll").write_text(text)
    return [f"data.path={folder}", "data=conll"]


def test_files_that_can_be_read_pass(tmp_path):
    check_first_lines(configured(*conll(tmp_path)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=conll", "data.path={}/nowhere"], r"data.path: .*/nowhere is not a folder"),
        (["data=conll", "data.path={}/train.txt"], r"data.path: .*train.txt is a file; give its folder, .*"),
        (["data=conll", "data.path={}/folder"], r"train.conll: no such file; the folder has corpus.jsonl"),
        (["data=conllu", "data.path={}/folder"], r"train.conllu: no such file; the folder has corpus.jsonl"),
        (["model=bow", "data=labelled", "data.path={}/folder"], r"folder: neither train, dev and test files nor"),
        (["model=bow", "data=labelled", "data.path={}/nowhere"], r"nowhere: no such file or folder"),
        (["model=ibm1", "data=bitext", "data.path={}/folder"], r"train.source: no such file; the folder has"),
        (["model=lstm_lm", "data=text", "data.path={}/nowhere"], r"nowhere: no such file or folder"),
        (["model=lstm_lm", "data=text", "data.path={}/train.txt"], r"train.txt: 1 tokens cannot be divided"),
    ],
)
def test_what_the_file_system_says_is_said_first(tmp_path, overrides, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "corpus.jsonl").write_text("{}")
    (tmp_path / "train.txt").write_text("x")
    with pytest.raises(InputError, match=message):
        checked([each.format(tmp_path) for each in overrides])


def test_a_broken_line_is_found_in_a_long_file(tmp_path):
    lines = (SENTENCES * FIRST).splitlines(keepends=True)
    lines[SETTLED - 11] = "Mary x B-PER\n"
    with pytest.raises(InputError, match=rf"dev.conll:{SETTLED - 10}: 3 columns, expected 2"):
        check_first_lines(configured(*conll(tmp_path, dev="".join(lines))))


def test_what_depends_on_later_lines_is_left_to_the_run(tmp_path):
    """The first lines have one side more sentences than the other, and the rest makes up for it."""
    (tmp_path / "train.source").write_text("a b\n" * (FIRST + 5))
    (tmp_path / "train.target").write_text("a b\n" * (FIRST - 5))
    check_first_lines(configured("model=ibm1", "data=bitext", f"data.path={tmp_path}"))
    (tmp_path / "train.source").write_text("a b\n" * 20)
    (tmp_path / "train.target").write_text("a b\n" * 10)
    with pytest.raises(InputError, match=r"train\.\w+"):
        check_first_lines(configured("model=ibm1", "data=bitext", f"data.path={tmp_path}"))


PAIR = '["Mary sleeps in Lima.", {"entities": [[0, 4, "PER"], [15, 19, "LOC"]]}]\n'
WORDS = ("Mary", "sleeps", "in", "Lima", ".")


def read_annotated(*overrides):
    config = configured("data=annotated", *overrides)
    check_first_lines(config)
    return reading.tagged_sentences(plain(config.data), config.text.tokenizer)


def test_annotated_texts_in_one_file_are_divided(tmp_path):
    (tmp_path / "all.jsonl").write_text(PAIR * 20)
    files, parts = read_annotated(f"data.path={tmp_path}/all.jsonl")
    assert {part: len(sentences) for part, sentences in parts.items()} == {"train": 16, "dev": 2, "test": 2}
    assert set(files.values()) == {tmp_path / "all.jsonl"}
    assert (parts["dev"][0].tokens, parts["dev"][0].tags) == (WORDS, ("B-PER", "O", "O", "B-LOC", "O"))
    lines = [sentence.lines[0] for sentences in parts.values() for sentence in sentences]
    assert sorted(lines) == list(range(1, 21)) != lines
    _, same = read_annotated(f"data.path={tmp_path}/all.jsonl")
    assert [sentence.lines[0] for sentences in same.values() for sentence in sentences] == lines
    _, whole = read_annotated(f"data.path={tmp_path}/all.jsonl", "text.tokenizer=whitespace", "data.spans=snap")
    assert whole["dev"][0].tokens == ("Mary", "sleeps", "in", "Lima.")


def test_each_part_of_annotated_data_may_have_another_format(tmp_path, caplog):
    (tmp_path / "train.jsonl").write_text(PAIR * 10)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "a.txt").write_text("Mary sleeps in\nLima.\nIt rains.")
    (tmp_path / "test" / "a.ann").write_text("T1\tPER 0 4\tMary\n")
    _, parts = read_annotated(f"data.path={tmp_path}", "data.lines=true")
    assert {part: len(sentences) for part, sentences in parts.items()} == {"train": 9, "dev": 1, "test": 3}
    assert "no dev part; a share of 0.11 of the train part" in caplog.text
    (tmp_path / "dev.conll").write_text(SENTENCES)
    assert len(read_annotated(f"data.path={tmp_path}")[1]["train"]) == 10


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.path={}/broken.jsonl"], r"broken.jsonl:2: offset 99 of a span is outside of the text"),
        (["data.path={}/one.jsonl"], r"one.jsonl: 1 texts are too few for train, dev, test"),
        (["data.path={}/one.jsonl", "data.split=null"], r"one.jsonl: one file for all parts; data.split="),
        (["data.path={}/nothing"], r"nothing: no train part in this folder; the folder has no files"),
        (["data.path={}/one.jsonl", "data.format=conll", "data.reader.offsets=utf16"], r"offsets has no effect on"),
        (["data.path={}/one.jsonl", "data.format=prodgy"], r"data.format=prodgy: must be conll, conllu, word_tag, csv"),
        (["data.path={}", "data.spans=cut"], r"data.spans=cut: must be error, snap or drop"),
    ],
)
def test_mistakes_in_annotated_data_are_answered_first(tmp_path, overrides, message):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "one.jsonl").write_text(PAIR)
    (tmp_path / "broken.jsonl").write_text(PAIR + PAIR.replace("19", "99"))
    with pytest.raises(InputError, match=message):
        checked(["data=annotated", *(each.format(tmp_path) for each in overrides)])


def test_readers_of_the_users_own_are_not_run(tmp_path):
    check_first_lines(configured(*conll(tmp_path, dev="a b c\n"), "data.reader._target_=my.reader"))


def test_nothing_is_left_behind_and_tensorflow_is_not_imported(tmp_path):
    code = (
        "import sys; from trellis.pipelines import command_line\n"
        "try: command_line.main(['data=conll', 'data.path=nowhere'])\n"
        "except SystemExit as error: print(error.code, {'tensorflow', 'mlflow'} & set(sys.modules))"
    )
    done = python("-c", code, cwd=tmp_path, PYTHONPATH=os.pathsep.join(sys.path))
    assert done.stdout == "2 set()\n"
    assert done.stderr == "trellis train: error: data.path: nowhere is not a folder\n"
    assert list(tmp_path.iterdir()) == []


def test_training_from_python_leaves_nothing_behind_either(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a folder"):
        trellis.train("data=conll", f"data.path={tmp_path}/nowhere", folder=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
