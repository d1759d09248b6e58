"""Readers: the formats, and one clear line for files that break them."""

import gzip
import hashlib
import http.server
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellis.components.errors import InputError
from trellis.components.readers import conll, conllu, dataset, tagged, vectors, word_tag
from trellis.components.readers.lines import read_lines
from trellis.components.readers.sentence import Sentence

ODD = ["a\u00a0b", "\u3000", "x\u200by", "\x85", "\u2028", "c\x1dd", "\ufeff", "Ünlü"]


def test_conll_sentences_end_at_blank_lines_and_documents(write):
    path = write(
        "a.conll",
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects  VBZ B-VP O\n \t \nPeter NNP B-NP B-PER\n\t\n"
        "-DOCSTART- -X- -X- O\nLast NNP B-NP B-PER",
    )
    assert conll.read(path) == [
        Sentence(("EU", "rejects"), ("B-ORG", "O")),
        Sentence(("Peter",), ("B-PER",)),
        Sentence(("Last",), ("B-PER",)),
    ]
    assert conll.read(path, word_column=1, tag_column=2)[0] == Sentence(("NNP", "VBZ"), ("B-NP", "B-VP"))
    assert conll.read(path, columns={"pos": 1, "chunk": -2})[0].columns == {
        "pos": ("NNP", "VBZ"),
        "chunk": ("B-NP", "B-VP"),
    }


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_pipe_is_read_from_its_first_line(compress):
    receiving, sending = os.pipe()
    os.write(sending, compress(b"first\nsecond\n"))
    os.close(sending)
    assert list(read_lines(f"/dev/fd/{receiving}")) == [(1, "first"), (2, "second")]
    os.close(receiving)


MULTICONER = "# id 5a domain=en\n{} _ _ B-X\nand _ _ O\n\n# id 6b\tdomain=en\nb _ _ O\n\n# _ _ O\n# _ _ O\n".format


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        # MultiCoNER: as many columns as tokens have.
        (MULTICONER("#"), [("#", "and"), ("b",), ("#", "#")]),
        # GermEval: another number of columns than tokens, before the first one.
        ("#\thttp://de.example\t[2009]\n1\ta\tO\tO\n2\t#\tO\tO\n\n#\tx\n1\tb\tO\tO\n", [("1", "2"), ("1",)]),
        # CoNLL-2012.
        ("#begin document (a); part 000\na X O\n\n#end document\n", [("a",)]),
        ("#begin document\na O\n\n#end document\n#begin document\nb O\n", [("a",), ("b",)]),
        # CoNLL-U's own, in two columns.
        ("# sent_id = 1\n# text = a b\na O\nb O\n", [("a", "b")]),
        ("#text=a\na O\n", [("a",)]),
        ("# id = 1\na O\nb O\n# id = 2\nc O\n# O\n", [("a", "b"), ("c", "#")]),
        # WNUT: tokens.
        ("#\tO\na\tB-x\n\n#tag\tO\n#\tO\n", [("#", "a"), ("#tag", "#")]),
        ("#tag\tB-rare\n#\tI-rare\nb\tO\n", [("#tag", "#", "b")]),
        # A part of speech of its own.
        ("# #\n12 CD\n\nand CC\n", [("#", "12"), ("and",)]),
        ("#\tO\n", [("#",)]),
    ],
)
def test_conll_comments_are_not_tokens(write, text, tokens):
    assert [sentence.tokens for sentence in conll.read(write("a.conll", text))] == tokens


def test_conllu_sentences_end_where_the_next_begins(write):
    def row(*fields):
        return "\t".join((*map(str, fields), *"_______")) + "\n"

    rows = row(1, "a", "_") + row(2, "b", "_") + row("1-2", "cd", "_") + row(1, "c", "_") + row(2, "d", "_")
    rows = rows.replace("_\t_\t_\t_\t_\t_\t_\t_\n", "_\tX\t_\t_\t_\t_\t_\t_\n")
    path = write("a.conllu", rows + "# text = e\n" + rows[: rows.index("2")])
    assert [s.tokens for s in conllu.read(path)] == [("a", "b"), ("c", "d"), ("a",)]
    assert [list(s.lines) for s in conllu.read(path)] == [[1, 2], [4, 5], [7]]


