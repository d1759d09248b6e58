"""Number the word pairs that co-occur in a bitext, and turn its sentence pairs into batches of these numbers."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trellis.components.alignment.array_store import ArrayStore
from trellis.components.alignment.token_pairs import Chunk
from trellis.components.text.batching import without_autotuning
from trellis.components.types import Dataset, FilePath, Tensor

UNSORTED = 2**22  # keys that may wait before they are merged with the sorted ones


class ClassPairs(NamedTuple):
    """Words, or classes of words, and which of them co-occur.

    Attributes:
        source_class: the class of each source word, `(words,)`.
        target_class: the class of each target word, `(words,)`.
        source: the source class of each pair of classes that co-occur, `(class pairs,)`.
        target: the target class of each pair of classes that co-occur, `(class pairs,)`.
        pair: the index of the pair of classes of each pair of words, `(pairs,)`; None if the classes are the words.
        source_count: how often each source class occurs, `(classes,)`.
        target_count: how often each target class occurs, `(classes,)`.
    """

    source_class: np.ndarray
    target_class: np.ndarray
    source: np.ndarray
    target: np.ndarray
    pair: np.ndarray | None
    source_count: np.ndarray
    target_count: np.ndarray


class _LocalBatch(NamedTuple):
    """A batch whose word pairs are numbered within the batch.

    Attributes:
        keys: the key of each distinct pair, ascending.
        pairs: the index into `keys` of each cell, `(tokens, source)`.
        arrays: the other arrays of the batch, without rows of padding.
        rows: the number of rows with padding.
    """

    keys: np.ndarray
    pairs: np.ndarray
    arrays: dict[str, np.ndarray]
    rows: int


class CoOccurrence:
    """A bitext as batches of indices of word pairs.

    Args:
        chunks: the sentence pairs; a batch holds sentences of one chunk.
        source_words: the size of the source vocabulary.
        target_words: the size of the target vocabulary.
        cells: the maximum number of cells (pairs of words of a sentence pair) of a batch, with padding; a larger
            sentence pair is a batch of its own. XLA compiles each shape of batches; if `cells` has many divisors, few
            shapes suffice.
        folder: see `ArrayStore`; with one, memory grows with the word pairs that co-occur but not with the sentences.

    Attributes:
        words: the words and which of them co-occur; pairs are numbered by the first batch that holds them, frequent
            words first.
        batches: int32 arrays, or tensors if they are in memory: `sources (batch, source)`, `source_lengths` and
            `target_lengths (batch,)`; and one row for each target word of all sentences, concatenated: `targets
            (tokens,)`, the sentence of each, `sentences (tokens,)`, and its pairs with the words of that sentence,
            `pairs (tokens, source)`. The last rows may be padding, in the last sentence; there, and right of a
            sentence's words, an id is one past the last.
        chunks: the range of the batches of each chunk.
        tokens: the number of words of both sides.
        cells: the number of pairs of words of the sentence pairs.
        lengths: `{(source length, target length), …}` of all sentence pairs.
    """

    def __init__(
        self,
        chunks: Iterable[Chunk],
        source_words: int,
        target_words: int,
        cells: int = 2**20,
        folder: FilePath | None = None,
    ) -> None:
        self._sizes, self._in_memory = (source_words, target_words), folder is None
        self.batches: ArrayStore[dict[str, Any]] = ArrayStore(folder)
        self._rows: ArrayStore[np.ndarray] = ArrayStore(folder)
        self.chunks: list[range] = []
        self.tokens, self.cells = 0, 0
        self.lengths: set[tuple[int, int]] = set()
        counts = np.zeros(source_words, np.int64), np.zeros(target_words, np.int64)
        local: ArrayStore[_LocalBatch] = ArrayStore(folder)
        distinct = _DistinctKeys()
        for chunk in chunks:
            first = len(local)
            for rows, batch in self._local_batches(chunk, cells):
                distinct.add(batch.keys)
                local.append(batch)
                self._rows.append(chunk.rows[rows])
            self.chunks.append(range(first, len(local)))
            for count, ids in zip(counts, (chunk.source, chunk.target), strict=True):
                count += np.bincount(ids, minlength=len(count))
                self.tokens += len(ids)
            lengths = list(zip(chunk.source_lengths.tolist(), chunk.target_lengths.tolist(), strict=True))
            self.cells += sum(source_length * target_length for source_length, target_length in lengths)
            self.lengths.update(lengths)
        keys = distinct.keys()
        keys = keys[: np.searchsorted(keys, source_words * target_words)]  # without padding
        source, target = (ids.astype(np.int32) for ids in np.divmod(keys, target_words))
        order = self._number_pairs(local.drain(), keys, np.minimum(counts[0][source], counts[1][target]))
        self.words = ClassPairs(
            np.arange(source_words, dtype=np.int32),
            np.arange(target_words, dtype=np.int32),
            source[order],
            target[order],
            None,
            *counts,
        )

    def _local_batches(self, chunk: Chunk, cells: int) -> Iterator[tuple[np.ndarray, _LocalBatch]]:
        """Yield the rows of the chunk that form a batch, and the batch."""
        source_starts, target_starts = (
            np.cumsum(lengths, dtype=np.int64) - lengths for lengths in (chunk.source_lengths, chunk.target_lengths)
        )
        for rows, length, width in _groups(chunk.source_lengths, chunk.target_lengths, cells):
            arrays = self._arrays(rows, width, chunk, source_starts, target_starts)
            sources = arrays["sources"][arrays["sentences"]]
            targets = np.broadcast_to(arrays["targets"][:, None], sources.shape)
            # Numbering pairs within the batch first keeps what has to be sorted small.
            keys, pairs = _distinct_pairs(sources.ravel(), targets.ravel(), self._sizes)
            yield rows, _LocalBatch(keys, pairs.reshape(sources.shape), arrays, length)

    def _arrays(
        self, rows: np.ndarray, width: int, chunk: Chunk, source_starts: np.ndarray, target_starts: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the arrays of a batch other than `pairs`, without rows of padding."""
        source_lengths, target_lengths = chunk.source_lengths[rows], chunk.target_lengths[rows]
        columns = np.arange(width)
        real = columns < source_lengths[:, None]
        positions = np.where(real, source_starts[rows, None] + columns, 0)
        sentences = np.repeat(np.arange(len(rows), dtype=np.int32), target_lengths)
        first_rows = np.cumsum(target_lengths) - target_lengths
        offsets = np.arange(len(sentences)) - np.repeat(first_rows, target_lengths)
        return {
            "sources": np.where(real, chunk.source[positions], self._sizes[0]).astype(np.int32),
            "targets": chunk.target[np.repeat(target_starts[rows], target_lengths) + offsets],
            "sentences": sentences,
            "source_lengths": source_lengths,
            "target_lengths": target_lengths,
        }

    def _number_pairs(self, local: Iterable[_LocalBatch], keys: np.ndarray, frequency: np.ndarray) -> np.ndarray:
        """Renumber pairs across batches, append the batches, and return the keys' indices in their new order.

        The pairs of a batch, and among them the frequent ones, get consecutive numbers, so that a processor's cache
        holds the table entries that are looked up together.

        Args:
            local: the batches.
            keys: the distinct keys of all batches, ascending.
            frequency: of each key.
        """
        numbers, numbered = np.full(len(keys) + 1, -1, np.int32), 0
        numbers[-1] = len(keys)
        for batch in local:
            indices = np.searchsorted(keys, batch.keys).clip(max=len(keys))
            new = indices[numbers[indices] < 0]
            numbers[new[np.argsort(-frequency[new], kind="stable")]] = np.arange(numbered, numbered + len(new))
            numbered += len(new)
            arrays: dict[str, Any] = {
                **batch.arrays,
                "targets": _pad_rows(batch.arrays["targets"], batch.rows, self._sizes[1]),
                "sentences": _pad_rows(batch.arrays["sentences"], batch.rows, batch.arrays["sentences"][-1]),
                "pairs": _pad_rows(numbers[indices][batch.pairs], batch.rows, len(keys)),
            }
            if self._in_memory:  # tensors need not be copied in every epoch
                arrays = {name: tf.constant(values) for name, values in arrays.items()}
            self.batches.append(arrays)
        return np.argsort(numbers[:-1])

    def rows(self, index: int) -> np.ndarray:
        """Return the rows of the bitext that a batch holds, `(batch,)`."""
        return self._rows[index]

    def batches_with(self, rows: Iterable[int]) -> list[int]:
        """Return the indices of the batches that hold any of these rows of the bitext, ascending."""
        ids = np.fromiter(rows, np.int64)
        return [index for index, batch_rows in enumerate(self._rows) if np.isin(batch_rows, ids).any()]

    def class_pairs(self, source_class: np.ndarray, target_class: np.ndarray) -> ClassPairs:
        """Return which classes of words co-occur.

        Args:
            source_class: the class of each source word, counted from 0, `(words,)`.
            target_class: the class of each target word, counted from 0, `(words,)`.
        """
        words = self.words
        sizes = int(source_class.max()) + 1, int(target_class.max()) + 1
        keys, pair = _distinct_pairs(source_class[words.source], target_class[words.target], sizes)
        source, target = (ids.astype(np.int32) for ids in np.divmod(keys, sizes[1]))
        return ClassPairs(
            source_class,
            target_class,
            source,
            target,
            pair,
            np.bincount(source_class, words.source_count),
            np.bincount(target_class, words.target_count),
        )

    def dataset(self) -> Dataset:
        """Return a dataset of all batches in order."""
        spec = {name: tf.TensorSpec([None] * values.ndim, tf.int32) for name, values in self.batches[0].items()}
        if self._in_memory:
            lists = {name: _tensor_list(batch[name] for batch in self.batches) for name in spec}
            dataset = tf.data.Dataset.range(len(self.batches), output_type=tf.int32)
            dataset = dataset.map(
                lambda index: {name: _list_item(lists[name], index, spec[name].shape) for name in spec}
            )
            return without_autotuning(dataset)
        dataset = tf.data.Dataset.from_generator(lambda: iter(self.batches), output_signature=spec)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(self.batches)))
        return without_autotuning(dataset).prefetch(1)


