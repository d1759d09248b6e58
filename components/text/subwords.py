"""Subwords in graph: byte-pair encoding with core TensorFlow operations, so that exports need neither Python nor
tensorflow-text. The merges are learned with sentencepiece, and the ids are sentencepiece's.

**How the encoder works.** Text is split at the ASCII space, and a word begins with the space before it (written `▁` in
pieces; the first word of a text has one too). No piece contains a space elsewhere, so a word's pieces depend on the
word alone, and each distinct word of a batch is encoded once. A word that is a piece is its own encoding. Any other
begins as its characters, and sentencepiece would repeat: of all adjacent symbols that together are a piece, merge the
pair whose piece has the lowest id, the leftmost of several. The loop here merges many pairs in each iteration, with
the same result, because of three facts:

1. Until a piece is complete, nothing outside it takes part in its making. So the symbols that become a piece do so as
   if they stood alone, and the last merge always is of the same two pieces, its *parts*: one entry of a hash table.
2. If the parts of every piece have lower ids than the piece (true of what sentencepiece learns), a merge
   never makes a pair with a lower id possible. So all occurrences of the best pair of a word can be merged at once.
3. A pair can be merged before it is the best if no merge with a lower id uses its left part on the right or its right
   part on the left (`_early_merges`): nothing that happens before its turn can take its parts.
"""

import dataclasses
import io
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from trellis.components.errors import InputError, first_line
from trellis.components.text.templates import Lookup
from trellis.components.text.vectorizer import normalize
from trellis.components.types import Strings, Tensor

PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
SPACE = "▁"  # how pieces write the space
UNKNOWN_TEXT = "⁇"  # what the unknown piece is in text


@dataclasses.dataclass(frozen=True)
class SubwordModel:
    """Subwords learned from a corpus.

    Attributes:
        pieces: every piece in the order of ids: `SPECIAL`, then the 256 bytes `<0x00>` … `<0xFF>` if there is byte
            fallback, then merged pieces from the first merge to the last, then characters. `▁` is a space.
        byte_fallback: whether characters that are no piece become their UTF-8 bytes; else runs of them become one
            unknown piece.
        case: `keep`, `lower`, or `turkish`, see `trellis.components.text.vectorizer.normalize`.
    """

    pieces: tuple[str, ...]
    byte_fallback: bool
    case: str = "keep"

    @property
    def ids(self) -> dict[str, int]:
        """The ids of the pieces that are made of characters, in ascending order."""
        first = len(SPECIAL) + 256 * self.byte_fallback
        return {piece: index for index, piece in enumerate(self.pieces[first:], first)}


def learn(texts: Iterable[str], size: int, byte_fallback: bool = True, case: str = "keep") -> SubwordModel:
    """Learn byte-pair encoding from texts, deterministically.

    Args:
        texts: the texts of the training part.
        size: the number of pieces, or fewer if the texts do not have as many.
        byte_fallback: see `SubwordModel`.
        case: see `SubwordModel`.
    """
    import sentencepiece  # from the extra `train`, while exports and restored models must work without it

    processor = sentencepiece.SentencePieceProcessor(
        model_proto=train_sentencepiece(texts if case == "keep" else _normalized(texts, case), size, byte_fallback)
    )
    pieces = tuple(processor.id_to_piece(index) for index in range(processor.get_piece_size()))
    return SubwordModel(pieces, byte_fallback, case)


def train_sentencepiece(texts: Iterable[str | bytes], size: int, byte_fallback: bool) -> bytes:
    """Return a serialized model of sentencepiece that keeps text as it is; see `learn`."""
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            hard_vocab_limit=False,
            byte_fallback=byte_fallback,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            required_chars=SPACE,
            max_sentence_length=2**30,  # longer lines are left out
            pad_id=PAD,
            unk_id=UNKNOWN,
            bos_id=BEGIN,
            eos_id=END,
            minloglevel=2,
        )
    except RuntimeError as error:
        if "sentences_.empty()" in str(error):
            raise InputError("subwords cannot be learned: there is no text") from None
        too_small = re.search(rf"{size} vs (\d+)", str(error))
        if too_small:
            raise InputError(
                f"{size} subwords are too few: single characters{' and bytes' * byte_fallback} are {too_small[1]}"
            ) from None
        raise InputError(f"subwords cannot be learned: {first_line(error)}") from None
    return model.getvalue()


def _normalized(texts: Iterable[str], case: str) -> list[bytes]:
    return normalize(tf.constant(list(texts), tf.string), case, "keep").numpy().tolist()


def piece_parts(ids: Mapping[str, int]) -> dict[int, tuple[int, int]]:
    """Return the two pieces that each merged piece is made of; without the pieces that no text is encoded to.

    Args:
        ids: the ids of pieces; the lower, the earlier they are merged.
    """
    parts: dict[int, tuple[int, int]] = {}
    none = max(ids.values(), default=0) + 1
    for piece, index in ids.items():
        symbols = list(piece)
        last = ("", "")
        while len(symbols) > 1:
            pairs = [ids.get(left + right, none) for left, right in itertools.pairwise(symbols)]
            best = min(pairs)
            if best == none:
                break
            position = pairs.index(best)
            last = symbols[position], symbols[position + 1]
            symbols[position : position + 2] = ["".join(last)]
        if symbols == [piece] and len(piece) > 1:
            parts[index] = ids[last[0]], ids[last[1]]
    return parts