def test_sentences_know_their_lines(write):
    (sentence,) = conll.read(write("a.conll", "\n# c = d\n\n# e = f\na O\nb O\n"))
    assert list(sentence.lines) == [5, 6]
    assert word_tag.read(write("a.txt", "\na|O b|O\n"))[0].lines == [2, 2]
    # A range of words has a line of its own.
    rows = [f"{number}\tw\t_\tX{6 * (chr(9) + '_')}" for number in ("1", "2-3", "2", "3", "1", "1", "2-3", "2")]
    assert [list(each.lines) for each in conllu.read(write("a.conllu", "\n".join(rows)))] == [[1, 3, 4], [5], [6, 8]]


@pytest.mark.parametrize("line", ["1\t\t_\tX", "1\ta\t_\t", "1\ta\t_\t_", "x\ta\t_\tX", "1\t \t_\tX"])
def test_conllu_without_form_tag_or_id_is_refused(write, line):
    with pytest.raises(InputError, match=r"a.conllu:2: (form|upos) is (empty|_)|a.conllu:2: 'x' is not the id"):
        conllu.read(write("a.conllu", f"# text = a\n{line}\t_\t_\t_\t_\t_\t_\n"))


def test_long_sentences_are_cut_at_full_stops_and_never_in_an_entity(caplog):
    tokens = ("a", "b", ".", "c", "d", ".", "e", "f", "g", "h", "i", "j")
    tags = ("O", "O", "O", "O", "O", "O", "O", "B-X", "I-X", "I-X", "O", "O")
    pieces = tagged.divided([Sentence(tokens, tags, {"n": tokens}, range(1, 13))], 4)
    assert [" ".join(s.tokens) for s in pieces] == ["a b .", "c d .", "e f g h", "i j"]
    assert [list(s.lines) for s in pieces] == [[1, 2, 3], [4, 5, 6], [7, 8, 9, 10], [11, 12]]
    assert all(s.columns == {"n": s.tokens} for s in pieces)
    pieces = tagged.divided([Sentence(tokens, tags)], 3)
    assert [" ".join(s.tokens) for s in pieces] == ["a b .", "c d .", "e", "f g h", "i j"]
    assert [len(s.tokens) for s in tagged.divided([Sentence(("a",) * 7, ("I-X",) * 7)], 3)] == [3, 3, 1]
    tagged.check("big.conll", [Sentence(("a",) * 2000, ("O",) * 2000, lines=range(5, 2005))])
    assert "big.conll:5: a sentence of 2,000 tokens; are there no empty lines" in caplog.text


def test_conll_ignores_line_ends_compression_and_byte_order_marks(write, tmp_path):
    content = "\ufeffa\tO\r\nb\tB-X\r\n\r\nc\tO\r\n".encode()
    expected = [Sentence(("a", "b"), ("O", "B-X")), Sentence(("c",), ("O",))]
    assert conll.read(write("a.conll", content)) == expected
    assert conll.read(write("a.conll.gz", gzip.compress(content))) == expected
    assert conll.read(write("misnamed.conll", gzip.compress(content))) == expected


def test_tokens_are_unchanged(write):
    body = "".join(f"{token}\tO\n" for token in ODD)
    assert conll.read(write("a.conll", body))[0].tokens == tuple(ODD)
    assert conll.read(write("b.conll", "".join(f"{token} O\n" for token in ODD)))[0].tokens == tuple(ODD)
    assert word_tag.read(write("c.txt", " ".join(f"{token}|O" for token in ODD) + "\n"))[0].tokens == tuple(ODD)
    rows = "".join("\t".join((str(n), token, *"_X______")) + "\n" for n, token in enumerate(ODD, 1))
    assert conllu.read(write("d.conllu", rows))[0].tokens == tuple(ODD)
    # Between tabs a token may hold a space.
    assert conll.read(write("e.conll", "New York\tB-LOC\n"))[0].tokens == ("New York",)


_TOKENS = st.text(st.characters(exclude_characters="\t\r\n \f\v", exclude_categories=["Cs"]), min_size=1).filter(
    lambda token: token != "-DOCSTART-"
)


