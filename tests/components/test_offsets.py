"""Where tokens are in their texts."""

import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trellis.components.text.offsets import joined, token_offsets
from trellis.components.text.tokenizer import tokenize

KINDS = ("words", "whitespace", "spaces", "characters")
# What tokenizers look at, what has several bytes, and what is nothing but odd.
PIECES = [
    "Mary",
    "n't",
    "don’t",
    "’",
    "'s",
    " ",
    "  ",
    "\t",
    "\n",
    "\x0b",
    "\x1c",
    "\x85",
    "\u3000",
    "\xa0",
    "é",
    "e\u0301",
]
PIECES += ["日本", "👩‍💻", "U.S.", "--", "http://x.y", "1,000%", "a@b.cd", "\0", "\ufeff", "", "-", "x"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=12)


def found(texts, kind):
    """Return the tokens of texts with their offsets."""
    text = tf.constant(texts)
    tokens = tokenize(text, kind)
    offsets = token_offsets(text, tokens, kind)
    assert all(values.shape == tokens.shape and values.dtype == tf.int32 for values in offsets)
    return tokens.numpy(), *(values.numpy() for values in offsets)


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_is_what_stands_between_its_offsets(kind):
    @settings(deadline=None, max_examples=60)
    @given(st.lists(TEXTS, min_size=1, max_size=3))
    @example([""])
    @example(["’’", "’ ’s", "don’t’"])
    def check(texts):
        for text, *rows in zip(texts, *found([text.encode() for text in texts], kind), strict=True):
            position = 0
            for token, start, end, start_byte, end_byte in zip(*rows, strict=True):
                if token == b"":
                    assert start == end == start_byte == end_byte == 0
                    continue
                surface = text.encode()[start_byte:end_byte]
                assert text[start:end] == surface.decode()
                assert (surface.replace("’".encode(), b"'") if kind == "words" else surface) == token
                assert start_byte >= position
                position = end_byte

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_no_characters_have_their_places_too(kind):
    texts = [b"bad \xff byte", b"\xe2\x80 \x99x\xe2\x80\x99", b"\xf0\x9f caf\xc3"]
    for text, tokens, _, _, starts, ends in zip(texts, *found(texts, kind), strict=True):
        for token, start, end in zip(tokens, starts, ends, strict=True):
            surface = text[start:end]
            if kind == "words":
                surface = surface.replace("’".encode(), b"'")
            assert surface == token or (kind == "characters" and token == "\ufffd".encode())


def test_tokens_of_a_batch_without_texts_have_no_places():
    offsets = token_offsets(tf.zeros([0], tf.string), tf.zeros([0, 1], tf.string), "words")
    assert all(values.shape == (0, 1) for values in offsets)


def test_given_tokens_are_found_in_the_text_that_joins_them():
    tokens = tf.constant([["Zoë", "", "日本", ""], ["x", "", "", ""], ["", "", "", ""]])
    text, offsets = joined(tokens, tf.constant([3, 1, 0]))
    assert [each.decode() for each in text.numpy()] == ["Zoë  日本", "x", ""]
    assert offsets.start.numpy().tolist() == [[0, 4, 5, 0], [0] * 4, [0] * 4]
    assert offsets.end.numpy().tolist() == [[3, 4, 7, 0], [1, 0, 0, 0], [0] * 4]
    assert offsets.end_byte.numpy()[0].tolist() == [4, 5, 12, 0]
