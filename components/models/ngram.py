"""N-gram language models: counted with NumPy, scored in graph, saved and exported like every other model."""

import keras
import numpy as np
import tensorflow as tf

from trellis.components.models.language_model import Windows

SMOOTHINGS = ("kneser_ney", "witten_bell", "add_k")
_NEVER = -99.0  # log-probability of what the model gives none: padding


@keras.saving.register_keras_serializable("trellis")
class NGram(Windows, keras.Model):
    """The probability of a word after the `order - 1` words before it, interpolated with shorter contexts.

    The n-grams form a trie: one of length k is known by the number of its first k - 1 words and its last word, so all
    tables are sorted arrays of whole numbers, and the n-grams that end at each word of a text are found by one search
    an order. `adapt` counts; `fit`, one epoch, turns counts into probabilities.

    Smoothing: `kneser_ney` (modified and interpolated, three discounts an order; Chen and Goodman 1999),
    `witten_bell` (Witten and Bell 1991), `add_k` (of the highest order alone, with the uniform distribution).

    Args:
        vocabulary: number of ids; id 0 is padding and never predicted.
        order: words of the longest n-gram, 1 to 6.
        smoothing: one of `SMOOTHINGS`.
        k: what `add_k` adds to every count.
        boundary: id of the end of a document, which is also the word before its first one.
        entries: number of n-grams of each length from 2 on, told by `adapt`.
    """

    def __init__(self, vocabulary, order, smoothing="kneser_ney", k=0.01, boundary=2, entries=None, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary, self.order, self.smoothing, self.k = vocabulary, order, smoothing, k
        self.context = order
        self.boundary, self.entries = boundary, entries
        self.keys, self.log_probability, self.log_backoff = [], [], []
        self.built = True
        if entries is not None:
            self._make_tables()

    def _make_tables(self):
        def table(name, size, dtype="float32"):
            return self.add_weight(shape=(size,), dtype=dtype, initializer="zeros", trainable=False, name=name)

        for length, size in enumerate([self.vocabulary, *self.entries], 1):
            if length > 1:
                self.keys.append(table(f"keys_{length}", size, "int64"))
            self.log_probability.append(table(f"log_probability_{length}", size))
            if length < self.order:
                self.log_backoff.append(table(f"log_backoff_{length}", size))

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary": self.vocabulary,
            "order": self.order,
            "smoothing": self.smoothing,
            "k": self.k,
            "boundary": self.boundary,
            "entries": self.entries,
        }

    # Estimation

    def adapt(self, ids, starts):
        """Counts the n-grams of a text.

        Args:
            ids: `(tokens,)`, without padding.
            starts: where documents begin; no n-gram reaches over that.
        """
        self._counts = count(ids, starts, self.order, self.vocabulary, self.boundary)
        self.entries = [len(level.keys) for level in self._counts[1:]]
        self._make_tables()
        for keys, level in zip(self.keys, self._counts[1:], strict=True):
            keys.assign(level.keys)

    def fit(self, *args, callbacks=(), **kwargs):
        """Estimates the probabilities from the counts; the loss is that of the training text, in nats a token."""
        del args, kwargs
        for callback in callbacks:
            callback.set_model(self)
            callback.on_train_begin()
            callback.on_epoch_begin(0)
        estimate = {"kneser_ney": _kneser_ney, "witten_bell": _witten_bell, "add_k": _add_k}[self.smoothing]
        probabilities, backoffs = estimate(self._counts, self.vocabulary, self.k)
        for table, values in zip(self.log_probability, probabilities, strict=True):
            table.assign(np.log(values, out=np.full(len(values), _NEVER), where=values > 0))
        for table, values in zip(self.log_backoff, backoffs, strict=True):
            table.assign(np.log(np.maximum(values, 1e-30)))
        for callback in callbacks:
            callback.on_epoch_end(0, {"loss": self._training_loss()})
            callback.on_train_end()

    def _training_loss(self):
        # The n-grams that each token ends: the longest ones, and shorter ones that begin a document.
        top = self._counts[-1]
        total, tokens = (top.counts * self.log_probability[-1].numpy()).sum(), top.counts.sum()
        for level, table in zip(self._counts[1:-1], self.log_probability[1:-1], strict=True):
            total += (level.initial * level.counts * table.numpy()).sum()
            tokens += (level.initial * level.counts).sum()
        return float(-total / tokens)

    # Reading and scoring; the interface is that of `trellis.components.models.language_model`.

    def read(self, tokens, states, lengths=None, training=False):
        """Reads on.

        Args:
            tokens: `(batch, time)` ids. states: of what was read before. lengths: `(batch,)` real tokens, or None.

        Returns:
            contexts `(batch, time, order - 1)`, those after each token; and the states after the last real one.
        """
        del training
        seen, after = self.seen(tokens, states, lengths)
        places = tf.range(1, tf.shape(tokens)[1] + 1)[:, tf.newaxis] + tf.range(self.order - 1)
        return tf.gather(seen, places, axis=1), after

    def token_log_probabilities(self, contexts, targets):
        """Log-probability of each target, in nats.

        Args:
            contexts: `(…, order - 1)`. targets: `(…)` ids.
        """
        targets = tf.cast(targets, tf.int64)
        nodes = self._context_nodes(contexts)
        result, backoff = tf.gather(self._tensor(self.log_probability[0]), targets), 0.0
        for length in range(2, self.order + 1):
            context = nodes[length - 1]
            exists = context >= 0
            backoff = tf.where(exists, tf.gather(self._tensor(self.log_backoff[length - 2]), tf.maximum(context, 0)), 0)
            node = self._find(length, context, targets)
            own = tf.gather(self._tensor(self.log_probability[length - 1]), tf.maximum(node, 0))
            result = tf.where(node >= 0, own, result + backoff)
        return tf.where(targets == 0, _NEVER, result)

    def log_probabilities(self, contexts):
        """Log-probabilities of every id after contexts `(batch, order - 1)`: `(batch, vocabulary)`, in nats."""
        every = tf.range(self.vocabulary)[tf.newaxis]
        batch = tf.shape(contexts)[0]
        targets = tf.tile(every, [batch, 1])
        repeated = tf.tile(contexts[:, tf.newaxis], [1, self.vocabulary, 1])
        return self.token_log_probabilities(repeated, targets)

    def call(self, tokens):
        """Log-probabilities of each token of documents `(batch, time)`; 0 at padding."""
        before = tf.pad(tokens[:, :-1], [[0, 0], [1, 0]], constant_values=self.boundary)
        contexts, _ = self.read(before, self.initial_states(tf.shape(tokens)[0]))
        return tf.where(tokens == 0, 0.0, self.token_log_probabilities(contexts, tokens))

    def _context_nodes(self, contexts):
        """Numbers of the n-grams that end the contexts, by their length from 1 on (`[0]` is None); -1: not there."""
        words = tf.cast(contexts, tf.int64)
        nodes = [None]
        # All n-grams that begin at each place of the context, grown word by word.
        growing = [tf.where(words[..., place] > 0, words[..., place], -1) for place in range(self.order - 1)]
        for length in range(1, self.order):
            if length > 1:
                growing = [
                    self._find(length, node, words[..., start + length - 1])
                    for start, node in enumerate(growing[: self.order - length])
                ]
            nodes.append(growing[self.order - 1 - length])
        return nodes

    def _find(self, length, prefix, word):
        """Number of the n-gram made of an n-gram shorter by one and a word; -1 where there is none."""
        keys = self._tensor(self.keys[length - 2])
        wanted = prefix * self.vocabulary + word
        place = tf.searchsorted(keys, tf.reshape(wanted, [-1]), out_type=tf.int64)
        place = tf.minimum(tf.reshape(place, tf.shape(wanted)), tf.size(keys, tf.int64) - 1)
        return tf.where((tf.gather(keys, place) == wanted) & (prefix >= 0), place, -1)

    @staticmethod
    def _tensor(variable):
        return tf.convert_to_tensor(variable)


