"""Subwords in graph against sentencepiece."""

import gzip
import random

import pytest
import sentencepiece
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from trellis.components.errors import InputError
from trellis.components.text.subwords import BEGIN, END, PAD, SPECIAL, UNKNOWN, Subwords, learn, train_sentencepiece

LINES = [
    line for language in ("en", "es") for line in (ROOT / f"samples/bitext/train.{language}").read_text().splitlines()
]
ODD = [
    "", " ", "   ", "two  spaces", " before", "after ", "a\tb\nc\r", "\u00a0x\u3000y", "a\0b", "\0", "😀😀 👩‍👩‍👧",
    "e\u0301a\u0308", "日本語 の", "<s> </s> <unk> <0x41>", "the" * 40, "aaaaaaa" * 9, "\ufffd",
]  # fmt: skip
SEPARATOR = "▁"  # how sentencepiece writes a space


class Learned:
    """Subwords, and sentencepiece's processor of the same model."""

    def __init__(self, lines, size, byte_fallback=True):
        self.subwords = Subwords(learn(lines, size, byte_fallback))
        self.encode = tf.function(self.subwords.encode, input_signature=[tf.TensorSpec([None], tf.string)])
        self.decode = tf.function(self.subwords.decode, input_signature=[tf.TensorSpec(None, tf.int32)])
        self.peer = sentencepiece.SentencePieceProcessor(model_proto=train_sentencepiece(lines, size, byte_fallback))

    def ids(self, texts):
        return self.encode(tf.constant(texts, tf.string)).to_list()

    def back(self, texts):
        return [text.decode() for text in self.decode(self.encode(tf.constant(texts, tf.string)).to_tensor()).numpy()]


@pytest.fixture(scope="module")
def bytes_():
    return Learned(LINES, 700)


@pytest.fixture(scope="module")
def unknowns():
    return Learned(LINES, 500, byte_fallback=False)


@pytest.fixture(params=["bytes_", "unknowns"])
def learned(request):
    return request.getfixturevalue(request.param)


def test_ids_are_those_of_sentencepiece(learned):
    texts = LINES + ODD
    assert learned.ids(texts) == learned.peer.encode(texts)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(
        st.text("aehlnorst Té,.") | st.text() | st.lists(st.sampled_from(" ".join(LINES).split())).map(" ".join),
        max_size=6,
    )
)
def test_ids_of_any_text_are_those_of_sentencepiece(bytes_, unknowns, texts):
    texts = [text.replace(SEPARATOR, "") for text in texts]
    for learned in (bytes_, unknowns):
        assert learned.ids(texts) == learned.peer.encode(texts)
    assert bytes_.back(texts) == texts


def test_text_survives_encoding_and_decoding(bytes_):
    texts = [*LINES, *ODD, SEPARATOR, f"a{SEPARATOR}b {SEPARATOR}", "x" * 10_000, " " * 100]
    assert bytes_.back(texts) == texts


def test_unknown_characters_are_one_unknown_piece(unknowns):
    assert unknowns.ids(["日本語a日"]) == unknowns.peer.encode(["日本語a日"])
    assert unknowns.back(["the 日本 a"]) == ["the ⁇ a"]
    assert unknowns.ids([SEPARATOR])[0][-1] == UNKNOWN


def test_malformed_text_is_read_as_replacement_characters(bytes_, unknowns):
    malformed = [b"a\xffb", b"\xe4\xbd", b"\xed\xa0\x80", b"ok"]
    for learned in (bytes_, unknowns):
        assert learned.ids(malformed)[3] == learned.ids(["ok"])[0]
    assert bytes_.back(malformed)[0] == "a\ufffdb"


@pytest.mark.parametrize("characters", ["a", "ab", "the", "aehinrst", "日", "ea😀"])
def test_very_long_words_have_the_ids_of_sentencepiece(learned, characters):
    generator = random.Random(0)
    word = "".join(generator.choice(characters) for _ in range(10_000))
    texts = ["the end", word, f"x {word}"]
    assert learned.ids(texts) == learned.peer.encode(texts)


def test_a_row_does_not_depend_on_the_batch(learned):
    texts = [*ODD, *LINES[:20], b"\xff"]
    assert learned.ids(texts) == [learned.ids([text])[0] for text in texts]


