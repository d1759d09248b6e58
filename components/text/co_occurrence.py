"""The words of a bitext that meet in a sentence pair, numbered, and the sentence pairs as batches of these numbers."""

import operator
from typing import NamedTuple

import numpy as np
import scipy.sparse
import tensorflow as tf

from components.text.batching import untuned
from components.text.shelf import Shelf

UNSORTED = 2**22  # pairs of words that wait to be merged with those that are there


class Level(NamedTuple):
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
        chunks: `components.text.token_pairs.Chunk`s; batches hold sentences of one chunk.
        source_words, target_words: sizes of the vocabularies.
        cells: pairs of words of a batch, at most; a larger sentence pair is a batch of its own.
        folder: see `Shelf`; with one, memory grows with the pairs of words that meet but not with the sentences.

    Attributes:
        words: the `Level` of words; pairs of frequent words come first.
        batches: int32, tensors where they are in memory: `sources (batch, source)`; and one row for each target word of
            all its sentences in turn: `targets (tokens,)`, the sentence they are in `sentences (tokens,)`, and their
            pairs with the words of that sentence `pairs (tokens, source)`. At padding a number is one past the last.
        chunks: for each chunk the `range` of its batches.
        tokens, cells: numbers of words of both sides, and of pairs of words of a sentence pair.
        lengths: `{(source length, target length), …}` of all sentence pairs.
    """

    def __init__(self, chunks, source_words, target_words, cells=2**20, folder=None):
        self.size, self.in_memory = (source_words, target_words), folder is None
        self.batches, self._rows, self.chunks = Shelf(folder), Shelf(folder), []
        self.tokens, self.cells, self.lengths = 0, 0, set()
        counts = [np.zeros(size, np.int64) for size in self.size]
        local, every = Shelf(folder), _Union()
        for chunk in chunks:
            begin = len(local)
            starts = [np.cumsum(each, dtype=np.int64) - each for each in (chunk.source_lengths, chunk.target_lengths)]
            for rows in _groups(chunk.source_lengths, chunk.target_lengths, cells):
                batch = self._batch(rows, chunk, *starts)
                sources = batch["sources"][batch["sentences"]]
                targets = np.broadcast_to(batch["targets"][:, None], sources.shape)
                # Numbered within the batch, so that what sorting needs stays small.
                keys, number = _distinct(sources.ravel(), targets.ravel(), self.size)
                every.add(keys)
                local.append({"keys": keys, "batch": batch, "pairs": number.reshape(sources.shape)})
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
        # What meets often lies together, so that a processor's cache holds most of what a batch looks up.
        order = np.argsort(-np.minimum(counts[0][source], counts[1][target]), kind="stable")
        source, target, places = source[order], target[order], np.empty(len(keys) + 1, np.int32)
        places[order], places[-1] = np.arange(len(keys)), len(keys)
        for each in local.emptied():
            number = places[np.searchsorted(keys, each["keys"]).clip(max=len(keys))]
            batch = {**each["batch"], "pairs": number[each["pairs"]]}
            if self.in_memory:  # what is a tensor already is not copied in every epoch
                batch = {name: tf.constant(values) for name, values in batch.items()}
            self.batches.append(batch)
        classes = (np.arange(size, dtype=np.int32) for size in self.size)
        self.words = Level(*classes, source, target, None, *counts)

    def _batch(self, rows, chunk, source_starts, target_starts):
        lengths = chunk.source_lengths[rows, None]
        places = np.arange(lengths.max())
        inside = places < lengths
        sources = np.where(inside, chunk.source[np.where(inside, source_starts[rows, None] + places, 0)], self.size[0])
        lengths = chunk.target_lengths[rows]
        sentences = np.repeat(np.arange(len(rows), dtype=np.int32), lengths)
        places = np.arange(len(sentences)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        targets = chunk.target[np.repeat(target_starts[rows], lengths) + places]
        return {"sources": sources.astype(np.int32), "targets": targets, "sentences": sentences}

    def rows(self, number):
        """The numbers of the sentence pairs of a batch, `(batch,)`."""
        return self._rows[number]

    def holding(self, rows):
        """The numbers of the batches that hold these sentence pairs, ascending."""
        rows = np.fromiter(rows, np.int64)
        return [number for number in range(len(self.batches)) if np.isin(self.rows(number), rows).any()]

    def level(self, source_class, target_class):
        """The `Level` of classes: an id from 0 for each source word and each target word."""
        words = self.words
        size = source_class.max() + 1, target_class.max() + 1
        keys, pair = _distinct(source_class[words.source], target_class[words.target], size)
        source, target = (each.astype(np.int32) for each in np.divmod(keys, size[1]))
        counts = (
            np.bincount(each, count)
            for each, count in ((source_class, words.source_count), (target_class, words.target_count))
        )
        return Level(source_class, target_class, source, target, pair, *counts)

    def dataset(self):
        """Every batch once, as a `tf.data.Dataset`."""
        spec = {name: tf.TensorSpec([None] * values.ndim, tf.int32) for name, values in self.batches[0].items()}
        if self.in_memory:
            lists = {name: _tensor_list(batch[name] for batch in self.batches) for name in spec}
            dataset = tf.data.Dataset.range(len(self.batches), output_type=tf.int32)
            dataset = dataset.map(lambda number: {name: _item(lists[name], number, spec[name].shape) for name in spec})
        else:
            dataset = tf.data.Dataset.from_generator(lambda: iter(self.batches), output_signature=spec)
            dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(self.batches)))
        return untuned(dataset).prefetch(1)


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
    """Sentences of like lengths together, as many as have at most `cells` cells with their padding."""
    order = np.lexsort((target_lengths, source_lengths)).astype(np.int32)
    widths, tokens = source_lengths[order].astype(np.int64), np.cumsum(target_lengths[order], dtype=np.int64)
    groups, begin, done = [], 0, 0
    while begin < len(order):
        # Widths ascend: where a group of the sentences up to one is too large, so it is with more of them.
        fit = np.searchsorted((tokens[begin:] - done) * widths[begin:], cells, side="right")
        end = begin + max(1, fit)
        groups.append(order[begin:end])
        begin, done = end, tokens[end - 1]
    return groups


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