class _Level:
    """The n-grams of one length: sorted keys, counts, each without its first word, and which begin a document."""

    def __init__(self, keys, counts, suffixes, initial):
        self.keys, self.counts, self.suffixes, self.initial = keys, counts, suffixes, initial


def count(ids, starts, order, vocabulary, boundary):
    """The trie of n-grams up to `order`, one `_Level` a length; the boundary stands before each document."""
    ids = np.asarray(ids, np.int64)
    starts = np.asarray(starts, np.int64)
    stream = np.insert(ids, starts, boundary)
    begins = starts + np.arange(len(starts))
    place = np.arange(len(stream))
    place -= np.repeat(begins, np.diff(np.append(begins, len(stream))))  # 0: the boundary itself
    every = np.arange(vocabulary)
    levels = [_Level(every, np.bincount(ids, minlength=vocabulary), None, np.zeros(vocabulary, bool))]
    numbers = stream
    for length in range(2, order + 1):
        ends = np.flatnonzero(place >= length - 1)
        if not len(ends):
            # No document is that long; a key that no n-gram has keeps the table from being empty.
            nothing = np.zeros(1, np.int64)
            levels.append(_Level(nothing - 1, nothing, nothing, nothing > 0))
            continue
        keys = numbers[ends - 1] * vocabulary + stream[ends]
        keys, order_of = _sorted(keys)
        first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        counts = np.diff(first, append=len(keys))
        some = ends[order_of[first]]
        levels.append(_Level(keys[first], counts, numbers[some], place[some] == length - 1))
        if length < order:
            numbers = np.full(len(stream), -1)
            numbers[ends[order_of]] = np.repeat(np.arange(len(first)), counts)
    return levels


