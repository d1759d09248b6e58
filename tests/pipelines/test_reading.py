"""Errors in the user's own files are reported before TensorFlow starts."""

import bz2
import gzip
import json
import lzma
import os
import sys

import pytest

import trellis
from tests.pipelines.runs import configured, python
from trellis.components.errors import InputError
from trellis.components.readers import dataset, running_text, tagged
from trellis.pipelines import reading
from trellis.pipelines.command_line import checked
from trellis.pipelines.configuration import plain
from trellis.pipelines.reading import FIRST, SETTLED, check_first_lines
from trellis.pipelines.tagged_files import tagged_sentences

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
        (["model=lstm_lm", "data=text", "data.path={}/*.text"], r"\*.text: no file matches; the folder has folder/, t"),
        (["model=lstm_lm", "data=text", "data.path={}/no/*"], r"no/\*: no file matches; there is no folder .*/no"),
        (["data=conll", "data.path=[a.conll,b.conll]"], r"names files, but not of which part; data.path={train: …"),
        (["data=conll", "data.path={}/folder", "data.files.dev=*.con"], r"train.conll: no such file"),
        (["data=conll", "data.path={{train: [{0}/train.txt, {0}/no.conll]}}"], r"no.conll: no such file"),
        (
            [
                "model=ibm1",
                "data=bitext",
                "data.path={{train.source: {0}/train.txt, train.target: [{0}/*.txt, {0}/*.txt]}}",
            ],
            r"data.path: line-parallel files must be as many on each side; there are train.source 1, train.target 2",
        ),
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


def compressed(folder, **files):
    for name, text in files.items():
        name, _, suffix = name.replace("_", ".").rpartition(".")
        compress = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}.get(suffix)
        content = text.encode()
        (folder / f"{name}.{suffix}").write_bytes(compress(content) if compress else content)


def test_a_part_may_be_several_files_compressed_or_not(tmp_path):
    compressed(tmp_path, a_conll_gz="a B-PER\n", b_conll_bz2="b O\n", c_conll_xz="c I-PER\n", dev_conll="d O\n")
    parts = f"data.path={{train: '{tmp_path}/[abc].conll*', dev: [{tmp_path}/dev.conll, {tmp_path}/a.conll]}}"
    config = configured("data=conll", parts)
    files, read = tagged_sentences(plain(config.data), "whitespace")
    assert [sentence.tokens for sentence in read["train"]] == [("a",), ("b",), ("c",)]
    assert [sentence.tokens for sentence in read["dev"]] == [("d",), ("a",)]
    assert str(files["train"]) == f"{tmp_path}/a.conll.gz and 2 more"
    assert dataset.digest(files) != dataset.digest({**files, "train": files["dev"]})
    compressed(tmp_path, c_conll_xz="c O\n\nd X-PER\n")
    with pytest.raises(InputError, match=r"c.conll.xz:3: tag 'X-PER' is neither"):
        tagged.in_bio2(*tagged_sentences(plain(config.data), "whitespace"))
    compressed(tmp_path, b_conll_bz2="b O\nb\n")
    with pytest.raises(InputError, match=r"b.conll.bz2:2: 1 columns, expected 2"):
        check_first_lines(config)
    (tmp_path / "b.conll.bz2").write_bytes((tmp_path / "c.conll.xz").read_bytes()[:40])
    with pytest.raises(InputError, match=r"b.conll.bz2: cannot be read \(Compressed file ended"):
        check_first_lines(config)


def test_the_files_of_bitexts_texts_and_tables_go_together_in_order(tmp_path):
    compressed(tmp_path, a_en="a\nb\n", b_en_gz="c\n", a_cs="A\nB\n", b_cs="C\n", a_csv="label,text\nx,one\n")
    path = f"data.path={{train.source: '{tmp_path}/*.en*', train.target: [{tmp_path}/a.cs, {tmp_path}/b.cs]}}"
    _, pairs = reading.sentence_pairs(plain(configured("model=ibm1", "data=bitext", path).data))
    assert [(*pair.source, *pair.target) for pair in pairs["train"]] == [("a", "A"), ("b", "B"), ("c", "C")]
    (tmp_path / "a.cs").write_text("A\n")
    with pytest.raises(InputError, match=r"a.en has 2 lines, .*a.cs has 1"):
        list(reading.sentence_pairs(plain(configured("model=ibm1", "data=bitext", path).data))[1]["train"])

    _, text = reading.texts({**plain(configured("model=lstm_lm", "data=text", f"data.path={tmp_path}/?.en*").data),
                             "split": {"train": 0.5, "dev": 0.5}})  # fmt: skip
    assert text == {"train": [[["a"], ["b"]]], "dev": [[["c"]]]}

    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    features = {"info": {"features": {"label": {"names": ["x", "y"], "_type": "ClassLabel"}}}}
    table = pyarrow.table({"text": ["two", "three\nlines\n"], "label": [1, 0]})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "b.parquet")
    data = plain(
        configured("model=bow", "data=labelled", f"data.path={{train: [{tmp_path}/a.csv, {tmp_path}/b.parquet]}}").data
    )
    _, examples = reading.labelled_texts({**data, "split": None})
    assert examples["train"] == [("one", "x"), ("two", "y"), ("three\nlines", "x")]
    assert running_text.read(tmp_path / "b.parquet") == [[["two"], ["three"], ["lines"]]]
    with pytest.raises(InputError, match=r"b.parquet: no column 'body'; it has text, label \(data.column"):
        running_text.read(tmp_path / "b.parquet", column="body")


def test_urls_are_read_where_fsspec_is_installed(tmp_path, monkeypatch):
    config = configured("model=lstm_lm", "data=text", "data.path=memory://corpus/*.txt")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fsspec", None)
        with pytest.raises(InputError, match=r"fsspec is not installed; pip install 'trellis-sequence\[remote\]'"):
            check_first_lines(config)
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/corpus/a.txt", gzip.compress(b"a b\nc d\n"))
    memory.pipe("/corpus/b.txt", b"e f\ng \xff\n")
    with pytest.raises(InputError, match=r"memory:///corpus/b.txt:2: not UTF-8"):
        check_first_lines(config)
    memory.pipe("/corpus/b.txt", b"e f\n")
    files, parts = reading.texts({**plain(config.data), "split": {"train": 0.5, "dev": 0.5}})
    assert parts == {"train": [[["a", "b"], ["c", "d"]]], "dev": [[["e", "f"]]]}
    assert len(dataset.digest(files)) == 64
    with pytest.raises(InputError, match=r"memory://nowhere/a.txt: no such file"):
        check_first_lines(configured("model=lstm_lm", "data=text", "data.path=memory://nowhere/a.txt"))
    with pytest.raises(InputError, match=r"s3://bucket/a.txt: .*s3fs"):
        check_first_lines(configured("model=lstm_lm", "data=text", "data.path=s3://bucket/a.txt"))


PAIR = '["Mary sleeps in Lima.", {"entities": [[0, 4, "PER"], [15, 19, "LOC"]]}]\n'
WORDS = ("Mary", "sleeps", "in", "Lima", ".")


def read_annotated(*overrides):
    config = configured("data=annotated", *overrides)
    check_first_lines(config)
    return tagged_sentences(plain(config.data), config.text.tokenizer)


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
