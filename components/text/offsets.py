"""Where tokens are in the texts that they were split from, in graph."""

from typing import NamedTuple

import tensorflow as tf

from trellis.components.text.tokenizer import APOSTROPHE
from trellis.components.types import Strings, Tensor


class Offsets(NamedTuple):
    """Where tokens are: ends are exclusive, so that `text[start:end]` is the token; all are 0 at padding.

    Attributes:
        start, end: in Unicode code points, `(batch, time)` int32: the indices of a Python string. In a text that is not
            UTF-8, bytes that continue no character do not count.
        start_byte, end_byte: in bytes.
    """

    start: Tensor
    end: Tensor
    start_byte: Tensor
    end_byte: Tensor


def token_offsets(text: Strings, tokens: Strings, kind: str) -> Offsets:
    """Return where the tokens are that `tokenize(text, kind)` returns.

    Tokenizers drop white space and nothing else, so the bytes of the tokens are, in order, those of the text without
    its white space; only the typographic apostrophe has fewer bytes in tokens.

    Args:
        text: `(batch,)` strings.
        tokens: `(batch, time)` strings, padded with `""`.
        kind: see `tokenize`.
    """
    codes = _codes(text)
    if kind == "characters":
        _, begins = tf.strings.unicode_split_with_offsets(text, "UTF-8")
        starts = tf.cast(begins.to_tensor(0, shape=[None, None]), tf.int32)
        starts = tf.pad(starts, [[0, 0], [0, tf.shape(tokens)[1] - tf.shape(starts)[1]]])
        following = tf.pad(starts[:, 1:], [[0, 0], [0, 1]])
        ends = tf.where(following > 0, following, tf.strings.length(text)[:, tf.newaxis])
    else:
        starts, ends = _of_words(text, tokens, kind, codes)
    starts, ends = (tf.where(tokens == "", 0, places) for places in (starts, ends))
    return _in_both_units(text, codes, starts, ends)


def joined(tokens: Strings, lengths: Tensor) -> tuple[Strings, Offsets]:
    """Return texts of which tokens are separated by single spaces, and where the tokens are.

    Args:
        tokens: `(batch, time)` strings; an empty token among the first `lengths (batch,)` is a token.
    """
    real = tf.sequence_mask(lengths, tf.shape(tokens)[1])
    text = tf.strings.reduce_join(tf.RaggedTensor.from_tensor(tokens, lengths=lengths), axis=1, separator=" ")
    sizes = tf.where(real, tf.strings.length(tokens) + 1, 0)
    starts = tf.cumsum(sizes, axis=1, exclusive=True)
    starts, ends = (tf.where(real, places, 0) for places in (starts, starts + sizes - 1))
    return text, _in_both_units(text, _codes(text), starts, ends)


def _codes(text: Strings) -> Tensor:
    """Return the bytes of texts, `(batch, bytes)` int32, at least one column."""
    width = tf.maximum(tf.reduce_max(tf.strings.length(text)), 1)
    return tf.cast(tf.io.decode_raw(text, tf.uint8, fixed_length=width), tf.int32)


def _inside(text: Strings, codes: Tensor) -> Tensor:
    return tf.sequence_mask(tf.strings.length(text), tf.shape(codes)[1])


def _of_words(text: Strings, tokens: Strings, kind: str, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first byte of each token and the byte after its last one, `(batch, time)`."""
    white = codes == ord(" ")
    if kind != "spaces":
        white |= (codes >= ord("\t")) & (codes <= ord("\r"))
    counted, sizes = _inside(text, codes) & ~white, tf.ones_like(codes)
    if kind == "words":
        # The tokenizer replaces this character by a single byte: its first byte stands for all of them.
        parts = APOSTROPHE.encode()
        ahead = tf.pad(codes, [[0, 0], [0, len(parts) - 1]])
        width = tf.shape(codes)[1]
        begins = tf.reduce_all([ahead[:, i : i + width] == part for i, part in enumerate(parts)], axis=0)
        for i in range(1, len(parts)):
            counted &= ~tf.pad(begins, [[0, 0], [i, 0]])[:, :width]
        sizes = tf.where(begins, len(parts), sizes)
    places = tf.where(counted)
    bytes_, sizes = tf.cast(places[:, 1], tf.int32), tf.boolean_mask(sizes, counted)
    # One more, so that there is something to take for texts without tokens.
    bytes_, sizes = tf.pad(bytes_, [[0, 1]]), tf.pad(sizes, [[0, 1]])
    before = tf.cumsum(tf.reduce_sum(tf.cast(counted, tf.int32), axis=1), exclusive=True)[:, tf.newaxis]
    lengths = tf.strings.length(tokens)
    ends = before + tf.cumsum(lengths, axis=1)
    most = tf.shape(bytes_)[0] - 1
    first, last = tf.minimum(ends - lengths, most), tf.clip_by_value(ends - 1, 0, most)
    return tf.gather(bytes_, first), tf.gather(bytes_, last) + tf.gather(sizes, last)


def _in_both_units(text: Strings, codes: Tensor, starts: Tensor, ends: Tensor) -> Offsets:
    """Return places in bytes, `(batch, time)` each, in Unicode code points too."""
    leads = tf.cast(_inside(text, codes) & (codes & 0xC0 != 0x80), tf.int32)
    before = tf.pad(tf.cumsum(leads, axis=1), [[0, 0], [1, 0]])
    start, end = (tf.gather(before, places, batch_dims=1) for places in (starts, ends))
    return Offsets(start, end, starts, ends)