def test_batches_may_be_empty(learned):
    assert learned.ids([]) == []
    assert learned.ids([""]) == [[]]
    assert learned.decode(tf.zeros([0, 3], tf.int32)).shape == [0]
    assert learned.decode(tf.zeros([2, 0], tf.int32)).numpy().tolist() == [b"", b""]


def test_decoding_stops_at_the_end_and_skips_padding(bytes_):
    (cat,) = bytes_.ids(["a cat"])
    rows = tf.constant([[BEGIN, *cat, END, *cat], [*cat, PAD, *[PAD] * len(cat), PAD]])
    assert bytes_.decode(rows).numpy().tolist() == [b"a cat", b"a cat"]
    assert bytes_.decode(rows[:, tf.newaxis]).numpy().tolist() == [[b"a cat"], [b"a cat"]]
    assert bytes_.decode(rows[0]).numpy() == b"a cat"


def test_bytes_in_any_order_are_decoded_to_valid_text(bytes_):
    byte_ids = [bytes_.peer.piece_to_id(f"<0x{value:02X}>") for value in (0xE2, 0xE2, 0x41)]
    bytes_.decode(tf.constant([byte_ids])).numpy()[0].decode()


def test_pieces_have_the_names_of_sentencepiece(bytes_):
    (ids,) = bytes_.ids(["the café 日"])
    pieces = [piece.decode() for piece in bytes_.subwords.pieces_of(tf.constant(ids)).numpy()]
    assert pieces == bytes_.peer.encode("the café 日", out_type=str)
    assert bytes_.subwords.pieces_of([[PAD, END]]).numpy().tolist() == [[b"", b"</s>"]]


def test_learning_is_deterministic_and_begins_with_the_special_pieces():
    model = learn(LINES, 400)
    assert learn(iter(LINES), 400) == model
    assert model.pieces[:4] == SPECIAL
    assert len(model.pieces) == 400
    assert len(learn(["a b"], 5000).pieces) < 300


def test_lower_case_is_part_of_the_model():
    subwords = Subwords(learn(["The CAT", "the Élan"] * 3, 300, case="lower"))
    assert not any(piece[-1].isupper() for piece in subwords.model.ids)
    assert subwords.encode(["THE CAT"]).to_list() == subwords.encode(["the cat"]).to_list()
    assert subwords.decode(subwords.encode(["ÉLAN"]).to_tensor()).numpy()[0].decode() == "élan"


@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [([], 300, "there is no text"), ([""], 300, "there is no text"), (LINES, 100, "100 subwords are too few")],
)
def test_texts_that_subwords_cannot_be_learned_from_are_an_input_error(texts, size, message):
    with pytest.raises(InputError, match=message) as error:
        learn(texts, size)
    assert "\n" not in str(error.value)


def test_export_loads_and_encodes(bytes_, tmp_path):
    module = tf.Module()
    module.subwords = bytes_.subwords
    module.encode = tf.function(
        lambda texts: bytes_.subwords.encode(texts).to_tensor(), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    module.decode = tf.function(bytes_.subwords.decode, input_signature=[tf.TensorSpec([None, None], tf.int32)])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    texts = [*LINES[:30], *ODD]
    ids = loaded.encode(tf.constant(texts))
    assert [[index for index in row if index] for row in ids.numpy().tolist()] == bytes_.peer.encode(texts)
    assert [text.decode() for text in loaded.decode(ids).numpy()] == texts


@pytest.mark.real
def test_all_lines_of_multi30k_have_the_ids_of_sentencepiece(real):
    def lines(part, language):
        path = real / "multi30k" / f"{part}.{language}"
        text = path.read_bytes() if path.exists() else gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes())
        return text.decode().split("\n")[:-1]

    learned = Learned([*lines("train", "en"), *lines("train", "de")], 8000)
    # French and Czech too: they are spelt with more pieces, and with bytes.
    texts = [
        line
        for part in ("train", "dev", "test")
        for language in ("en", "de", "fr", "cs")
        for line in lines(part, language)
    ]
    assert len(texts) > 120_000
    for start in range(0, len(texts), 4000):
        batch = texts[start : start + 4000]
        assert learned.ids(batch) == learned.peer.encode(batch)
    assert learned.back(texts[-1000:]) == texts[-1000:]
