"""The words of a bitext that meet in a sentence pair, numbered, and the sentence pairs as batches of these numbers."""

from typing import NamedTuple

import numpy as np
import scipy.sparse
import tensorflow as tf

from components.text.batching import untuned


class Level(NamedTuple):
    """Words, or classes of words, and which of them meet.

    Attributes:
        source_class, target_class: of each word, `(words,)`.
        source, target: classes of each pair of classes that meet, `(pairs of classes,)`, in ascending order of both.
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
        source, target: word ids from 0 of each sentence, both sides of it not empty.
        source_words, target_words: sizes of the vocabularies.
        cells: pairs of words of a batch, at most; a larger sentence pair is a batch of its own.

    Attributes:
        words: the `Level` of words.
        rows: for each batch the numbers of its sentences.
        batches: for each batch, int32: `sources (batch, source)`; and one row for each target word of all its sentences
            in turn: `targets (tokens,)`, the sentence they are in `sentences (tokens,)`, and their pairs with the words
            of that sentence `pairs (tokens, source)`. At padding a number is one past the last.
    """

    def __init__(self, source, target, source_words, target_words, cells=2**20):
        self.size = source_words, target_words
        self.source_lengths = np.fromiter(map(len, source), np.int32, len(source))
        self.target_lengths = np.fromiter(map(len, target), np.int32, len(target))
        self.rows = _groups(self.source_lengths, self.target_lengths, cells)
        flat = np.concatenate(source).astype(np.int32), np.concatenate(target).astype(np.int32)
        self.batches = [self._batch(rows, *flat) for rows in self.rows]
        self.words = self._number(*(np.bincount(f, minlength=n) for f, n in zip(flat, self.size, strict=True)))

    def _batch(self, rows, source, target):
        ends = np.cumsum(self.source_lengths, dtype=np.int64)
        lengths = self.source_lengths[rows, None]
        places = np.arange(lengths.max())
        inside = places < lengths
        sources = np.where(inside, source[np.where(inside, ends[rows, None] - lengths + places, 0)], self.size[0])
        ends = np.cumsum(self.target_lengths, dtype=np.int64)
        lengths = self.target_lengths[rows]
        sentences = np.repeat(np.arange(len(rows), dtype=np.int32), lengths)
        places = np.arange(len(sentences)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        targets = target[np.repeat(ends[rows] - lengths, lengths) + places]
        return {"sources": sources.astype(np.int32), "targets": targets, "sentences": sentences}

    def _number(self, source_count, target_count):
        """Numbers the pairs, batch by batch, so that what sorting needs stays small; returns the level of words."""
        found = []
        for batch in self.batches:
            sources = batch["sources"][batch["sentences"]]
            targets = np.broadcast_to(batch["targets"][:, None], sources.shape)
            keys, number = _distinct(sources.ravel(), targets.ravel(), self.size)
            batch["pairs"] = number.reshape(sources.shape)
            found.append(keys)
        every = np.sort(np.concatenate(found))
        every = every[np.append(True, every[1:] != every[:-1])]
        every = every[: np.searchsorted(every, self.size[0] * self.size[1])]  # without padding
        for batch, keys in zip(self.batches, found, strict=True):
            batch["pairs"] = np.searchsorted(every, keys).clip(max=len(every)).astype(np.int32)[batch["pairs"]]
        source, target = (each.astype(np.int32) for each in np.divmod(every, self.size[1]))
        classes = (np.arange(size, dtype=np.int32) for size in self.size)
        return Level(*classes, source, target, None, source_count, target_count)

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
        dataset = untuned(tf.data.Dataset.from_generator(lambda: iter(self.batches), output_signature=spec))
        return dataset.apply(tf.data.experimental.assert_cardinality(len(self.batches))).prefetch(1)


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
