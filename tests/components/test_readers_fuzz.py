"""Any bytes in: examples, or one line that names the file."""

import gzip
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trellis.components.annotation import formats
from trellis.components.errors import InputError
from trellis.components.readers import bitext, conll, conllu, labelled, running_text, tagged, vectors, word_tag
from trellis.components.text import tag_schemes

# What files of the formats are made of, and what breaks them.
PIECES = [
    b"\n", b"\n\n", b"\r\n", b"\r", b"\t", b" ", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\x1f\x8b", b"\xc2\xa0",
    "\u3000\u2028\x85\x1c".encode(), b"# text = a\n", b"#", b"-DOCSTART- O\n", b"a B-X\n", b"a O\n", b"b\tI-X\n",
    b"c X-Y\n", b"a X PER\n", b"1\ta\t_\tX\t_\t_\t_\t_\t_\t_\n", b"1-2\ta\t_\t_\t_\t_\t_\t_\t_\t_\n", b"2.1",
    b"a|O b|B-X", b"|||", b"a ||| b\n", b"text,label\n", b"text\tlabel\n", b'"', b'"a\nb",c\n', b",", b";", b"x\ty\n",
    b'{"text": "a b", "entities": [[0, 1, "X"]]}\n', b'["a b", {"entities": [[2, 3, "X"], [0, 3, "Y"]]}]\n', b"[", b"]",
    b'{"data": {"text": "a"}, "annotations": [{"result": []}]}', b'{"tokens": ["a"], "ner_tags": [0]}\n', b"{", b"}",
    b"word,tag,sentence\n", b"a,O,1\n", b"T1\tX 0 1\ta\n", b"T2\tX 0 1;2 3\ta b\n", b"R1\tx\n", b"PAR1",
    b"0-0 1?2 3p4", b"1 1 1 S\n", b"0 0.5 -1e3\n", b"2 3\n", b"nan inf", "é€😀".encode(), b"word " * 50,
]  # fmt: skip
FILES = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join),
    st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)), max_size=12).map(b"".join),
    st.binary(max_size=200),
    st.lists(st.sampled_from(PIECES), max_size=6).map(lambda pieces: gzip.compress(b"".join(pieces), mtime=0)),
    st.binary(max_size=40).map(lambda rest: b"\x1f\x8b\x08\x00" + rest),
)
FEW = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sentences(read):
    """Read tagged sentences as the pipeline does, up to BIO2."""

    def reading(path):
        found = read(path)
        tagged.check(path, found)
        for sentence in found:
            assert len(sentence.tokens) == len(sentence.tags) == len(sentence.lines) > 0
            assert all(sentence.tokens) and all(sentence.tags)
        parts, _ = tagged.in_bio2({"train": path}, {"train": found})
        converted = tagged.possible({"train": path}, parts)["train"]
        for before, after in zip(parts["train"], converted, strict=True):
            assert tag_schemes.entities(before.tags) == tag_schemes.entities(after.tags)
        pieces = tagged.divided(converted, 3)
        assert [t for s in pieces for t in s.tokens] == [t for s in converted for t in s.tokens]
        return found

    return reading


def divided_texts(unit):
    def reading(path):
        documents = running_text.read(path, unit)
        parts = running_text.divide(documents, {"train": 0.8, "dev": 0.1, "test": 0.1}, path)
        assert [t for d in parts.values() for doc in d for line in doc for t in line] == [
            token for document in documents for line in document for token in line
        ]
        return parts

    return reading


def divided_examples(**options):
    def reading(path):
        examples = labelled.read(path, **options)
        parts = labelled.divide(examples, {"train": 0.8, "dev": 0.1, "test": 0.1}, 1, path)
        assert sorted(e for part in parts.values() for e in part) == sorted(examples) and (not examples or all(parts))
        return parts

    return reading


def annotated(path):
    """Read annotated texts as the pipeline does, with all spans that tags can express."""
    path.with_suffix(".txt").write_text("a b\n")  # of the annotations of brat
    texts = formats.read(path)
    if path.suffix in (".ann", ".jsonl"):
        for text in texts:
            for span in getattr(text, "spans", ()):
                assert 0 <= span.start <= span.end <= len(text.text) and span.label
    found = formats.as_sentences(path, texts, "words", "snap")
    # Documents of brat are files: tokens have no line.
    return sentences(lambda _: [replace(s, lines=s.lines or [1] * len(s.tokens)) for s in found])(path)


