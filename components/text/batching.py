"""Batches of sentences of similar length, in few distinct shapes, assembled in graph."""

import abc
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from trellis.components import workers
from trellis.components.readers.sentence import Sentence
from trellis.components.readers.sentence_files import StoredSentences
from trellis.components.text.vectorizer import PADDING, TokenVectorizer
from trellis.components.types import Dataset, Tensor

UNSEEN = -1  # id of a tag or label that training never saw
_CHUNK = 4096
Text = TypeVar("Text")


class Corpus(abc.ABC):
    """Sequences that can be batched.

    Attributes:
        lengths: the number of tokens of each sequence, `(sequences,)`.
        tokens: the number of tokens of all sequences.
    """

    lengths: np.ndarray
    tokens: int

    @abc.abstractmethod
    def batch(self, rows: Tensor, time: Tensor) -> tuple[Any, ...]:
        """Assemble a batch, in graph.

        Args:
            rows: the indices of the sequences, `(batch,)` int32; -1 for a row of padding.
            time: the number of time steps.

        Returns:
            the inputs of the model, then whatever the loss takes: targets, and weights if there are any.
        """


class TokenFeatures:
    """The features of distinct tokens, each vectorised once, and after them those of padding.

    Args:
        tokens: the distinct tokens.
        vectorizer: turns tokens into ids.
    """

    def __init__(self, tokens: Sequence[str], vectorizer: TokenVectorizer) -> None:
        vectorize = tf.function(vectorizer, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        chunks = [[*tokens, ""][i : i + _CHUNK] for i in range(0, len(tokens) + 1, _CHUNK)]
        encoded = [vectorize(tf.constant(chunk)) for chunk in chunks]
        if "characters" in vectorizer.features:
            width = max(chunk["characters"].shape[1] for chunk in encoded)
            for chunk in encoded:
                missing = width - chunk["characters"].shape[1]
                chunk["characters"] = tf.pad(chunk["characters"], [[0, 0], [0, missing]], constant_values=PADDING)
        self._features = {name: tf.concat([chunk[name] for chunk in encoded], 0) for name in encoded[0]}

    def __call__(self, indices: Tensor) -> dict[str, Tensor]:
        """Return the features of tokens.

        Args:
            indices: `(rows, time)`; the number of tokens for padding.

        Returns:
            `(rows, time)` for each feature, and `(rows, time, characters)` for characters, as wide as the longest word
            of the batch.
        """
        features = {name: tf.gather(values, indices) for name, values in self._features.items()}
        if "characters" in features:
            used = tf.reduce_any(features["characters"] != PADDING, axis=[0, 1])
            width = tf.maximum(tf.reduce_sum(tf.cast(used, tf.int32)), 1)
            features["characters"] = features["characters"][:, :, :width]
        return features


class _VectorizedTokens:
    """Token sequences as tensors. Each distinct token is vectorised once; a sequence is a run of token indices.

    Args:
        sequences: the tokens of each sequence.
        vectorizer: turns tokens into ids.

    Attributes:
        lengths: the number of tokens of each sequence, `(sequences,)`.
    """

    def __init__(self, sequences: Sequence[Sequence[str]], vectorizer: TokenVectorizer) -> None:
        indices: dict[str, int] = {}
        stream = [indices.setdefault(token, len(indices)) for tokens in sequences for token in tokens]
        self.lengths = np.array([len(tokens) for tokens in sequences], np.int32)
        self._starts = tf.constant(np.cumsum(self.lengths) - self.lengths, tf.int32)
        self._lengths = tf.constant(self.lengths)
        # One more entry, for padding.
        self._stream = tf.constant([*stream, len(indices)], tf.int32)
        self._features = TokenFeatures(list(indices), vectorizer)

    def positions(self, rows: Tensor, time: Tensor) -> Tensor:
        """Return the positions of the tokens of a batch in the stream, `(rows, time)`; the last one at padding."""
        lengths = tf.where(rows >= 0, tf.gather(self._lengths, tf.maximum(rows, 0)), 0)
        positions = tf.gather(self._starts, tf.maximum(rows, 0))[:, tf.newaxis] + tf.range(time)
        return tf.where(tf.sequence_mask(lengths, time), positions, tf.shape(self._stream)[0] - 1)

    def features(self, positions: Tensor) -> dict[str, Tensor]:
        """Return the features at positions in the stream, see `TokenFeatures`."""
        return self._features(tf.gather(self._stream, positions))


class EncodedCorpus(Corpus):
    """Tagged sentences as tensors.

    Args:
        sentences: the sentences.
        vectorizer: turns tokens into ids.
        tags: the tags in the order of their ids; other tags become `UNSEEN`.
        partial: whether `UNSEEN` stands for any tag, rather than for none.
    """

    def __init__(
        self,
        sentences: Sequence[Sentence],
        vectorizer: TokenVectorizer,
        tags: Iterable[str],
        partial: bool = False,
    ) -> None:
        tag_ids = {tag: index for index, tag in enumerate(tags)}
        self._inputs = _VectorizedTokens([sentence.tokens for sentence in sentences], vectorizer)
        self.lengths = self._inputs.lengths
        self.tokens = int(self.lengths.sum())
        # One more entry, for padding.
        self._tags = tf.constant(
            [*(tag_ids.get(tag, UNSEEN) for sentence in sentences for tag in sentence.tags), 0], tf.int32
        )
        self._sets = len(tag_ids) if partial else None

    def batch(self, rows: Tensor, time: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return features, and gold tag ids `(rows, time)`.

        Instead of tag ids, a partial corpus has `(rows, time, tags)`: 1 for the gold tag, 0 everywhere if any may be.
        """
        positions = self._inputs.positions(rows, time)
        tags = tf.gather(self._tags, positions)
        if self._sets is not None:
            tags = tf.one_hot(tags, self._sets, dtype=tf.int32)
        return self._inputs.features(positions), tags


class StoredCorpus(Corpus):
    """Tagged sentences on disk, of which a batch at a time is read.

    Args:
        sentences: the sentences.
        vectorizer: turns tokens into ids.
        tags: see `EncodedCorpus`.
        partial: see `EncodedCorpus`.
    """

    def __init__(
        self, sentences: StoredSentences, vectorizer: TokenVectorizer, tags: Iterable[str], partial: bool = False
    ) -> None:
        self._sentences, self._tag_ids = sentences, {tag: index for index, tag in enumerate(tags)}
        self.lengths = sentences.lengths
        self.tokens = int(self.lengths.sum())
        self._begins = sentences.stored.begins[sentences.rows]
        self._padding = len(sentences.stored.distinct_words)
        self._features = TokenFeatures(sentences.stored.distinct_words, vectorizer)
        self._sets = len(self._tag_ids) if partial else None

    def batch(self, rows: Tensor, time: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return features and gold tags, see `EncodedCorpus.batch`."""
        words, tags = tf.numpy_function(self._read, [rows, time], [tf.int32, tf.int32])
        words, tags = (tf.ensure_shape(each, [None, None]) for each in (words, tags))
        if self._sets is not None:
            tags = tf.one_hot(tags, self._sets, dtype=tf.int32)
        return self._features(words), tags

    def _read(self, rows: np.ndarray, time: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of words and the ids of tags, `(rows, time)` each."""
        words = np.full([len(rows), time], self._padding, np.int32)
        tags = np.zeros([len(rows), time], np.int32)
        for place, row in enumerate(rows.tolist()):
            if row >= 0:
                begin, length = int(self._begins[row]), int(self.lengths[row])
                words[place, :length] = self._sentences.stored.words.range(begin, begin + length)
                tags[place, :length] = [self._tag_ids.get(tag, UNSEEN) for tag in self._sentences[row].tags]
        return words, tags


def encoded_sentences(
    sentences: Sequence[Sentence], vectorizer: TokenVectorizer, tags: Iterable[str], partial: bool = False
) -> EncodedCorpus | StoredCorpus:
    """Return tagged sentences as tensors; those on disk stay there. See `EncodedCorpus` for the arguments."""
    if isinstance(sentences, StoredSentences):
        return StoredCorpus(sentences, vectorizer, tags, partial)
    return EncodedCorpus(sentences, vectorizer, tags, partial)


class LabelledCorpus(Corpus):
    """Texts with one label each, as tensors.

    Args:
        texts: the tokens of each text; a text may be empty.
        labels: the index of each text's class, or `UNSEEN`.
        vectorizer: turns tokens into ids.
        weights: the weight of each class.

    Attributes:
        labels: `(texts,)` int32.
    """

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        labels: Sequence[int],
        vectorizer: TokenVectorizer,
        weights: Sequence[float],
    ) -> None:
        self._inputs = _VectorizedTokens(texts, vectorizer)
        self.lengths = self._inputs.lengths
        self.tokens = int(self.lengths.sum())
        self.labels = np.asarray(labels, np.int32)
        self._labels = tf.constant(self.labels)
        self._weights = tf.constant(weights, tf.float32)

    def batch(self, rows: Tensor, time: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return features, labels `(rows,)` and weights `(rows,)`, 0 for rows of padding."""
        features = self._inputs.features(self._inputs.positions(rows, time))
        labels = tf.gather(self._labels, tf.maximum(rows, 0))
        weights = tf.gather(self._weights, tf.maximum(labels, 0))
        return features, labels, tf.where((rows >= 0) & (labels >= 0), weights, 0.0)


class Buckets:
    """Sentences grouped by length, so that batches waste little padding and have few distinct shapes.

    The upper bounds of the buckets are those that waste the fewest cells, found by dynamic programming over the
    lengths. All batches of a bucket have the same shape. Sentences left over go into the next longer bucket, and the
    very last batch is filled up with rows of padding.

    Args:
        lengths: the number of tokens of each sentence.
        tokens: the maximum number of cells (rows × time) of a batch; a longer sentence is a batch of its own.
        max_shapes: the maximum number of distinct shapes.
        sentences: the number of rows of every batch, instead of the budget of tokens.
        others: a second length of each sentence, such as that of its translation: batches are alike in it too.

    Attributes:
        shapes: `(rows, time)` of the batches of each bucket.
        steps: the number of batches of an epoch.
        padding: the share of cells that are padding.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        tokens: int | None = None,
        max_shapes: int = 16,
        sentences: int | None = None,
        others: np.ndarray | None = None,
    ) -> None:
        if not (tokens or sentences):
            raise ValueError("Buckets: set tokens or sentences")
        lengths = np.asarray(lengths)
        bounds = optimal_bounds(np.maximum(lengths, 1), max_shapes)
        bucket = np.searchsorted(bounds, np.maximum(lengths, 1))
        self._others = others
        self._members = [np.flatnonzero(bucket == index).astype(np.int32) for index in range(len(bounds))]
        self.shapes: list[tuple[int, int]] = []
        waiting = 0
        for bound, members in zip(bounds.tolist(), self._members, strict=True):
            waiting += len(members)
            rows = sentences or max(1, (tokens or 0) // bound)
            if bound == bounds[-1]:
                rows = min(rows, max(1, waiting))
            self.shapes.append((rows, bound))
            waiting %= rows
        batches = self.epoch()
        self.steps = len(batches)
        self.padding = 1 - lengths.sum() / sum(len(rows) * time for rows, time in batches)

    def epoch(self, generator: np.random.Generator | None = None) -> list[tuple[np.ndarray, int]]:
        """Return the batches of one epoch, `(indices of sentences, time)` each; -1 marks a row of padding.

        Args:
            generator: shuffles sentences and batches; without one, batches are sorted by length.
        """
        batches: list[tuple[np.ndarray, int]] = []
        left = np.zeros(0, np.int32)
        for members, (rows, time) in zip(self._members, self.shapes, strict=True):
            if generator is not None:
                members = generator.permutation(members)
            if self._others is not None:
                members = members[np.argsort(self._others[members], kind="stable")]
            waiting = np.concatenate([left, members])
            full = len(waiting) - len(waiting) % rows
            batches += [(batch, time) for batch in waiting[:full].reshape(-1, rows)]
            left = waiting[full:]
        if len(left):
            rows, time = self.shapes[-1]
            batches.append((np.concatenate([left, np.full(rows - len(left), -1, np.int32)]), time))
        if generator is not None:
            batches = [batches[index] for index in generator.permutation(len(batches))]
        return batches


def training_batches(corpus: Corpus, buckets: Buckets, seed: int, epoch: Callable[[], int]) -> Dataset:
    """Return a dataset of shuffled batches; each iteration is one epoch. A worker of several gets its share of each.

    Args:
        corpus: the training corpus.
        buckets: its sentences by length.
        seed: seed of the shuffling.
        epoch: returns the index of the current epoch, and is called at the start of each iteration. The order of the
            batches depends on it and on `seed` alone, so a resumed run sees the batches of an uninterrupted one.
    """

    def batches() -> list[tuple[np.ndarray, int]]:
        shuffled = buckets.epoch(np.random.default_rng([seed, epoch()]))
        return [(workers.share(rows), time) for rows, time in shuffled]

    dataset = _dataset(batches).map(corpus.batch, num_parallel_calls=1)
    # Declare the number of batches: Keras would round `steps_per_epoch` up to a multiple of `steps_per_execution`.
    return dataset.apply(tf.data.experimental.assert_cardinality(buckets.steps)).prefetch(8)


def ordered_batches(corpus: Corpus, buckets: Buckets) -> Dataset:
    """Return a dataset of every sentence once, shortest first: `(rows, *batch)`."""

    def assemble(rows: Tensor, time: Tensor) -> tuple[Any, ...]:
        return rows, *corpus.batch(rows, time)

    return _dataset(buckets.epoch).map(assemble, num_parallel_calls=1).prefetch(8)


def _dataset(batches: Callable[[], list[tuple[np.ndarray, int]]]) -> Dataset:
    """Return a dataset of `(rows, time)`; it calls `batches` at the start of each iteration."""

    def epoch() -> Iterable[tuple[Any, ...]]:
        rows, times = zip(*batches(), strict=True)
        yield np.concatenate(rows), np.cumsum([0, *map(len, rows)]), times

    def split(rows: Tensor, bounds: Tensor, times: Tensor) -> Dataset:
        steps = tf.data.Dataset.range(tf.size(times, tf.int64))
        return steps.map(lambda step: (rows[bounds[step] : bounds[step + 1]], times[step]))

    # This way Python is called once per epoch, not once per batch.
    spec = tf.TensorSpec([None], tf.int32)
    return without_autotuning(
        tf.data.Dataset.from_generator(epoch, output_signature=(spec, spec, spec)).flat_map(split)
    )


def sample_across_lengths(
    texts: Iterable[Text], size: Callable[[Any], int] = len, count: int = 16, longest: int = 400
) -> list[Text]:
    """Return some distinct texts, from short to long.

    Args:
        texts: the texts to choose from.
        size: measures a text.
        count: the maximum number of texts.
        longest: the maximum size of a text, unless all are longer.
    """
    ordered = sorted(set(texts), key=lambda text: (size(text), text))
    usable = [text for text in ordered if 0 < size(text) <= longest] or ordered[:1]
    return [usable[index] for index in np.linspace(0, len(usable) - 1, min(count, len(usable))).astype(int)]


def without_autotuning(dataset: Dataset) -> Dataset:
    """Return the dataset without tf.data's tuner.

    There is nothing to tune here, and the tuner wakes up 10 ms, 30 ms, … 5.11 s, 10.23 s after the start: an iterator
    that ends in between was observed to wait for it, which costs seconds per epoch.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def optimal_bounds(lengths: np.ndarray, count: int) -> np.ndarray:
    """Return the upper bounds of at most `count` groups of lengths that need the fewest cells of padding."""
    values, frequencies = np.unique(lengths, return_counts=True)
    if len(values) > 512:
        # With thousands of distinct lengths, the bounds need no finer grid than this.
        values = np.unique(np.quantile(lengths, np.linspace(0, 1, 512), method="higher"))
        frequencies = np.bincount(np.searchsorted(values, lengths), minlength=len(values))
    count = min(count, len(values))
    before = np.concatenate([[0], np.cumsum(frequencies)])
    # cost[j]: fewest cells for the first j lengths in the groups so far; choice: where the last group begins.
    cost = np.concatenate([[0.0], np.full(len(values), np.inf)])
    choices = []
    for _ in range(count):
        # The cells of a group of the lengths i .. j-1, all padded to the longest of them.
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
        end = int(choice[end - 1])
    return np.array(sorted(bounds))