@given(st.lists(st.lists(_TOKENS, min_size=1, max_size=4), min_size=1, max_size=4), st.sampled_from("\t "))
def test_conll_round_trip(tmp_path_factory, sentences, separator):
    path = tmp_path_factory.mktemp("conll") / "a.conll"
    text = "\n".join("".join(f"{token}{separator}O\n" for token in tokens) for tokens in sentences)
    path.write_bytes(text.encode("utf-8"))
    read = [list(sentence.tokens) for sentence in conll.read(path)]
    # A byte order mark at the very beginning belongs to the file, not to the text.
    sentences[0][0] = sentences[0][0].removeprefix("\ufeff")
    if sentences[0][0]:
        assert read == sentences


@pytest.mark.parametrize("mark", ["# newdoc", "# newdoc id = a-1", "#newdoc"])
def test_conllu_sentences_know_their_document(write, mark):
    row = "1\ta\ta\tX\t_\t_\t0\troot\t_\t_\n\n"
    path = write("a.conllu", f"{mark}\n# newpar\n{row}{row}{mark}\n{row}# newdocument\n{row}")
    assert [sentence.document for sentence in conllu.read(path)] == [1, 1, 2, 2]
    assert [sentence.document for sentence in conllu.read(write("b.conllu", row + row))] == [0, 0]


def test_conllu_ranges_and_empty_nodes_are_not_words(write):
    rows = [
        "# text = don't go",
        "1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_",
        "1\tdo\tdo\tAUX\tVB\tA=1|B=2\t0\troot\t_\t_",
        "2\tn't\tnot\tPART\tRB\t_\t1\tadvmod\t_\t_",
        "2.1\tghost\t_\tNOUN\t_\t_\t_\t_\t_\t_",
        "3\tgo\tgo\tVERB\tVB\t_\t1\txcomp\t_\t_",
    ]
    path = write("a.conllu", "\n".join(rows) + "\n\n")
    assert conllu.read(path) == [Sentence(("do", "n't", "go"), ("AUX", "PART", "VERB"))]
    assert conllu.read(path, tag="xpos")[0].tags == ("VB", "RB", "VB")
    assert conllu.read(path, tag="feats")[0].tags[0] == "A=1|B=2"
    assert conllu.read(path, columns=["xpos"])[0].columns == {"xpos": ("VB", "RB", "VB")}
    with pytest.raises(InputError, match=r"no column 'upso'.*did you mean upos"):
        conllu.read(path, tag="upso")


def test_word_tag_splits_at_the_last_bar(write):
    path = write("a.txt", "a|b|O  New|B-LOC York|I-LOC \n\n|||O\n")
    assert word_tag.read(path) == [
        Sentence(("a|b", "New", "York"), ("O", "B-LOC", "I-LOC")),
        Sentence(("||",), ("O",)),
    ]


@pytest.mark.parametrize(
    ("reader", "content", "message"),
    [
        (conll, "a b O\n\nc O\n", r"a.txt:3: 2 columns, expected 3 \(as in line 1\)"),
        (conll, "a\n", r"a.txt:1: 1 column, expected at least a word and a tag"),
        (conll, b"a O\nb\xff O\n", r"a.txt:2: not UTF-8 \(byte 0xff at column 2\)"),
        (conll, "a\tO\n\tO\n", r"a.txt:2: the word is empty"),
        (conllu, "1\ta\tNOUN\n", r"a.txt:1: 3 columns, expected 10"),
        (word_tag, "a|O b\n", r"a.txt:1: token 2 is 'b', expected word\|TAG"),
        (conll, gzip.compress(b"a O\n" * 999, mtime=0)[:-20], r"a.txt: cannot be read"),
    ],
)
def test_broken_files_are_named_with_their_line(write, reader, content, message):
    with pytest.raises(InputError, match=message):
        reader.read(write("a.txt", content))


def test_missing_columns_are_named(write, tmp_path):
    with pytest.raises(InputError, match=r"a.txt:1: 2 columns, but data.reader.tag_column is 3"):
        conll.read(write("a.txt", "a O\n"), tag_column=3)
    with pytest.raises(InputError, match="no such file"):
        conll.read(tmp_path / "absent")


