"""Batches of sentences of like length, of few distinct shapes, assembled in graph."""

import numpy as np
import tensorflow as tf

from trellis.components.readers.sentence import Sentence
from trellis.components.text.vectorizer import PADDING

UNSEEN = -1  # id of a tag that training never saw
_CHUNK = 4096


class EncodedCorpus:
    """A corpus as tensors: each distinct token vectorised once, each sentence a run of token numbers.

    Args:
        sentences: a list of `Sentence`.
        vectorizer: a `TokenVectorizer`.
        tags: the tags by id.
    """

    def __init__(self, sentences, vectorizer, tags):
        numbers, tag_ids = {}, {tag: index for index, tag in enumerate(tags)}
        stream = [numbers.setdefault(token, len(numbers)) for s in sentences for token in s.tokens]
        self.lengths = np.array([len(sentence.tokens) for sentence in sentences], np.int32)
        self.tokens = int(self.lengths.sum())
        self._starts = tf.constant(np.cumsum(self.lengths) - self.lengths, tf.int32)
        self._lengths = tf.constant(self.lengths)
        # One row more, for padding.
        self._stream = tf.constant([*stream, len(numbers)], tf.int32)
        self._tags = tf.constant([*(tag_ids.get(t, UNSEEN) for s in sentences for t in s.tags), 0], tf.int32)
        vectorize = tf.function(vectorizer, input_signature=[tf.TensorSpec([None], tf.string)])
        chunks = [[*numbers, ""][i : i + _CHUNK] for i in range(0, len(numbers) + 1, _CHUNK)]
        encoded = [vectorize(tf.constant(chunk)) for chunk in chunks]
        if "characters" in vectorizer.features:
            width = max(chunk["characters"].shape[1] for chunk in encoded)
            for chunk in encoded:
                missing = width - chunk["characters"].shape[1]
                chunk["characters"] = tf.pad(chunk["characters"], [[0, 0], [0, missing]], constant_values=PADDING)
        self._features = {name: tf.concat([chunk[name] for chunk in encoded], 0) for name in encoded[0]}

    def batch(self, rows, time):
        """Inputs and gold tags of some sentences; rows of -1 are padding.

        Returns:
            the vectorizer's features, `(rows, time)` and for characters `(rows, time, characters)`, as wide as the
            longest word of the batch; and tags `(rows, time)`.
        """
        lengths = tf.where(rows >= 0, tf.gather(self._lengths, tf.maximum(rows, 0)), 0)
        places = tf.gather(self._starts, tf.maximum(rows, 0))[:, tf.newaxis] + tf.range(time)
        valid = tf.sequence_mask(lengths, time)
        places = tf.where(valid, places, tf.shape(self._stream)[0] - 1)
        numbers = tf.gather(self._stream, places)
        features = {name: tf.gather(values, numbers) for name, values in self._features.items()}
        if "characters" in features:
            used = tf.reduce_any(features["characters"] != PADDING, axis=[0, 1])
            width = tf.maximum(tf.reduce_sum(tf.cast(used, tf.int32)), 1)
            features["characters"] = features["characters"][:, :, :width]
        return features, tf.gather(self._tags, places)


class LabelledCorpus(EncodedCorpus):
    """A corpus of texts with one label each.

    Args:
        texts: tokens of each text, maybe none.
        labels: number of each text's class, or `UNSEEN`.
        vectorizer: a `TokenVectorizer`.
        weights: of each class.
    """

    def __init__(self, texts, labels, vectorizer, weights):
        super().__init__([Sentence(tokens, tokens) for tokens in texts], vectorizer, ())
        self.labels = np.asarray(labels, np.int32)
        self._labels = tf.constant(self.labels)
        self._weights = tf.constant(weights, tf.float32)

    def batch(self, rows, time):
        """The vectorizer's features, labels `(rows,)`, and weights `(rows,)`, 0 for the rows of -1."""
        features, _ = super().batch(rows, time)
        labels = tf.gather(self._labels, tf.maximum(rows, 0))
        weights = tf.gather(self._weights, tf.maximum(labels, 0))
        return features, labels, tf.where((rows >= 0) & (labels >= 0), weights, 0.0)