def _tensor_list(tensors: Iterable[Tensor]) -> Tensor:
    """Return one tensor that holds tensors of several shapes; `_list_item` reads them without copying."""
    handle = tf.raw_ops.EmptyTensorList(element_shape=-1, max_num_elements=-1, element_dtype=tf.int32)
    for tensor in tensors:
        handle = tf.raw_ops.TensorListPushBack(input_handle=handle, tensor=tensor)
    return handle


def _list_item(handle: Tensor, index: Tensor, shape: tf.TensorShape) -> Tensor:
    tensor = tf.raw_ops.TensorListGetItem(input_handle=handle, index=index, element_shape=-1, element_dtype=tf.int32)
    return tf.ensure_shape(tensor, shape)


class _DistinctKeys:
    """The distinct keys of many arrays. Keys that wait to be merged never take much more memory than merged ones."""

    def __init__(self) -> None:
        self._keys = np.zeros(0, np.int64)
        self._waiting: list[np.ndarray] = []
        self._size = 0

    def add(self, keys: np.ndarray) -> None:
        """Add keys."""
        self._waiting.append(keys)
        self._size += len(keys)
        if self._size > max(len(self._keys), UNSORTED):
            self.keys()

    def keys(self) -> np.ndarray:
        """Return all distinct keys, ascending."""
        merged = np.sort(np.concatenate([self._keys, *self._waiting]))
        self._keys, self._waiting, self._size = merged[np.append(True, merged[1:] != merged[:-1])], [], 0
        return self._keys


