"""N-gram language models: counted with NumPy, scored in graph, saved and exported like every other model."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trellis.components import choices
from trellis.components.models.language_model import WindowLanguageModel
from trellis.components.models.ngram_estimation import Level, Trie, add_k, count, kneser_ney, windows, witten_bell
from trellis.components.types import JSON, Lengths, States, Tensor, TokenIds

SMOOTHINGS = get_args(choices.Smoothing)
NEVER = -99.0  # log-probability of padding


class Tables(NamedTuple):
    """An n-gram model as sorted arrays.

    Attributes:
        keys: the keys of the n-grams of length 2, 3, …, ascending: index of the first words × vocabulary + last word,
            `(entries,)` int64. The index of a single word is its id.
        log_probability: the log-probabilities of the n-grams of length 1, 2, …, in nats, `(entries,)`.
        log_backoff: for all but the longest: what is added for a next word that is not listed, `(entries,)`.
    """

    keys: list[np.ndarray]
    log_probability: list[np.ndarray]
    log_backoff: list[np.ndarray]


@keras.saving.register_keras_serializable("trellis")
class NGram(WindowLanguageModel):
    """The probability of a word given the `order - 1` words before it, interpolated with shorter contexts.

    The n-grams form a trie: an n-gram of length k is identified by the index of its first k - 1 words and its last
    word, so all tables are sorted arrays of integers, and one search per order finds the n-grams that end at each word
    of a text. `adapt` counts; `fit`, one epoch, turns counts into probabilities.

    Smoothing: `kneser_ney` (modified and interpolated, three discounts per order; Chen and Goodman 1999), `witten_bell`
    (Witten and Bell 1991), `add_k` (of the highest order only, with the uniform distribution).

    Args:
        vocabulary: number of ids; id 0 is padding and never predicted.
        order: number of words of the longest n-gram, 1 to 6.
        smoothing: one of `SMOOTHINGS`.
        k: what `add_k` adds to every count.
        boundary: id of the end of a document, which is also the word before its first one.
        prune: drop n-grams of length 1, 2, … that occur at most this often; see `ngram_estimation.count`.
        entries: number of n-grams of each length from 2 on, set by `adapt`.

    Raises:
        ValueError: `prune` does not begin with 0, descends, or has more numbers than `order`.
    """

    def __init__(
        self,
        vocabulary: int,
        order: int,
        smoothing: str = "kneser_ney",
        k: float = 0.01,
        boundary: int = 2,
        prune: Sequence[int] | None = None,
        entries: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary, self.order, self.smoothing, self.k = vocabulary, order, smoothing, k
        self.context = order
        self.prune = tuple(prune or ())
        if not choices.can_prune(self.prune, order):
            raise ValueError(f"prune={list(self.prune)}: {choices.PRUNING.format(order=order)}")
        self.boundary, self.entries = boundary, entries
        self.keys: list[Any] = []
        self.log_probability: list[Any] = []
        self.log_backoff: list[Any] = []
        self._trie: Trie | None = None
        # Where `assign` has set the tables: contexts and tokens of the text of `adapt`.
        self._text: tuple[np.ndarray, np.ndarray] | None = None
        self._is_assigned = False
        self.built = True
        if entries is not None:
            self._add_tables(entries)

    def _add_tables(self, entries: Sequence[int]) -> None:
        def table(name: str, size: int, dtype: str = "float32") -> Any:
            return self.add_weight(
                shape=(size,), dtype=dtype, initializer="zeros", trainable=False, autocast=False, name=name
            )

        for length, size in enumerate([self.vocabulary, *entries], 1):
            if length > 1:
                self.keys.append(table(f"keys_{length}", size, "int64"))
            self.log_probability.append(table(f"log_probability_{length}", size))
            if length < self.order:
                self.log_backoff.append(table(f"log_backoff_{length}", size))

    def get_config(self) -> JSON:
        return {
            **super().get_config(),
            "vocabulary": self.vocabulary,
            "order": self.order,
            "smoothing": self.smoothing,
            "k": self.k,
            "boundary": self.boundary,
            "prune": list(self.prune),
            "entries": self.entries,
        }

    # Estimation

    def assign(self, tables: Tables) -> None:
        """Take n-grams and their probabilities from elsewhere, instead of counting; `fit` then only scores the text."""
        # A key that no n-gram has keeps a table from being empty.
        keys = [each if len(each) else np.array([-1]) for each in tables.keys]
        self.entries = [len(each) for each in keys]
        self._add_tables(self.entries)
        self._is_assigned = True
        for variables, values in zip(
            (self.keys, self.log_probability, self.log_backoff), (keys, *tables[1:]), strict=True
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value if len(value) else np.zeros(1))

    def adapt(self, ids: npt.ArrayLike, starts: npt.ArrayLike) -> None:
        """Count the n-grams of a text.

        Args:
            ids: `(tokens,)`, without padding.
            starts: the index of the first token of each document; no n-gram crosses into the next document.
        """
        if self._is_assigned:
            self._text = windows(ids, starts, self.order, self.boundary)
            return
        self._trie = count(ids, starts, self.order, self.vocabulary, self.boundary, self.prune)
        kept = self._trie.kept_keys(self.vocabulary)
        self.entries = [len(keys) for keys in kept]
        self._add_tables(self.entries)
        for table, keys in zip(self.keys, kept, strict=True):
            table.assign(keys)

    def fit(
        self,
        x: Any = None,
        *,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        epochs: int = 1,
        initial_epoch: int = 0,
        verbose: Any = "auto",
        shuffle: bool = False,
    ) -> None:
        """Estimate the probabilities from the counts; the loss is that of the training text, in nats per token.

        It always makes one pass over the text of `adapt`; `x` and `epochs` have no effect.
        """
        del x, epochs, initial_epoch, verbose, shuffle
        if self._trie is not None:
            estimate = functools.partial(self._estimate, self._trie.levels)
        elif self._text is not None:
            estimate = functools.partial(self._text_loss, *self._text)
        else:
            raise ValueError("an n-gram model counts before it is fitted: call adapt(ids, starts) first")
        for callback in callbacks:
            callback.set_model(self)
            callback.on_train_begin()
            callback.on_epoch_begin(0)
        loss = estimate()
        for callback in callbacks:
            callback.on_epoch_end(0, {"loss": loss})
            callback.on_train_end()

    def _text_loss(self, contexts: np.ndarray, tokens: np.ndarray) -> float:
        size = 2**16
        chunks = [slice(first, first + size) for first in range(0, len(tokens), size)]
        return -sum(
            float(tf.reduce_sum(self.token_log_probabilities(contexts[chunk], tokens[chunk]))) for chunk in chunks
        ) / len(tokens)

    def _estimate(self, levels: list[Level]) -> float:
        """Turn counts into probabilities; return the loss."""
        if self.smoothing == "add_k":
            probabilities, backoffs = add_k(levels, self.vocabulary, self.k)
        elif self.smoothing == "witten_bell":
            probabilities, backoffs = witten_bell(levels, self.vocabulary)
        else:
            probabilities, backoffs = kneser_ney(levels, self.vocabulary)
        logs = [np.log(values, out=np.full(len(values), NEVER), where=values > 0) for values in probabilities]
        backoffs = [np.log(np.maximum(values, 1e-30)) for values in backoffs]
        for tables, arrays in ((self.log_probability, logs), (self.log_backoff, backoffs)):
            for table, values, level in zip(tables, arrays, levels, strict=False):
                kept = values[level.kept]
                table.assign(kept if len(kept) else np.zeros(1))
        # The n-grams that each token ends: the longest ones, and shorter ones that begin a document.
        total, tokens = (levels[-1].counts * logs[-1]).sum(), levels[-1].counts.sum()
        for level, values in zip(levels[1:-1], logs[1:-1], strict=True):
            total += (level.initial * level.counts * values).sum()
            tokens += (level.initial * level.counts).sum()
        return float(-total / tokens)

    # Reading and scoring

    def read(
        self, tokens: TokenIds, states: States, lengths: Lengths | None = None, training: bool = False
    ) -> tuple[Tensor, States]:
        """Read on from the given states.

        Returns:
            Contexts `(batch, time, order - 1)`, the last words after each token; and the states after the last real
            token.
        """
        del training
        window, after = self.extend(tokens, states, lengths)
        indices = tf.range(1, tf.shape(tokens)[1] + 1)[:, tf.newaxis] + tf.range(self.order - 1)
        return tf.gather(window, indices, axis=1), after

    def token_log_probabilities(self, features: Tensor, targets: TokenIds, training: bool = False) -> Tensor:
        """Return the log-probability of each target, in nats.

        Args:
            features: contexts `(…, order - 1)`.
            targets: `(…)` ids.
        """
        del training
        targets = tf.cast(targets, tf.int64)
        nodes = self._context_nodes(features)
        result = tf.gather(tf.convert_to_tensor(self.log_probability[0]), targets)
        for length in range(2, self.order + 1):
            context = nodes[length - 2]
            log_backoff = tf.gather(tf.convert_to_tensor(self.log_backoff[length - 2]), tf.maximum(context, 0))
            log_backoff = tf.where(context >= 0, log_backoff, 0)
            node = self._find(length, context, targets)
            found = tf.gather(tf.convert_to_tensor(self.log_probability[length - 1]), tf.maximum(node, 0))
            result = tf.where(node >= 0, found, result + log_backoff)
        return tf.where(targets == 0, NEVER, result)

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Return the log-probabilities of every id after contexts `(batch, order - 1)`: `(batch, vocabulary)`."""
        ids = tf.range(self.vocabulary)[tf.newaxis]
        targets = tf.tile(ids, [tf.shape(features)[0], 1])
        repeated = tf.tile(features[:, tf.newaxis], [1, self.vocabulary, 1])
        return self.token_log_probabilities(repeated, targets)

    def _context_nodes(self, contexts: Tensor) -> list[Tensor]:
        """Return the indices of the n-grams that end the contexts, of length 1, 2, …; -1 where there is none."""
        words = tf.cast(contexts, tf.int64)
        nodes = []
        # All n-grams that begin at each position of the context, extended word by word.
        growing = [tf.where(words[..., start] > 0, words[..., start], -1) for start in range(self.order - 1)]
        for length in range(1, self.order):
            if length > 1:
                growing = [
                    self._find(length, node, words[..., start + length - 1])
                    for start, node in enumerate(growing[: self.order - length])
                ]
            nodes.append(growing[self.order - 1 - length])
        return nodes

    def _find(self, length: int, prefix: Tensor, word: Tensor) -> Tensor:
        """Return the index of the n-gram made of an n-gram shorter by one and a word; -1 where there is none."""
        keys = tf.convert_to_tensor(self.keys[length - 2])
        key = prefix * self.vocabulary + word
        index = tf.searchsorted(keys, tf.reshape(key, [-1]), out_type=tf.int64)
        index = tf.minimum(tf.reshape(index, tf.shape(key)), tf.size(keys, tf.int64) - 1)
        return tf.where((tf.gather(keys, index) == key) & (prefix >= 0), index, -1)