class Subwords(tf.Module):
    """Encode texts as ids of subwords, and decode them, in graph.

    The ids are those of sentencepiece for valid UTF-8, except that `▁` (U+2581) in a text is a character like others,
    not a space; it is encoded as its bytes, or unknown. Malformed UTF-8 is read as U+FFFD. With byte fallback,
    `decode(encode(text))` is the text, whatever its spaces.

    Args:
        model: the learned subwords.

    Attributes:
        size: the number of pieces.
    """

    def __init__(self, model: SubwordModel) -> None:
        super().__init__(name="subwords")
        self.model = model
        self.size = len(model.pieces)
        ids = model.ids
        parts = piece_parts(ids)
        if any(part > index for index, pair in parts.items() for part in pair if part in parts):
            raise ValueError("a piece is merged before its parts: the ids are not in the order of merges")
        texts = {piece.replace(SPACE, " "): index for piece, index in ids.items()}
        characters = {ord(text): index for text, index in texts.items() if len(text) == 1}
        self._characters = _table(characters, tf.int32, UNKNOWN)
        self._whole_words = _table(
            {text: index for text, index in texts.items() if index in parts or len(text) == 1},
            tf.string,
            UNKNOWN,
        )
        # The default is larger than all ids.
        self._merges = _table(
            {left * self.size + right: index for index, (left, right) in parts.items()}, tf.int64, self.size
        )
        with tf.device("CPU"):
            self._early = tf.constant(_early_merges(parts, self.size))
            self._texts = tf.constant(_texts(model))
            self._pieces = tf.constant(["", *model.pieces[1:]])

    def encode(self, texts: Strings) -> tf.RaggedTensor:
        """Return the ids of texts.

        Args:
            texts: `(batch,)` strings.

        Returns:
            `(batch, pieces)` ragged int32, without `BEGIN` and `END`; an empty text has no pieces.
        """
        with tf.device("CPU"):  # where the tables are: a GPU would only wait for them
            texts = normalize(tf.convert_to_tensor(texts, tf.string), self.model.case, "keep")
            words = tf.strings.split(texts, " ")
            # An empty text is split into one empty word, which must not become a space.
            spaces = tf.gather(tf.where(texts == "", "", " "), words.value_rowids())
            distinct, indices = tf.unique(tf.strings.join([spaces, words.values]))
            encoded = tf.gather(self._merge(self._first_symbols(distinct)), indices)
            splits = tf.gather(encoded.row_splits, words.row_splits)
            return tf.RaggedTensor.from_row_splits(encoded.values, splits, validate=False)

    def _first_symbols(self, words: Strings) -> tf.RaggedTensor:
        """Return words as the pieces that they are, or else as their characters, `(words, symbols)` ragged int32.

        Args:
            words: `(words,)` strings that begin with a space.
        """
        whole = self._whole_words.lookup(words)
        codes = tf.strings.unicode_decode(tf.where(whole == UNKNOWN, words, " "), "UTF-8")
        rows = codes.value_rowids()
        symbols = tf.gather(whole, rows)
        symbols = tf.where(symbols == UNKNOWN, self._characters.lookup(codes.values), symbols)
        unknown = symbols == UNKNOWN
        if self.model.byte_fallback:
            sizes = tf.where(unknown, utf8_size(codes.values), 1)
            sources = tf.repeat(tf.range(tf.size(symbols)), sizes)
            offsets = tf.range(tf.size(sources)) - tf.gather(tf.cumsum(sizes, exclusive=True), sources)
            bytes_ = len(SPECIAL) + utf8_byte(tf.gather(codes.values, sources), tf.gather(sizes, sources), offsets)
            symbols = tf.where(tf.gather(unknown, sources), bytes_, tf.gather(symbols, sources))
            rows = tf.gather(rows, sources)
        else:
            # Runs of unknown characters become one unknown piece.
            follows = tf.concat([[False], unknown[1:] & unknown[:-1] & (rows[1:] == rows[:-1])], axis=0)
            kept = tf.where(~follows[: tf.size(unknown)])[:, 0]
            symbols, rows = tf.gather(symbols, kept), tf.gather(rows, kept)
        return tf.RaggedTensor.from_value_rowids(symbols, rows, codes.nrows(), validate=False)

    def _merge(self, words: tf.RaggedTensor) -> tf.RaggedTensor:
        """Merge the symbols of words into pieces, `(words, symbols)` to `(words, pieces)` ragged int32."""

        def possible(symbols: Tensor, rows: Tensor) -> Tensor:
            """Return what each symbol can become together with the next one, `self.size` for nothing."""
            keys = tf.cast(symbols, tf.int64)
            keys = tf.where(rows[1:] == rows[:-1], keys[:-1] * self.size + keys[1:], -1)
            return self._merges.lookup(keys)

        def step(symbols: Tensor, rows: Tensor, merged: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            best = tf.gather(tf.math.segment_min(merged, rows[:-1]), rows[:-1])
            chosen = ((merged == best) & (merged < self.size)) | tf.gather(self._early, merged)
            chosen = _without_overlaps(chosen)
            symbols = tf.concat([tf.where(chosen, merged, symbols[:-1]), symbols[-1:]], axis=0)
            kept = tf.where(tf.concat([[True], ~chosen], axis=0))[:, 0]
            symbols, rows = tf.gather(symbols, kept), tf.gather(rows, kept)
            return symbols, rows, possible(symbols, rows)

        symbols, rows = words.values, words.value_rowids()
        symbols, rows, _ = tf.while_loop(
            lambda symbols, rows, merged: tf.reduce_any(merged < self.size),
            step,
            (symbols, rows, possible(symbols, rows)),
            shape_invariants=(tf.TensorShape([None]),) * 3,
            parallel_iterations=1,
        )
        return tf.RaggedTensor.from_value_rowids(symbols, rows, words.nrows(), validate=False)

    def decode(self, ids: Tensor) -> Strings:
        """Return the texts of ids.

        Args:
            ids: `(..., time)` int32. `PAD` and `BEGIN` have no text, and `END` ends a row.

        Returns:
            `(...)` strings of valid UTF-8; unknown pieces are `UNKNOWN_TEXT`.
        """
        with tf.device("CPU"):
            ended = tf.cumsum(tf.cast(ids == END, tf.int32), axis=-1) > 0
            text = tf.strings.reduce_join(tf.gather(self._texts, tf.where(ended, PAD, ids)), axis=-1)
            # Bytes need not be in an order that is UTF-8.
            return tf.strings.unicode_transcode(tf.strings.regex_replace(text, "^ ", ""), "UTF-8", "UTF-8")

    def pieces_of(self, ids: Tensor) -> Strings:
        """Return the pieces of ids, strings in the shape of `ids`; `PAD` is the empty string."""
        with tf.device("CPU"):
            return tf.gather(self._pieces, ids)


def _table(entries: Mapping[Any, int], keys: tf.DType, default: int) -> Lookup:
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(list(entries), keys), tf.constant(list(entries.values()), tf.int32)
    )
    return tf.lookup.StaticHashTable(initializer, default)


