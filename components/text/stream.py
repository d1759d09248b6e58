"""Running text as one stream of ids, cut into segments or lines for language models."""

import abc
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from trellis.components import workers
from trellis.components.readers.running_text import Document
from trellis.components.text.batching import Corpus, without_autotuning
from trellis.components.text.vectorizer import TokenVectorizer, ranked_words
from trellis.components.types import Dataset, Tensor

BOUNDARY = 2  # id of the end of a line
LINE_ENDS = {"words": "</s>", "characters": "\n"}  # its text, by unit
UNKNOWN_WORD = "<unk>"
_STEPS = 32  # segments that are read from disk at a time


def vocabulary(
    counts: Mapping[str, int],
    unit: str,
    case: str = "keep",
    digits: str = "keep",
    min_count: int = 1,
    keep: Iterable[str] = (),
) -> TokenVectorizer:
    """Return a vectorizer whose id 2 is the end of a line; `<unk>` in the text is the unknown word.

    Args:
        counts: how often each token occurs, in the order in which they first do.
        unit: `words` or `characters`.
        case: see `TokenVectorizer`.
        digits: see `TokenVectorizer`.
        min_count: words that occur less often become unknown words.
        keep: words to keep however rare they are.
    """
    end = LINE_ENDS[unit]
    ranked = ranked_words(counts, case, digits, min_count, keep)
    words = [end, *(word for word in ranked if word not in (end, UNKNOWN_WORD))]
    return TokenVectorizer(words, (), case, digits, features=("words",))


def spellings(vectorizer: TokenVectorizer) -> list[str]:
    """Return the text of each id; padding is empty."""
    return ["", UNKNOWN_WORD, *vectorizer.words]


class TextStream(abc.ABC):
    """A text as one run of ids, including the end of each line.

    Attributes:
        documents: the position at which each document begins.
        in_memory: whether ids are in memory, so that reading all of them at once costs nothing.
    """

    documents: np.ndarray
    in_memory: bool

    @property
    @abc.abstractmethod
    def ids(self) -> np.ndarray:
        """All ids, `(tokens,)` int32, line ends included."""

    @property
    @abc.abstractmethod
    def lines(self) -> np.ndarray:
        """The position at which each line begins."""

    @property
    @abc.abstractmethod
    def characters(self) -> int:
        """The number of characters of the text as written, including line ends and spaces between words."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def at(self, positions: np.ndarray) -> np.ndarray:
        """Return the ids at positions, int32 in their shape."""

    @abc.abstractmethod
    def counts(self, size: int) -> np.ndarray:
        """Return how often each of `size` ids occurs, `(size,)`."""

    def before(self, starts: np.ndarray) -> np.ndarray:
        """Return the id before each token, `(tokens,)`; the boundary at each position in `starts`."""
        before = np.concatenate([[BOUNDARY], self.ids[:-1]]).astype(np.int32)
        before[starts] = BOUNDARY
        return before


class Stream(TextStream):
    """A text in memory as one run of ids.

    Args:
        documents: documents of lines of tokens, see `trellis.components.readers.running_text`.
        vectorizer: from `vocabulary`.
        unit: `words` or `characters`.
        backwards: whether to read each document from its end to its beginning.
    """

    in_memory = True

    def __init__(
        self, documents: Iterable[Document], vectorizer: TokenVectorizer, unit: str, backwards: bool = False
    ) -> None:
        indices: dict[str, int] = {}
        stream: list[int] = []  # indices of distinct tokens; -1 at the end of a line
        line_starts, document_starts = [], []
        spaces = 0
        for document in documents:
            document_starts.append(len(stream))
            for line in reversed(document) if backwards else document:
                line_starts.append(len(stream))
                stream += [indices.setdefault(token, len(indices)) for token in (line[::-1] if backwards else line)]
                stream.append(-1)
                spaces += max(len(line) - 1, 0)
        ids = vectorizer.word_ids(tf.constant(list(indices), tf.string)).numpy() if indices else np.zeros(0, np.int32)
        # Index -1 selects the additional last entry.
        self._ids: np.ndarray = np.append(ids, BOUNDARY).astype(np.int32)[np.array(stream)]
        self._lines, self.documents = np.array(line_starts), np.array(document_starts)
        sizes = np.array([len(token) for token in indices] + [0])[np.array(stream)].sum()
        self._characters = int(sizes) + (0 if unit == "characters" else spaces) + len(line_starts)

    @property
    def ids(self) -> np.ndarray:
        """All ids."""
        return self._ids

    @property
    def lines(self) -> np.ndarray:
        """Where lines begin."""
        return self._lines

    @property
    def characters(self) -> int:
        """The number of characters."""
        return self._characters

    def __len__(self) -> int:
        return len(self._ids)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Return the ids at positions."""
        return self._ids[positions]

    def counts(self, size: int) -> np.ndarray:
        """Return how often each id occurs."""
        return np.bincount(self._ids, minlength=size)