class Buckets:
    """Groups sentences by length so that batches waste little padding and have few distinct shapes.

    The bounds are those that waste the fewest cells, found by dynamic programming over the lengths. Every batch of a
    bucket has the same shape; the sentences that are left over go into the next longer bucket, and the very last batch
    is filled up with empty rows.

    Args:
        lengths: number of tokens of each sentence.
        tokens: cells (rows × time) of a batch, at most; a longer sentence is a batch of its own.
        max_shapes: distinct shapes, at most.
        sentences: rows of every batch, instead of the budget of tokens.
    """

    def __init__(self, lengths, tokens=None, max_shapes=16, sentences=None):
        lengths = np.asarray(lengths)
        bounds = _bounds(np.maximum(lengths, 1), max_shapes)
        bucket = np.searchsorted(bounds, np.maximum(lengths, 1))
        self.members = [np.flatnonzero(bucket == index).astype(np.int32) for index in range(len(bounds))]
        self.shapes, waiting = [], 0
        for bound, members in zip(bounds, self.members, strict=True):
            waiting += len(members)
            rows = sentences or max(1, tokens // bound)
            if bound == bounds[-1]:
                rows = min(rows, max(1, waiting))
            self.shapes.append((rows, int(bound)))
            waiting %= rows
        batches = self.epoch()
        self.steps = len(batches)
        self.padding = 1 - lengths.sum() / sum(len(rows) * time for rows, time in batches)

    def epoch(self, generator=None):
        """The batches of one epoch, `(rows, time)` each; shuffled with a NumPy generator, or in order of length."""
        batches, left = [], np.zeros(0, np.int32)
        for members, (rows, time) in zip(self.members, self.shapes, strict=True):
            if generator is not None:
                members = generator.permutation(members)
            waiting = np.concatenate([left, members])
            full = len(waiting) - len(waiting) % rows
            batches += [(batch, time) for batch in waiting[:full].reshape(-1, rows)]
            left = waiting[full:]
        if len(left):
            batches.append((np.concatenate([left, np.full(rows - len(left), -1, np.int32)]), time))
        if generator is not None:
            batches = [batches[index] for index in generator.permutation(len(batches))]
        return batches


def training_batches(corpus, buckets, seed, epoch):
    """The shuffled batches `(inputs, tags)` of one epoch; which epoch is asked anew each time one iterates.

    Args:
        epoch: a function without arguments that tells the epoch's number. The order of the batches follows from it and
            `seed` alone, so a resumed run sees what the run that was stopped would have seen.
    """

    def batches():
        return buckets.epoch(np.random.default_rng([seed, epoch()]))

    dataset = _dataset(batches).map(corpus.batch, num_parallel_calls=1)
    # The number of batches is told: in Keras, `steps_per_epoch` with several steps a call would round it up.
    return dataset.apply(tf.data.experimental.assert_cardinality(buckets.steps)).prefetch(8)


def ordered_batches(corpus, buckets):
    """Every sentence once, shortest first: `(rows, inputs, tags)`."""

    def assemble(rows, time):
        return rows, *corpus.batch(rows, time)

    return _dataset(buckets.epoch).map(assemble, num_parallel_calls=1).prefetch(8)


def _dataset(batches):
    def epoch():
        rows, times = zip(*batches(), strict=True)
        yield np.concatenate(rows), np.cumsum([0, *map(len, rows)]), times

    def one_by_one(rows, bounds, times):
        steps = tf.data.Dataset.range(tf.size(times, tf.int64))
        return steps.map(lambda step: (rows[bounds[step] : bounds[step + 1]], times[step]))

    # Python is called once an epoch, not once a batch.
    spec = tf.TensorSpec([None], tf.int32)
    return untuned(tf.data.Dataset.from_generator(epoch, output_signature=(spec, spec, spec)).flat_map(one_by_one))


def of_several_lengths(texts, size=len, count=16, longest=400):
    """Some texts, from short to long, of a size of at most `longest` where there are such."""
    texts = sorted(set(texts), key=lambda text: (size(text), text))
    texts = [text for text in texts if 0 < size(text) <= longest] or texts[:1]
    return [texts[index] for index in np.linspace(0, len(texts) - 1, min(count, len(texts))).astype(int)]


def untuned(dataset):
    """The dataset without its tuner.

    There is nothing to tune, and the tuner wakes at 10 ms, 30 ms, … 5.11 s, 10.23 s after the start: an iterator that
    is done in between was seen to wait for it, seconds an epoch.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _bounds(lengths, count):
    """Upper bounds of `count` groups of lengths that leave the fewest padding cells."""
    values, frequencies = np.unique(lengths, return_counts=True)
    if len(values) > 512:
        # Thousands of distinct lengths: the bounds need no finer grid than this.
        values = np.unique(np.quantile(lengths, np.linspace(0, 1, 512), method="higher"))
        frequencies = np.bincount(np.searchsorted(values, lengths), minlength=len(values))
    count = min(count, len(values))
    before = np.concatenate([[0], np.cumsum(frequencies)])
    # cost[j]: fewest cells for the first j lengths in the groups so far; choice: where the last of them begins.
    cost = np.concatenate([[0.0], np.full(len(values), np.inf)])
    choices = []
    for _ in range(count):
        # cells of a group of the lengths i .. j-1, each padded to the longest of them
        cells = cost[:-1, np.newaxis] + (before[np.newaxis, 1:] - before[:-1, np.newaxis]) * values
        cells[np.tril_indices(len(values), -1)] = np.inf
        choice = cells.argmin(axis=0)
        choices.append(choice)
        cost = np.concatenate([[0.0], cells[choice, np.arange(len(values))]])
    bounds, end = [], len(values)
    for choice in reversed(choices):
        if end == 0:
            break
        bounds.append(values[end - 1])
        end = choice[end - 1]
    return np.array(sorted(bounds))