def _sorted(keys):
    """Keys in ascending order, and where each was."""
    bits = len(keys).bit_length()
    if int(keys.max()) >> (62 - bits):
        order = np.argsort(keys)
        return keys[order], order
    # With its place in the lower bits of each key one sort does for both, several times as fast.
    both = keys << bits
    both |= np.arange(len(keys))
    both.sort()
    order = both & ((1 << bits) - 1)
    both >>= bits
    return both, order


def _contexts(levels, vocabulary):
    return [None, *(level.keys // vocabulary for level in levels[1:])]


def _kneser_ney(levels, vocabulary, _):
    contexts = _contexts(levels, vocabulary)
    probabilities, backoffs = [], []
    for index, level in enumerate(levels):
        if index + 1 < len(levels):
            # How many different words stand before; at a document's start nothing does, and the count itself is taken.
            longer = np.bincount(levels[index + 1].suffixes, minlength=len(level.keys))
            counts = np.where(level.initial, level.counts, longer)
        else:
            counts = level.counts
        discounts = _discounts(counts)
        discounted = np.maximum(counts - discounts[np.minimum(counts, 3)], 0.0)
        if index == 0:
            total = counts.sum()
            left = discounts[np.minimum(counts, 3)][counts > 0].sum() / total
            predicted = np.arange(vocabulary) > 0
            probabilities.append(predicted * (discounted / total + left / predicted.sum()))
            continue
        size = len(levels[index - 1].keys)
        totals = np.bincount(contexts[index], counts, size)
        left = np.bincount(contexts[index], counts - discounted, size)
        weights = np.divide(left, totals, out=np.ones(size), where=totals > 0)
        backoffs.append(weights)
        lower = probabilities[index - 1][level.suffixes]
        # A context all of whose counts were for nothing: the shorter one decides.
        share = np.divide(
            discounted, totals[contexts[index]], out=np.zeros(len(counts)), where=totals[contexts[index]] > 0
        )
        probabilities.append(share + weights[contexts[index]] * lower)
    return probabilities, backoffs


def _discounts(counts):
    """Discounts of counts 0, 1, 2 and 3 or more, by the counts of counts."""
    n = [np.count_nonzero(counts == each) for each in range(5)]
    if min(n[1:]) == 0:
        # Too small a text for that: the values that Kneser-Ney smoothing often comes to.
        return np.array([0.0, 0.5, 1.0, 1.5])
    y = n[1] / (n[1] + 2 * n[2])
    found = [0.0, *(each - (each + 1) * y * n[each + 1] / n[each] for each in (1, 2, 3))]
    return np.clip(found, 0.0, [0.0, 1.0, 2.0, 3.0])


def _witten_bell(levels, vocabulary, _):
    contexts = _contexts(levels, vocabulary)
    predicted = np.arange(vocabulary) > 0
    counts = levels[0].counts
    total, kinds = counts.sum(), np.count_nonzero(counts)
    probabilities = [predicted * (counts + kinds / predicted.sum()) / (total + kinds)]
    backoffs = []
    for index, level in enumerate(levels[1:], 1):
        size = len(levels[index - 1].keys)
        totals = np.bincount(contexts[index], level.counts, size)
        kinds = np.bincount(contexts[index], minlength=size)
        weights = np.divide(kinds, totals + kinds, out=np.ones(size), where=kinds > 0)
        backoffs.append(weights)
        lower = probabilities[index - 1][level.suffixes]
        share = level.counts / (totals + kinds)[contexts[index]]
        probabilities.append(share + weights[contexts[index]] * lower)
    return probabilities, backoffs


def _add_k(levels, vocabulary, k):
    contexts = _contexts(levels, vocabulary)
    uniform = (np.arange(vocabulary) > 0) / (vocabulary - 1)
    if len(levels) == 1:
        counts = levels[0].counts
        return [(uniform > 0) * (counts + k) / (counts.sum() + k * (vocabulary - 1))], []
    # Shorter contexts say nothing: whatever they have seen is as likely as anything.
    probabilities = [np.full(len(level.keys), 1 / (vocabulary - 1)) for level in levels[:-1]]
    probabilities[0] = uniform
    backoffs = [np.ones(len(level.keys)) for level in levels[:-2]]
    top, context = levels[-1], contexts[-1]
    totals = np.bincount(context, top.counts, len(levels[-2].keys)) + k * (vocabulary - 1)
    probabilities.append((top.counts + k) / totals[context])
    return probabilities, [*backoffs, k * (vocabulary - 1) / totals]
