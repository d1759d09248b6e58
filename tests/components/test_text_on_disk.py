"""Texts on disk are those in memory: the same vocabulary, the same ids, the same batches."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

from trellis.components.errors import InputError
from trellis.components.readers import mapped_array, running_text, token_files
from trellis.components.readers.sources import find
from trellis.components.readers.token_files import Reading, open_token_files
from trellis.components.text.batching import Buckets, training_batches
from trellis.components.text.stream import Lines, Segments, vocabulary
from trellis.components.text.text_part import TextInMemory, TextOnDisk, divide_on_disk

WORDS = Reading("words", True, "utf-8", "text")
FILES = {
    "a.txt": "the cat  sat\n\non the mat \nthe end\n",
    "b.txt": "\n \n",  # no token: no document
    "c.txt": "naïve cat\nthe <unk> 𝄞 sat" + " and on" * 20,
    "d.txt": "\n\nthe cat\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    # Small enough that every limit is reached.
    monkeypatch.setattr(token_files, "_BUFFER", 5)
    monkeypatch.setattr(mapped_array, "CHUNK", 7)
    monkeypatch.setattr(mapped_array, "_RELEASE_AFTER", 10)
    return tmp_path


def both(folder, reading):
    source = find("*.txt", folder)
    options = (reading.unit, reading.keep_blank, reading.encoding)
    return running_text.read(source, *options), open_token_files(source, reading, folder / "cache")


@pytest.mark.parametrize("unit", ["words", "characters"])
@pytest.mark.parametrize("keep_blank", [True, False])
def test_a_text_on_disk_is_the_text(folder, unit, keep_blank):
    documents, files = both(folder, Reading(unit, keep_blank, "utf-8", "text"))
    memory, disk = TextInMemory(documents), TextOnDisk(files)
    for streams in same(memory, disk, unit):
        same_batches(*streams)
    for count in (1, 2, 100):
        assert list(disk.first_lines(count)) == list(memory.first_lines(count))
        assert disk.beginnings(count) == memory.beginnings(count)


@pytest.mark.parametrize(
    "shares", [{"train": 0.6, "dev": 0.2, "test": 0.2}, {"train": 0.97, "dev": 0.03}, {"train": 0.5, "dev": 0.5}]
)
@pytest.mark.parametrize("longest", [5, 1000])
def test_it_is_divided_where_the_text_is(folder, monkeypatch, shares, longest):
    monkeypatch.setattr(running_text, "LONG", longest)
    documents, files = both(folder, WORDS)
    memory, disk = running_text.divide(documents, shares, "it"), divide_on_disk(files, shares, "it")
    assert list(memory) == list(disk)
    for part in memory:
        same(TextInMemory(memory[part]), disk[part], "words")
    with pytest.raises(InputError, match=r"it: \d+ tokens cannot be divided into 0, 1,"):
        divide_on_disk(files, {str(n): 0.01 for n in range(100)}, "it")


def same(memory, disk, unit):
    assert list(disk) == list(memory)
    assert (len(disk), disk.lines, disk.tokens) == (len(memory), memory.lines, memory.tokens)
    assert disk.counts() == memory.counts()
    if disk.begin == 0:
        assert list(disk.counts().items()) == list(memory.counts().items())
    vectorizer = vocabulary(memory.counts(), unit, min_count=2)
    streams = [[text.stream(vectorizer, unit, backwards) for text in (memory, disk)] for backwards in (False, True)]
    for expected, found in streams:
        for name in ("ids", "lines", "documents", "characters"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
        np.testing.assert_array_equal(found.counts(99), expected.counts(99))
    return streams


def same_batches(expected, found):
    for rows, length in ((1, 3), (3, 50)):
        segments = [Segments(stream, rows, length).dataset() for stream in (expected, found)]
        for one, other in zip(*segments, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, one, other)
    lines = [Lines(stream) for stream in (expected, found)]
    np.testing.assert_array_equal(lines[0].lengths, lines[1].lengths)
    batches = [training_batches(each, Buckets(each.lengths, tokens=30), 1, lambda: 0) for each in lines]
    for one, other in zip(*batches, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)
    rows, time = tf.constant([len(lines[0].lengths) - 1, 0, -1]), int(lines[0].lengths.max())
    tf.nest.map_structure(np.testing.assert_array_equal, *(each.batch(rows, time) for each in lines))


def test_many_kinds_of_tokens_take_larger_numbers(tmp_path):
    words = [f"w{number}" for number in range(70_000)]
    (tmp_path / "a.txt").write_text("\n".join(words))
    (tmp_path / "b.txt").write_text("w0 w69999\n")
    files = open_token_files(find("*.txt", tmp_path), WORDS, tmp_path / "cache")
    assert TextOnDisk(files)[0] == [[word] for word in words]
    assert TextOnDisk(files)[1] == [["w0", "w69999"]]
    assert json.loads(next(tmp_path.glob("cache/*/meta.json")).read_text())["dtype"] == "int32"


def test_a_text_is_written_once(folder, monkeypatch, caplog):
    expected = list(TextOnDisk(both(folder, WORDS)[1]))
    (entry,) = (folder / "cache").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(token_files, "_write", None)
        assert list(TextOnDisk(both(folder, WORDS)[1])) == expected
    both(folder, Reading("characters", True, "utf-8", "text"))
    (folder / "a.txt").write_text("changed")
    both(folder, WORDS)
    assert len(list((folder / "cache").iterdir())) == 3
    (folder / "a.txt").write_text(FILES["a.txt"])
    for damage in (b"", (entry / "tokens.bin").read_bytes()[:-2]):
        (entry / "tokens.bin").write_bytes(damage)
        assert list(TextOnDisk(both(folder, WORDS)[1])) == expected
        assert "damaged, or written by something else (tokens.bin has" in warnings(caplog)[0]
        caplog.clear()
    for foreign in ("{", "[]", '{"format": "x", "version": 1}'):
        (entry / "meta.json").write_text(foreign)
        assert list(TextOnDisk(both(folder, WORDS)[1])) == expected
        assert len(warnings(caplog)) == 1
        caplog.clear()


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_two_runs_may_write_at_once_and_killed_ones_leave_nothing(folder, monkeypatch):
    cache, write = folder / "cache", token_files._write

    def slower(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(token_files, "_write", write)
            both(folder, WORDS)  # another process, which is done first
        write(*arguments)

    (cache / f".part-{os.uname().nodename}-999999999-x" / "new").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(token_files, "_write", slower)
        assert list(TextOnDisk(both(folder, WORDS)[1])) == both(folder, WORDS)[0]
    assert len(list(cache.iterdir())) == 1


def test_what_cannot_be_written_or_kept(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"text.cache=.*file: cannot be written to"):
        open_token_files(find("a.txt", folder), WORDS, tmp_path / "file")
    with pytest.raises(InputError, match=r"b.txt: no text in it"):
        open_token_files(find("b.txt", folder), WORDS, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"text.storage=disk: .*pipe is not a file"):
        open_token_files(tmp_path / "pipe", WORDS, tmp_path / "cache")
