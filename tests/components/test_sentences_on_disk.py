"""Sentences on disk are those in memory: the same tokens, the same counts, the same batches, the same numbers."""

import os
from collections import Counter
from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from tests.pipelines.runs import configured, run
from trellis.components.errors import InputError
from trellis.components.readers import conll, conllu, index_files, mapped_array, sentence_files, tagged
from trellis.components.readers.sentence import UNLABELLED
from trellis.components.readers.sentence_files import changed, open_sentences, selected, word_counts, word_total
from trellis.components.readers.sources import find
from trellis.components.text.batching import Buckets, EncodedCorpus, StoredCorpus, encoded_sentences, training_batches
from trellis.components.text.tag_schemes import Scheme
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.pipelines import tagged_data
from trellis.pipelines.tagging import Tagging

# IOB1, a document mark, a comment, tokens with a space of another kind and beyond the BMP, no last newline.
FILES = {
    "a.conll": "-DOCSTART- O\n\nEU I-ORG\nrejects O\nthe O\ncall O\n\n# Comment\nPeter I-PER\nMeyer I-PER\nsings O\n",
    "b.conll": "Oslo I-LOC\nLima B-LOC\n\n-DOCSTART- O\n\nthe O\nn\u00a0a O\n𝄞 O\n\nthe O\n\nEU I-ORG\nsings O",
}
UNIVERSAL = """# newdoc id = one
1\tthe\tthe\tDET\tDT\t_\t2\tdet\t_\t_
2-3\tcats'\t_\t_\t_\t_\t_\t_\t_\t_
2\tcats\tcat\tNOUN\tNNS\t_\t0\troot\t_\t_

# newdoc id = two
1\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
1\tcats\tcat\tNOUN\tNNS\t_\t0\troot\t_\t_
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "u.conllu").write_text(UNIVERSAL, encoding="utf-8")
    # Small enough that every limit is reached.
    monkeypatch.setattr(sentence_files, "_AT_A_TIME", 2)
    monkeypatch.setattr(mapped_array, "_RELEASE_AFTER", 10)
    monkeypatch.setattr(index_files, "SMALL", np.dtype("<u2"))
    return tmp_path


def on_disk(folder, names, stream=conll.stream):
    return open_sentences(find(names, folder), stream, {}, folder / "cache")


def everything(sentences):
    return [(each.tokens, each.tags, tuple(each.lines), each.document) for each in sentences]


@pytest.mark.parametrize(("reader", "file"), [(conll, "a.conll"), (conll, "b.conll"), (conllu, "u.conllu")])
def test_sentences_on_disk_are_the_sentences(folder, reader, file):
    memory, disk = reader.read(folder / file), on_disk(folder, file, reader.stream)
    assert everything(disk) == everything(memory) == everything(disk[row] for row in range(len(disk)))
    assert disk.lengths.tolist() == [len(each.tokens) for each in memory]
    assert all(each.file is None for each in disk)
    assert all(len(each.lines) == len(each.tokens) for each in disk)
    for rows in (slice(1, None), slice(0, 1), slice(None, None, 2), slice(5, 2)):
        assert list(disk[rows]) == memory[rows] and len(disk[rows]) == len(memory[rows])
        assert list(word_counts(disk[rows]).items()) == list(word_counts(memory[rows]).items())
    assert word_total(disk) == word_total(memory) == sum(word_counts(disk).values())


def test_several_files_are_one_part(folder):
    disk = on_disk(folder, ["a.conll", "b.conll"])
    memory = [each for name in FILES for each in conll.read(folder / name)]
    assert everything(disk) == everything(memory)
    assert [each.file.name for each in disk] == ["a.conll"] * 2 + ["b.conll"] * 4
    rows = [0, 2, 3, 5]
    chosen = selected(disk, rows)
    assert list(chosen) == selected(memory, rows) and list(chosen[1:3]) == [memory[2], memory[3]]
    assert list(word_counts(chosen).items()) == list(word_counts([memory[row] for row in rows]).items())


def test_changes_are_made_when_a_sentence_is_read(folder):
    disk, memory = on_disk(folder, "b.conll"), conll.read(folder / "b.conll")
    files = {"train": folder / "b.conll"}
    (of_disk, scheme), (of_memory, _) = (tagged.in_bio2(files, {"train": each}) for each in (disk, memory))
    assert scheme == Scheme("IOB1") and list(of_disk["train"]) == list(of_memory["train"]) != list(disk)
    again = changed(of_disk["train"][1:], partial(tagged._converted, scheme=Scheme("BIO2")))
    assert list(again) == list(of_memory["train"][1:]) and again[0] == of_memory["train"][1]


def test_many_distinct_words_need_wider_indices(folder):
    words = [f"w{number}" for number in range(70_000)]
    sentences = [words[start : start + 100] for start in range(0, len(words), 100)]
    (folder / "many.conll").write_text("\n".join("".join(f"{word} O\n" for word in each) for each in sentences))
    assert [list(each.tokens) for each in on_disk(folder, "many.conll")] == sentences


@pytest.mark.parametrize("hidden", [False, True])
def test_batches_are_those_of_a_corpus_in_memory(folder, hidden):
    disk = on_disk(folder, ["a.conll", "b.conll"])
    if hidden:
        disk = changed(disk, lambda each: type(each)(each.tokens, (UNLABELLED, *each.tags[1:])))
    memory = list(disk)
    vectorizer = TokenVectorizer.adapt(word_counts(disk))
    assert vectorizer.words == TokenVectorizer.adapt(token for each in memory for token in each.tokens).words
    tags = ["B-LOC", "I-LOC", "I-ORG", "I-PER", "O"]
    corpora = [encoded_sentences(each, vectorizer, tags, partial=hidden) for each in (memory, disk)]
    assert list(map(type, corpora)) == [EncodedCorpus, StoredCorpus]
    batches = []
    for corpus in corpora:
        buckets = Buckets(corpus.lengths, sentences=4, max_shapes=1)
        batches.append(list(training_batches(corpus, buckets, seed=1, epoch=lambda: 3)))
    assert len(batches[0]) == 2
    for expected, found in zip(*batches, strict=True):
        for one, other in zip(tf.nest.flatten(expected), tf.nest.flatten(found), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["model=bilstm_crf", "model.units=8", "model.words.dim=8", "data.scheme=iobes", "limit.train=0.5"],
        ["model=hmm", "data.path=ALL", "data=annotated"],
        ["model=hmm", "data.task=pos", "limit.sentences=50", "model.labelled=0.5"],
    ],
)
def test_training_gives_the_same_numbers(tmp_path, overrides):
    text = "".join(FILES.values()) + "\n\n"
    (tmp_path / "all.conll").write_text(text * 12, encoding="utf-8")
    overrides = [each.replace("ALL", f"{tmp_path}/all.conll") for each in overrides]
    few = ("tracking=off", "export=off", "trainer.epochs=2", f"text.cache={tmp_path}/cache")
    memory, disk = (
        run(tmp_path / storage, *overrides, *few, f"text.storage={storage}") for storage in ("memory", "disk")
    )
    same = [name for name in disk if not name.endswith(("per_second", "step_ms"))]
    assert {name: disk[name] for name in same} == {name: memory[name] for name in same}
    assert len(list((tmp_path / "cache").iterdir())) == 1


def read(*overrides):
    return tagged_data.read(configured("data=conll", *overrides), Tagging(configured()).limited)


def test_large_files_are_kept_on_disk(folder, monkeypatch):
    where = (f"data.path={{train: {folder}/a.conll, dev: {folder}/b.conll}}", f"text.cache={folder}/cache")
    size = (folder / "a.conll").stat().st_size
    for large, kept in ((size - 1, True), (size, False)):
        monkeypatch.setattr(sentence_files, "LARGE", large)
        parts = read(*where).parts
        assert isinstance(parts["train"], sentence_files.StoredSentences) == kept
        assert isinstance(parts["dev"], list)
        # Their values would have to be kept, too.
        assert isinstance(read(*where, "data.reader.columns={tag: 1}").parts["train"], list)
    assert Counter(read(*where).tags) == Counter(["B-ORG", "B-PER", "I-PER", "O"])


def test_what_cannot_be_kept_is_one_line(folder):
    def refused(match, *overrides):
        with pytest.raises(InputError, match=match):
            read("text.storage=disk", f"text.cache={folder}/cache", *overrides)

    both = f"data.path={{train: {folder}/a.conll, dev: {folder}/b.conll}}"
    refused(r"text.storage=disk: data.reader.columns are kept in memory only", both, "data.reader.columns={tag: 1}")
    (folder / "bad.conll").write_text("EU B-ORG\n\nOslo B-LOC\nLima\n")
    refused(r"bad.conll:4: 1 columns, expected 2", f"data.path={{train: {folder}/bad.conll, dev: {folder}/b.conll}}")
    (folder / "odd.conll").write_text("EU B-ORG\n\nOslo B-LOC\nLima X-LOC\n")
    refused(r"odd.conll:4: tag 'X-LOC'", f"data.path={{train: {folder}/odd.conll, dev: {folder}/b.conll}}")
    (folder / "none.conll").write_text("\n\n")
    refused(r"none.conll: no sentences", f"data.path={{train: {folder}/none.conll, dev: {folder}/b.conll}}")
    (folder / "a.jsonl").write_text('{"text": "EU rejects", "spans": [{"start": 0, "end": 2, "label": "ORG"}]}\n')
    refused(
        r"text.storage=disk: .*a.jsonl has texts with offsets, which are kept in memory only; trellis convert writes",
        "data=annotated", f"data.path={{train: {folder}/a.jsonl, dev: {folder}/a.jsonl}}",
    )  # fmt: skip
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match=r"text.storage=disk: .*pipe is not a file"):
        on_disk(folder, str(folder / "pipe"))
    (folder / "file").write_text("")
    with pytest.raises(InputError, match=r"text.cache=.*file: cannot be written to"):
        open_sentences(find("a.conll", folder), conll.stream, {}, folder / "file")


@pytest.mark.parametrize("file", ["words.bin", "places.bin", "meta.json"])
def test_a_damaged_entry_is_written_again(folder, file, caplog):
    before = everything(on_disk(folder, "a.conll"))
    (entry,) = (folder / "cache").iterdir()
    (entry / file).write_bytes((entry / file).read_bytes()[:-1])
    assert everything(on_disk(folder, "a.conll")) == before
    assert "damaged, or written by something else" in caplog.text
    assert [each.name for each in (folder / "cache").iterdir()] == [entry.name]
    caplog.clear()
    assert everything(on_disk(folder, "a.conll")) == before and not caplog.text