READERS = {
    "a.jsonl": annotated,
    "a.json": annotated,
    "a.parquet": annotated,
    "table.csv": annotated,
    "brat.ann": annotated,
    "a.conll": sentences(conll.read),
    "b.conll": sentences(lambda path: conll.read(path, 0, 1, {"pos": -1})),
    "a.conllu": sentences(conllu.read),
    "b.conllu": sentences(lambda path: conllu.read(path, "feats", ["xpos"])),
    "a.txt": sentences(word_tag.read),
    "bars.txt": divided_examples(),
    "a.tsv": divided_examples(),
    "b.tsv": divided_examples(header=False),
    "a.csv": divided_examples(),
    "c.csv": divided_examples(header=False, separator="semicolon", encoding="latin-1"),
    "text.txt": divided_texts("words"),
    "letters.txt": divided_texts("characters"),
    "vectors.txt": lambda path: vectors.read(path, 2, {"a", "0"}, keep=3),
    "bitext": lambda path: list(bitext.read_bars(path)),
    "strict": lambda path: list(bitext.read_bars(path, strict=True)),
    "empty": lambda path: list(bitext.read_columns(path, gold_column=1, keep_empty=True)),
    "parallel": lambda path: list(bitext.read_parallel(path, path, naacl=path)),
}


def read_or_refused(reader, path, content):
    path.write_bytes(content)
    try:
        return reader(path)
    except InputError as error:
        message = str(error)
        assert "\n" not in message and len(message) < 1500, message
        return None


@pytest.mark.parametrize("name", READERS)
@FEW
@given(content=FILES)
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path, name, content):
    read_or_refused(READERS[name], tmp_path / name, content)


SOUND = {
    "a.jsonl": b'{"text": "a b", "spans": [{"start": 0, "end": 1, "label": "X"}], "answer": "accept"}\n' * 3,
    "a.json": b'[\n{"id": 1, "data": {"text": "a b"}, "annotations": [{"result": [{"value": {"start": 0, "end": 1, '
    b'"text": "a", "labels": ["X"]}}]}]}\n]\n',
    "table.csv": b'Sentence #,Word,Tag\n1,a,B-X\n,"b,",O\n2,c,O\n',
    "a.conll": b"# id = 1\nEU B-ORG\nrejects O\n\nPeter B-PER\nBlack I-PER\n" * 3,
    "a.conllu": b"# text = a b\n1\ta\t_\tX\t_\t_\t_\t_\t_\t_\n2\tb\t_\tO\t_\t_\t_\t_\t_\t_\n\n" * 3,
    "a.txt": b"New|B-LOC York|I-LOC .|O\n" * 5,
    "bars.txt": b"x ||| one\ny ||| two\n" * 5,
    "a.tsv": b"text\tlabel\n" + b"one\tx\ntwo\ty\n" * 5,
    "a.csv": b"text,label\n" + b'"one, ""1""",x\ntwo,y\n' * 5,
    "text.txt": b"one two three\nfour\n" * 10,
    "vectors.txt": b"a 1 2\nb 3 4\n",
    "bitext": b"a b ||| c\nd ||| e f\n",
}


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("compressed", [False, True])
def test_files_that_were_damaged_are_read_or_refused(tmp_path, name, compressed):
    """A sound file with some bytes changed, left out or doubled."""
    rng, sound = random.Random(name), SOUND[name]
    sound = gzip.compress(sound, mtime=0) if compressed else sound
    assert read_or_refused(READERS[name], tmp_path / name, sound) is not None
    for _ in range(150):
        content = bytearray(sound)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(content))
            piece = rng.choice([bytes([rng.randrange(256)]), b"", content[place:] + b"", rng.choice(PIECES)])
            content[place : place + rng.randint(0, 3)] = piece
        read_or_refused(READERS[name], tmp_path / name, bytes(content[:5000]))


@FEW
@given(st.lists(st.lists(st.text(max_size=6), min_size=1, max_size=5), max_size=5))
def test_any_tags_are_in_a_scheme_or_refused(rows):
    try:
        scheme = tag_schemes.recognize(rows)
    except tag_schemes.UnknownTagError as error:
        assert rows[error.sentence][error.token] == error.tag
        return
    for tags in rows:
        converted = tag_schemes.convert(tags, "bio2", scheme)
        assert tag_schemes.entities(converted, tag_schemes.Scheme("BIO2")) == tag_schemes.entities(tags, scheme)
