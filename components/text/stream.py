"""Running text as one stream of ids, cut into segments or lines for language models."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from trellis.components import workers
from trellis.components.readers.running_text import Document
from trellis.components.text.batching import Corpus, without_autotuning
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.components.types import Dataset, Tensor

BOUNDARY = 2  # id of the end of a line
LINE_ENDS = {"words": "</s>", "characters": "\n"}  # its text, by unit
UNKNOWN_WORD = "<unk>"


def vocabulary(
    documents: Iterable[Document],
    unit: str,
    case: str = "keep",
    digits: str = "keep",
    min_count: int = 1,
    keep: Iterable[str] = (),
) -> TokenVectorizer:
    """Return a vectorizer whose id 2 is the end of a line; `<unk>` in the text is the unknown word.

    Args:
        documents: documents of lines of tokens.
        unit: `words` or `characters`.
        case: see `TokenVectorizer`.
        digits: see `TokenVectorizer`.
        min_count: words that occur less often become unknown words.
        keep: words to keep however rare they are.
    """
    tokens = (token for document in documents for line in document for token in line)
    adapted = TokenVectorizer.adapt(tokens, case, digits, features=("words",), min_count=min_count, keep=keep)
    end = LINE_ENDS[unit]
    words = [end, *(word for word in adapted.words if word not in (end, UNKNOWN_WORD))]
    return TokenVectorizer(words, (), case, digits, features=("words",))


def spellings(vectorizer: TokenVectorizer) -> list[str]:
    """Return the text of each id; padding is empty."""
    return ["", UNKNOWN_WORD, *vectorizer.words]


class Stream:
    """A text as one run of ids, including the end of each line.

    Args:
        documents: documents of lines of tokens, see `trellis.components.readers.running_text`.
        vectorizer: from `vocabulary`.
        unit: `words` or `characters`.
        backwards: whether to read each document from its end to its beginning.

    Attributes:
        ids: `(tokens,)` int32, line ends included.
        lines: the position at which each line begins.
        documents: the position at which each document begins.
        characters: the number of characters of the text as written, including line ends and spaces between words.
    """

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
        self.ids: np.ndarray = np.append(ids, BOUNDARY).astype(np.int32)[np.array(stream)]
        self.lines, self.documents = np.array(line_starts), np.array(document_starts)
        sizes = np.array([len(token) for token in indices] + [0])[np.array(stream)].sum()
        self.characters = int(sizes) + (0 if unit == "characters" else spaces) + len(line_starts)

    def __len__(self) -> int:
        return len(self.ids)

    def before(self, starts: np.ndarray) -> np.ndarray:
        """Return the id before each token, `(tokens,)`; the boundary at each position in `starts`."""
        before = np.concatenate([[BOUNDARY], self.ids[:-1]]).astype(np.int32)
        before[starts] = BOUNDARY
        return before


class Segments:
    """A stream in rows that are read in parallel, cut into segments of equal length; documents begin new segments.

    In each row, the segment of a step continues the one of the previous step, so that states can be carried over. A
    segment that ends a document is filled up with padding.

    Args:
        stream: the text.
        rows: the number of rows.
        length: the number of time steps of a segment.

    Attributes:
        inputs: ids that are read, `(steps, rows, length)` int32, padding 0.
        targets: ids to predict, `(steps, rows, length)` int32, padding 0.
        starts: whether the state must be reset before a segment, `(steps, rows)` booleans.
        positions: the position of each target in the stream, `(steps, rows, length)`; -1 at padding.
    """

    def __init__(self, stream: Stream, rows: int, length: int) -> None:
        row_length = -(-len(stream) // rows)
        starts = np.union1d(np.arange(0, len(stream), row_length), stream.documents)
        pieces: list[list[tuple[int, int, bool]]] = [[] for _ in range(rows)]
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(stream)], strict=True):
            pieces[start // row_length] += [
                (first, min(first + length, end), first == start) for first in range(start, end, length)
            ]
        steps = max(map(len, pieces))
        self.positions = np.full((steps, rows, length), -1)
        self.starts = np.ones((steps, rows), bool)
        for row, segments in enumerate(pieces):
            for step, (first, end, resets) in enumerate(segments):
                self.positions[step, row, : end - first] = np.arange(first, end)
                self.starts[step, row] = resets
        before = stream.before(stream.documents)
        real = self.positions >= 0
        self.inputs = np.where(real, before[self.positions], 0).astype(np.int32)
        self.targets = np.where(real, stream.ids[self.positions], 0).astype(np.int32)

    def dataset(self) -> Dataset:
        """Return a dataset of `({"tokens", "starts"}, targets)` of each step, in order."""
        return self._dataset(self.inputs, self.starts, self.targets)

    def training_dataset(self) -> Dataset:
        """Return the same dataset of this worker's share of the rows, where several train together."""
        own = workers.share(np.arange(self.inputs.shape[1]))
        inputs, targets = (np.where(own[:, np.newaxis] >= 0, ids[:, own], 0) for ids in (self.inputs, self.targets))
        return self._dataset(inputs, self.starts[:, own], targets)

    @staticmethod
    def _dataset(inputs: np.ndarray, starts: np.ndarray, targets: np.ndarray) -> Dataset:
        arrays = {"tokens": inputs, "starts": starts}, targets
        dataset = without_autotuning(tf.data.Dataset.from_tensor_slices(arrays))
        return dataset.apply(tf.data.experimental.assert_cardinality(len(inputs))).prefetch(8)


class Lines(Corpus):
    """The lines of a stream, each a sequence of its own.

    Args:
        stream: the text.

    Attributes:
        lengths: the number of tokens of each line, its end included.
        starts: the position in the stream at which each line begins.
    """

    def __init__(self, stream: Stream) -> None:
        self.lengths = np.diff([*stream.lines, len(stream)]).astype(np.int32)
        self.tokens = len(stream)
        self.starts = stream.lines
        self._starts = tf.constant(stream.lines, tf.int32)
        self._lengths = tf.constant(self.lengths)
        # One more entry, for padding.
        self._ids = tf.constant(np.append(stream.ids, 0), tf.int32)
        self._before = tf.constant(np.append(stream.before(stream.lines), 0), tf.int32)

    def batch(self, rows: Tensor, time: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return `{"tokens"}`, the ids that are read, and the ids to predict, `(rows, time)` each."""
        lengths = tf.where(rows >= 0, tf.gather(self._lengths, tf.maximum(rows, 0)), 0)
        positions = tf.gather(self._starts, tf.maximum(rows, 0))[:, tf.newaxis] + tf.range(time)
        positions = tf.where(tf.sequence_mask(lengths, time), positions, tf.size(self._ids) - 1)
        return {"tokens": tf.gather(self._before, positions)}, tf.gather(self._ids, positions)