class Segments:
    """A stream in rows that are read in parallel, cut into segments of equal length; documents begin new segments.

    In each row, the segment of a step continues the one of the previous step, so that states can be carried over. A
    segment that ends a document is filled up with padding. Segments are computed when they are read, so that a stream
    on disk takes no memory.

    Args:
        stream: the text.
        rows: the number of rows.
        length: the number of time steps of a segment.

    Attributes:
        steps: the number of segments of the longest row.
    """

    def __init__(self, stream: TextStream, rows: int, length: int) -> None:
        self._stream, self._rows, self._length = stream, rows, length
        row_length = -(-len(stream) // rows)
        # Pieces of the stream that are in one row and one document.
        self._begins = np.union1d(np.arange(0, len(stream), row_length), stream.documents)
        self._ends = np.append(self._begins[1:], len(stream))
        self._opens_document = np.isin(self._begins, stream.documents)
        # Segments are numbered through the pieces; the number after each piece, and those of each row.
        self._last = np.cumsum(-(-(self._ends - self._begins) // length))
        first_piece = np.searchsorted(self._begins // row_length, np.arange(rows + 1))
        bounds = np.append(0, self._last)[first_piece]
        self._row_begins, row_sizes = bounds[:-1], np.diff(bounds)
        self._row_sizes = row_sizes
        self.steps = int(row_sizes.max())

    def _segments(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return, for the steps from `first` up to `last`, `(steps, rows)` each:

        the position at which each segment begins, its number of tokens (0 where a row has no segment), whether the
        state must be reset before it, and whether a document begins with it.
        """
        step = np.arange(first, last)[:, np.newaxis]
        real = step < self._row_sizes
        number = np.where(real, self._row_begins + step, 0)
        piece = np.searchsorted(self._last, number, side="right")
        within = number - np.append(0, self._last)[piece]
        begins = self._begins[piece] + within * self._length
        sizes = np.where(real, np.minimum(self._ends[piece] - begins, self._length), 0)
        return begins, sizes, (within == 0) | ~real, (within == 0) & self._opens_document[piece]

    def positions_of(self, first: int, last: int) -> np.ndarray:
        """Return the position of each target in the stream, `(last - first, rows, length)`; -1 at padding."""
        begins, sizes, _, _ = self._segments(first, last)
        offsets = np.arange(self._length)
        return np.where(offsets < sizes[..., np.newaxis], begins[..., np.newaxis] + offsets, -1)

    def arrays(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the steps from `first` up to `last`.

        Returns:
            ids that are read, `(last - first, rows, length)` int32, padding 0; whether the state must be reset before a
            segment, `(last - first, rows)` booleans; ids to predict, like those that are read.
        """
        begins, sizes, resets, opens = self._segments(first, last)
        offsets = np.arange(self._length + 1)
        real = offsets[:-1] < sizes[..., np.newaxis]
        # One more token, the one before the segment.
        positions = np.clip(begins[..., np.newaxis] + offsets - 1, 0, len(self._stream) - 1)
        ids = self._stream.at(positions)
        ids[..., 0] = np.where(opens, BOUNDARY, ids[..., 0])
        return np.where(real, ids[..., :-1], 0), resets, np.where(real, ids[..., 1:], 0)

    @cached_property
    def _all(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.arrays(0, self.steps)

    @property
    def inputs(self) -> np.ndarray:
        """The ids that are read, `(steps, rows, length)`, see `arrays`."""
        return self._all[0]

    @property
    def starts(self) -> np.ndarray:
        """Whether the state must be reset before a segment, `(steps, rows)`."""
        return self._all[1]

    @property
    def targets(self) -> np.ndarray:
        """The ids to predict, `(steps, rows, length)`."""
        return self._all[2]

    @property
    def positions(self) -> np.ndarray:
        """The position of each target in the stream, `(steps, rows, length)`; -1 at padding."""
        return self.positions_of(0, self.steps)

    def steps_of_positions(self) -> Iterator[np.ndarray]:
        """Yield the positions of each step, `(rows, length)`."""
        for first in range(0, self.steps, _STEPS):
            yield from self.positions_of(first, min(first + _STEPS, self.steps))

    def dataset(self) -> Dataset:
        """Return a dataset of `({"tokens", "starts"}, targets)` of each step, in order."""
        return self._dataset(np.arange(self._rows))

    def training_dataset(self) -> Dataset:
        """Return the same dataset of this worker's share of the rows, where several train together."""
        return self._dataset(workers.share(np.arange(self._rows)))

    def _dataset(self, rows: np.ndarray) -> Dataset:
        """Return the dataset of some rows; -1 is a row of padding."""
        whole = len(rows) == self._rows and bool((rows >= 0).all())

        def chosen(arrays: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
            inputs, starts, targets = arrays
            if not whole:
                inputs, targets = (np.where(rows[:, np.newaxis] >= 0, ids[:, rows], 0) for ids in (inputs, targets))
                starts = starts[:, rows]
            return {"tokens": inputs, "starts": starts}, targets

        if self._stream.in_memory:
            dataset = tf.data.Dataset.from_tensor_slices(chosen(self._all))
        else:
            # Python is called once for many steps, while the ones before are trained on.
            tokens = tf.TensorSpec([None, len(rows), self._length], tf.int32)
            signature = {"tokens": tokens, "starts": tf.TensorSpec([None, len(rows)], tf.bool)}, tokens
            blocks = tf.data.Dataset.from_generator(
                lambda: (
                    chosen(self.arrays(first, min(first + _STEPS, self.steps)))
                    for first in range(0, self.steps, _STEPS)
                ),
                output_signature=signature,
            )
            dataset = blocks.prefetch(1).unbatch()
        cardinality = tf.data.experimental.assert_cardinality(self.steps)
        return without_autotuning(dataset).apply(cardinality).prefetch(8)


class Lines(Corpus):
    """The lines of a stream, each a sequence of its own.

    Args:
        stream: the text.

    Attributes:
        lengths: the number of tokens of each line, its end included.
        starts: the position in the stream at which each line begins.
    """

    def __init__(self, stream: TextStream) -> None:
        self._stream = stream
        self.lengths = np.diff(np.append(stream.lines, len(stream))).astype(np.int32)
        self.tokens = len(stream)
        self.starts = stream.lines
        if not stream.in_memory:
            return
        self._starts = tf.constant(stream.lines, tf.int32)
        self._lengths = tf.constant(self.lengths)
        # One more entry, for padding.
        self._ids = tf.constant(np.append(stream.ids, 0), tf.int32)
        self._before = tf.constant(np.append(stream.before(stream.lines), 0), tf.int32)

    def batch(self, rows: Tensor, time: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return `{"tokens"}`, the ids that are read, and the ids to predict, `(rows, time)` each."""
        if not self._stream.in_memory:
            tokens, targets = tf.numpy_function(self._read, [rows, time], [tf.int32, tf.int32])
            return {"tokens": tf.ensure_shape(tokens, [None, None])}, tf.ensure_shape(targets, [None, None])
        lengths = tf.where(rows >= 0, tf.gather(self._lengths, tf.maximum(rows, 0)), 0)
        positions = tf.gather(self._starts, tf.maximum(rows, 0))[:, tf.newaxis] + tf.range(time)
        positions = tf.where(tf.sequence_mask(lengths, time), positions, tf.size(self._ids) - 1)
        return {"tokens": tf.gather(self._before, positions)}, tf.gather(self._ids, positions)

    def _read(self, rows: np.ndarray, time: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return what `batch` does, from disk."""
        offsets = np.arange(time)
        real = offsets < np.where(rows >= 0, self.lengths[rows], 0)[:, np.newaxis]
        positions = np.where(real, self.starts[rows][:, np.newaxis] + offsets, 0)
        targets = np.where(real, self._stream.at(positions), 0).astype(np.int32)
        before = np.concatenate([np.full([len(rows), 1], BOUNDARY, np.int32), targets[:, :-1]], axis=1)
        return np.where(real, before, 0).astype(np.int32), targets
