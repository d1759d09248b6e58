"""The words of a bitext that meet in a sentence pair, numbered, and the sentence pairs as batches of these numbers."""

import operator
from typing import NamedTuple

import numpy as np
import scipy.sparse
import tensorflow as tf

from trellis.components.alignment.array_store import ArrayStore
from trellis.components.text.batching import untuned

UNSORTED = 2**22  # pairs of words that wait to be merged with those that are there


class ClassPairs(NamedTuple):
    """Words, or classes of words, and which of them meet.

    Attributes:
        source_class, target_class: of each word, `(words,)`.
        source, target: classes of each pair of classes that meet, `(pairs of classes,)`.
        pair: number of the pair of classes of each pair of words, `(pairs,)`; None where the classes are the words.
        source_count, target_count: how often each class occurs, `(classes,)`.
    """

    source_class: np.ndarray
    target_class: np.ndarray
    source: np.ndarray
    target: np.ndarray
    pair: np.ndarray | None
    source_count: np.ndarray
    target_count: np.ndarray


class CoOccurrence:
    """A bitext as batches of numbers of word pairs.

    Args:
        chunks: `trellis.components.alignment.token_pairs.Chunk`s; batches hold sentences of one chunk.
        source_words, target_words: sizes of the vocabularies.
        cells: pairs of words of a batch, at most and with padding; a larger sentence pair is a batch of its own. XLA
            compiles each size of batches, and where many numbers divide `cells` few sizes are enough.
        folder: see `ArrayStore`; with one, memory grows with the pairs of words that meet but not with the sentences.

    Attributes:
        words: the `ClassPairs` of words; pairs are numbered by the first batch that holds them, frequent words first.
        batches: int32, tensors where they are in memory: `sources (batch, source)`, `source_lengths` and
            `target_lengths (batch,)`; and one row for each target word of all its sentences in turn: `targets
            (tokens,)`, the sentence they are in `sentences (tokens,)`, and their pairs with the words of that sentence
            `pairs (tokens, source)`. The last rows may be padding, in the last sentence; there, and right of a
            sentence's words, a number is one past the last.
        chunks: for each chunk the `range` of its batches.
        tokens, cells: numbers of words of both sides, and of pairs of words of a sentence pair.
        lengths: `{(source length, target length), …}` of all sentence pairs.
    """

    def __init__(self, chunks, source_words, target_words, cells=2**20, folder=None):
        self.size, self.in_memory = (source_words, target_words), folder is None
        self.batches, self._rows, self.chunks = ArrayStore(folder), ArrayStore(folder), []
        self.tokens, self.cells, self.lengths = 0, 0, set()
        counts = [np.zeros(size, np.int64) for size in self.size]
        local, every = ArrayStore(folder), _Union()
        for chunk in chunks:
            begin = len(local)
            starts = [np.cumsum(each, dtype=np.int64) - each for each in (chunk.source_lengths, chunk.target_lengths)]
            for rows, length, width in _groups(chunk.source_lengths, chunk.target_lengths, cells):
                batch = self._batch(rows, width, chunk, *starts)
                sources = batch["sources"][batch["sentences"]]
                targets = np.broadcast_to(batch["targets"][:, None], sources.shape)
                # Numbered within the batch, so that what sorting needs stays small.
                keys, number = _distinct(sources.ravel(), targets.ravel(), self.size)
                every.add(keys)
                local.append({"keys": keys, "batch": batch, "length": length, "pairs": number.reshape(sources.shape)})
                self._rows.append(chunk.rows[rows])
            self.chunks.append(range(begin, len(local)))
            for count, ids in zip(counts, (chunk.source, chunk.target), strict=True):
                count += np.bincount(ids, minlength=len(count))
                self.tokens += len(ids)
            lengths = chunk.source_lengths.tolist(), chunk.target_lengths.tolist()
            self.cells += sum(map(operator.mul, *lengths))
            self.lengths.update(zip(*lengths, strict=True))
        keys = every.keys()
        keys = keys[: np.searchsorted(keys, source_words * target_words)]  # without padding
        source, target = (each.astype(np.int32) for each in np.divmod(keys, target_words))
        order = self._number(local.emptied(), keys, np.minimum(counts[0][source], counts[1][target]))
        classes = (np.arange(size, dtype=np.int32) for size in self.size)
        self.words = ClassPairs(*classes, source[order], target[order], None, *counts)

    def _number(self, local, keys, frequency):
        """Makes batches of local ones; the keys in the order of the numbers that they get.

        What one batch looks up lies together, and in it what it looks up often, so that a processor's cache holds it.
        """
        numbers, done = np.full(len(keys) + 1, -1, np.int32), 0
        numbers[-1] = len(keys)
        for each in local:
            batch, met = each["batch"], np.searchsorted(keys, each["keys"]).clip(max=len(keys))
            new = met[numbers[met] < 0]
            numbers[new[np.argsort(-frequency[new], kind="stable")]] = np.arange(done, done + len(new))
            done += len(new)
            batch["targets"] = _filled(batch["targets"], each["length"], self.size[1])
            batch["sentences"] = _filled(batch["sentences"], each["length"], batch["sentences"][-1])
            batch["pairs"] = _filled(numbers[met][each["pairs"]], each["length"], len(keys))
            if self.in_memory:  # what is a tensor already is not copied in every epoch
                batch = {name: tf.constant(values) for name, values in batch.items()}
            self.batches.append(batch)
        return np.argsort(numbers[:-1])

    def _batch(self, rows, width, chunk, source_starts, target_starts):
        lengths = chunk.source_lengths[rows, None]
        places = np.arange(width)
        inside = places < lengths
        sources = np.where(inside, chunk.source[np.where(inside, source_starts[rows, None] + places, 0)], self.size[0])
        lengths = chunk.target_lengths[rows]
        sentences = np.repeat(np.arange(len(rows), dtype=np.int32), lengths)
        places = np.arange(len(sentences)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        targets = chunk.target[np.repeat(target_starts[rows], lengths) + places]
        lengths = {"source_lengths": chunk.source_lengths[rows], "target_lengths": lengths}
        return {"sources": sources.astype(np.int32), "targets": targets, "sentences": sentences, **lengths}

    def rows(self, number):
        """The numbers of the sentence pairs of a batch, `(batch,)`."""
        return self._rows[number]

    def holding(self, rows):
        """The numbers of the batches that hold these sentence pairs, ascending."""
        rows = np.fromiter(rows, np.int64)
        return [number for number in range(len(self.batches)) if np.isin(self.rows(number), rows).any()]

    def level(self, source_class, target_class):
        """The `ClassPairs` of classes: an id from 0 for each source word and each target word."""
        words = self.words
        size = source_class.max() + 1, target_class.max() + 1
        keys, pair = _distinct(source_class[words.source], target_class[words.target], size)
        source, target = (each.astype(np.int32) for each in np.divmod(keys, size[1]))
        counts = (
            np.bincount(each, count)
            for each, count in ((source_class, words.source_count), (target_class, words.target_count))
        )
        return ClassPairs(source_class, target_class, source, target, pair, *counts)

    def dataset(self):
        """Every batch once, as a `tf.data.Dataset`."""
        spec = {name: tf.TensorSpec([None] * values.ndim, tf.int32) for name, values in self.batches[0].items()}
        if self.in_memory:
            lists = {name: _tensor_list(batch[name] for batch in self.batches) for name in spec}
            dataset = tf.data.Dataset.range(len(self.batches), output_type=tf.int32)
            dataset = dataset.map(lambda number: {name: _item(lists[name], number, spec[name].shape) for name in spec})
            return untuned(dataset)
        dataset = tf.data.Dataset.from_generator(lambda: iter(self.batches), output_signature=spec)
        return untuned(dataset.apply(tf.data.experimental.assert_cardinality(len(self.batches)))).prefetch(1)


def _tensor_list(tensors):
    """Tensors of several shapes in one, of which `_item` gives each without copying it."""
    tensors_so_far = tf.raw_ops.EmptyTensorList(element_shape=-1, max_num_elements=-1, element_dtype=tf.int32)
    for tensor in tensors:
        tensors_so_far = tf.raw_ops.TensorListPushBack(input_handle=tensors_so_far, tensor=tensor)
    return tensors_so_far


def _item(tensors, number, shape):
    tensor = tf.raw_ops.TensorListGetItem(input_handle=tensors, index=number, element_shape=-1, element_dtype=tf.int32)
    return tf.ensure_shape(tensor, shape)


class _Union:
    """Distinct keys of many arrays; what waits to be merged is never much more than what is there."""

    def __init__(self):
        self._keys, self._waiting, self._size = np.zeros(0, np.int64), [], 0

    def add(self, keys):
        self._waiting.append(keys)
        self._size += len(keys)
        if self._size > max(len(self._keys), UNSORTED):
            self.keys()

    def keys(self):
        """All of them, ascending."""
        every = np.sort(np.concatenate([self._keys, *self._waiting]))
        self._keys, self._waiting, self._size = every[np.append(True, every[1:] != every[:-1])], [], 0
        return self._keys


def _groups(source_lengths, target_lengths, cells):
    """Sentences of like lengths together, as many as have at most `cells` cells with their padding.

    Yields rows of the chunk, and the shape of their batch's pairs: where it can be, of as many cells, or of a half, a
    quarter … of them.
    """
    widths = _widths(source_lengths, cells)
    order = np.lexsort((target_lengths, widths)).astype(np.int32)
    widths, tokens = widths[order], np.cumsum(target_lengths[order], dtype=np.int64)
    begin, done = 0, 0
    while begin < len(order):
        # Widths ascend: where a group of the sentences up to one is too large, so it is with more of them.
        end = begin + max(1, np.searchsorted((tokens[begin:] - done) * widths[begin:], cells, side="right"))
        width, count = int(widths[end - 1]), int(tokens[end - 1] - done)
        rows = count if cells % width else cells // width
        while rows % 2 == 0 and rows // 2 >= count:
            rows //= 2
        yield order[begin:end], max(rows, count), width
        begin, done = end, tokens[end - 1]


def _widths(lengths, cells):
    """How wide the batch of each sentence is: its length or, if that is little more, a divisor of `cells`."""
    longest = lengths.max(initial=0)
    divisors = np.array([each for each in range(1, 2 * longest) if cells % each == 0], np.int64)
    wider = divisors[np.searchsorted(divisors, lengths).clip(max=len(divisors) - 1)]
    return np.where((wider >= lengths) & (wider <= 1.125 * lengths), wider, lengths)


def _filled(values, rows, padding):
    filled = np.full((rows, *values.shape[1:]), padding, np.int32)
    filled[: len(values)] = values
    return filled


def _distinct(source, target, size):
    """The distinct keys `source * size[1] + target`, ascending, and the number of each pair's key among them.

    A sort by counting, twice, as sparse matrices do when they turn from rows to columns: faster than comparing.
    """
    order = np.arange(len(source), dtype=np.int32)
    matrix = scipy.sparse.coo_matrix((order, (target, source)), shape=(size[1], size[0] + 1))
    matrix.has_canonical_format = True  # or equal pairs would be added up
    columns = matrix.tocsr().tocsc()
    order, target = columns.data, columns.indices
    source = np.repeat(np.arange(size[0] + 1, dtype=np.int64), np.diff(columns.indptr))
    keys = source * size[1] + target
    new = np.append(True, keys[1:] != keys[:-1])
    number = np.empty(len(keys), np.int32)
    number[order] = np.cumsum(new, dtype=np.int32) - 1
    return keys[new], number