def _early_merges(parts: Mapping[int, tuple[int, int]], size: int) -> np.ndarray:
    """Return whether each piece may be merged before its turn, `(size + 1,)` booleans; see the module."""
    as_left, as_right = np.full(size, size), np.full(size, size)  # the best piece that each piece is a part of
    for index, (left, right) in parts.items():
        as_left[left] = min(as_left[left], index)
        as_right[right] = min(as_right[right], index)
    early = np.zeros(size + 1, bool)
    for index, (left, right) in parts.items():
        early[index] = as_right[left] >= index and as_left[right] >= index
    return early


def _texts(model: SubwordModel) -> list[bytes]:
    """Return the text of each piece."""
    special = [b"", UNKNOWN_TEXT.encode(), b"", b""]
    byte_values = [bytes([value]) for value in range(256)] if model.byte_fallback else []
    return special + byte_values + [piece.replace(SPACE, " ").encode() for piece in model.ids]


def _without_overlaps(chosen: Tensor) -> Tensor:
    """Drop every second pair of each run of adjacent pairs, `(pairs,)` booleans: they share a symbol."""

    def every_other() -> Tensor:
        starts = chosen & ~tf.concat([[False], chosen[:-1]], axis=0)
        positions = tf.range(tf.size(chosen))
        runs = tf.concat([[0], tf.boolean_mask(positions, starts)], axis=0)
        offsets = positions - tf.gather(runs, tf.cumsum(tf.cast(starts, tf.int32)))
        return chosen & (offsets % 2 == 0)

    return tf.cond(tf.reduce_any(chosen[1:] & chosen[:-1]), every_other, lambda: chosen)


def utf8_size(codes: Tensor) -> Tensor:
    """Return the number of bytes of Unicode characters in UTF-8, int32."""
    return 1 + sum(tf.cast(codes >= first, tf.int32) for first in (0x80, 0x800, 0x10000))


def utf8_byte(codes: Tensor, sizes: Tensor, offsets: Tensor) -> Tensor:
    """Return the byte at an offset in the UTF-8 form of Unicode characters, int32; `sizes` are from `utf8_size`."""
    bits = tf.bitwise.right_shift(codes, 6 * (sizes - 1 - offsets))
    first = tf.gather([0, 0, 0xC0, 0xE0, 0xF0], sizes) + bits
    return tf.where(offsets == 0, first, 0x80 + bits % 64)
