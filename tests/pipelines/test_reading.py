"""Errors in the user's own files are reported before TensorFlow starts."""

import os
import sys

import pytest

import trellis
from tests.pipelines.runs import configured, python
from trellis.components.errors import InputError
from trellis.pipelines.command_line import checked
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