def _groups(
    source_lengths: np.ndarray, target_lengths: np.ndarray, cells: int
) -> Iterator[tuple[np.ndarray, int, int]]:
    """Group sentence pairs of similar lengths, as many as have at most `cells` cells with their padding.

    Yields:
        the rows of the group in the chunk, and the shape of their batch's cells: if possible with exactly `cells`
        cells, or a half, a quarter … of them, so that there are few shapes.
    """
    widths = _widths(source_lengths, cells)
    order = np.lexsort((target_lengths, widths)).astype(np.int32)
    widths, tokens = widths[order], np.cumsum(target_lengths[order], dtype=np.int64)
    start, done = 0, 0
    while start < len(order):
        # Widths ascend: if the group of the sentences up to one is too large, so is every larger group.
        end = start + max(1, int(np.searchsorted((tokens[start:] - done) * widths[start:], cells, side="right")))
        width, count = int(widths[end - 1]), int(tokens[end - 1] - done)
        rows = count if cells % width else cells // width
        while rows % 2 == 0 and rows // 2 >= count:
            rows //= 2
        yield order[start:end], max(rows, count), width
        start, done = end, int(tokens[end - 1])


def _widths(lengths: np.ndarray, cells: int) -> np.ndarray:
    """Return the width of each sentence's batch: its length, or a divisor of `cells` that is only a little larger."""
    longest = int(lengths.max(initial=0))
    divisors = np.array([divisor for divisor in range(1, 2 * longest) if cells % divisor == 0], np.int64)
    wider = divisors[np.searchsorted(divisors, lengths).clip(max=len(divisors) - 1)]
    return np.where((wider >= lengths) & (wider <= 1.125 * lengths), wider, lengths)


def _pad_rows(values: np.ndarray, rows: int, padding: int) -> np.ndarray:
    padded = np.full((rows, *values.shape[1:]), padding, np.int32)
    padded[: len(values)] = values
    return padded


def _distinct_pairs(source: np.ndarray, target: np.ndarray, sizes: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct keys `source * sizes[1] + target`, ascending, and the index of each pair's key among them.

    This is a counting sort in two passes, done by converting a sparse matrix from rows to columns: faster than sorting
    by comparisons.
    """
    import scipy.sparse  # from the extra `train`, while layers that need only the types above must work without it

    order = np.arange(len(source), dtype=np.int32)
    matrix = scipy.sparse.coo_matrix((order, (target, source)), shape=(sizes[1], sizes[0] + 1))
    matrix.has_canonical_format = True  # otherwise scipy would sum equal pairs
    columns = matrix.tocsr().tocsc()
    order, target = columns.data, columns.indices
    source = np.repeat(np.arange(sizes[0] + 1, dtype=np.int64), np.diff(columns.indptr))
    keys = source * sizes[1] + target
    new = np.append(True, keys[1:] != keys[:-1])
    indices = np.empty(len(keys), np.int32)
    indices[order] = np.cumsum(new, dtype=np.int32) - 1
    return keys[new], indices