def test_vectors_are_read_for_the_words_asked_for(write):
    path = write("v.txt", "2 3\nthe 1 2 3\nNew York 4 5 6\nonly 7 8 9\n")
    found = vectors.read(path, 3, {"the", "New York"})
    assert sorted(found) == ["New York", "the"]
    assert found["New York"].tolist() == [4, 5, 6]
    assert sorted(vectors.read(path, 3, set(), keep=1)) == ["the"]
    with pytest.raises(InputError, match=r"v.txt:1: vectors of width 3, but model.words.dim is 5"):
        vectors.read(path, 5, {"the"})
    with pytest.raises(InputError, match=r"g.txt:1: a vector of width 3, but model.words.dim is 4"):
        vectors.read(write("g.txt", "the 1 2 3\n"), 4, {"the"})
    with pytest.raises(InputError, match=r"g.txt:1: a vector of width 3, but model.words.dim is 2"):
        vectors.read(write("g.txt", "the 1 2 3\n"), 2, {"the"})
    with pytest.raises(InputError, match=r"h.txt:2: 'a' has a component that is not a number"):
        vectors.read(write("h.txt", "the 1 2\na 1 x\n"), 2, {"a"})


def test_vectors_fall_back_to_lower_case():
    import numpy as np

    table, matched = vectors.matrix({"Us": [1, 1], "us": [2, 2]}, ["Us", "US", "other"], 5, 2, np.random.default_rng(0))
    assert matched == 2
    assert table[2].tolist() == [1, 1] and table[3].tolist() == [2, 2]


FILES = {"train": "train.conll.gz", "dev": "dev.conll"}


def test_datasets_are_searched_for_in_order(write, tmp_path, monkeypatch):
    monkeypatch.setenv("TRELLIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRELLIS_DATA", str(tmp_path / "data"))
    with pytest.raises(
        InputError, match=r"data=it not found; tried data.path .*data/it .*cache/it .*no download address"
    ):
        dataset.locate("it", FILES)
    for part in ("train.conll", "dev.conll"):
        write(f"cache/it/{part}", "a O\n")
    assert dataset.locate("it", FILES)["train"] == tmp_path / "cache/it/train.conll"
    write("data/it/train.conll.gz", "a O\n")
    with pytest.raises(InputError, match=r"data/it/dev.conll: no such file"):
        dataset.locate("it", FILES)
    write("data/it/dev.conll", "a O\n")
    assert dataset.locate("it", FILES)["train"] == tmp_path / "data/it/train.conll.gz"
    own = write("own.txt", "a O\n")
    assert dataset.locate("it", FILES, {"train": own, "dev": own}) == {"train": own, "dev": own}
    with pytest.raises(InputError, match="not a folder"):
        dataset.locate("it", FILES, tmp_path / "nowhere")


def test_downloads_are_verified_and_cached(tmp_path, monkeypatch):
    content = b"a O\n\n"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/good"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("TRELLIS_CACHE", str(tmp_path))
    monkeypatch.delenv("TRELLIS_DATA", raising=False)
    address = f"http://127.0.0.1:{server.server_port}"
    good = {"url": f"{address}/good", "sha256": hashlib.sha256(content).hexdigest()}
    try:
        with pytest.raises(InputError, match=r"sha256 is .*, expected 00"):
            dataset.locate("it", FILES, download={"train": good | {"sha256": "00"}, "dev": good})
        with pytest.raises(InputError, match=r"its blob in git is 092a0.*, expected 00"):
            dataset.locate("it", FILES, download={"train": good | {"git_blob": "00"}, "dev": good})
        assert not any(path.is_file() for path in tmp_path.rglob("*"))
        with pytest.raises(InputError, match=r"tried data.path .*TRELLIS_DATA \(not set\).*good \("):
            dataset.locate("it", FILES, download={"train": good, "dev": {"url": f"{address}/bad"}})
        blob = good | {"git_blob": "092a0690c8c7f107bfbc690789b30f43b67eedfd"}
        found = dataset.locate("it", FILES, download={"train": blob, "dev": blob})
    finally:
        server.shutdown()
    assert gzip.decompress(found["train"].read_bytes()) == content == found["dev"].read_bytes()
    assert dataset.locate("it", FILES) == found
    assert len(dataset.digest(found)) == 64
