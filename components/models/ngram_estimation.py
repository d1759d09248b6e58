"""Count the n-grams of a text, and estimate their probabilities from the counts.

Each estimator returns the probabilities of the n-grams of each length, and the weight with which each context but those
of the last length backs off to the context without its first word. What n-grams that are not kept would have had goes
to the shorter context: probabilities still add up to one.

Sources: Chen and Goodman 1999 (modified Kneser-Ney); Witten and Bell 1991.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True, eq=False)
class Level:
    """The n-grams of one length.

    Attributes:
        keys: ascending; the index of the first words × vocabulary + the last word, `(entries,)`.
        counts: occurrences, `(entries,)`.
        suffixes: the index, one level down, of each n-gram without its first word, `(entries,)`.
        initial: whether each begins a document, `(entries,)`.
        kept: whether each has a probability of its own, `(entries,)`.
    """

    keys: np.ndarray
    counts: np.ndarray
    suffixes: np.ndarray
    initial: np.ndarray
    kept: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Trie:
    """The n-grams of a text, by their length from 1 on.

    A class of its own, because Keras wraps lists that are attributes of a model, and their items.
    """

    levels: list[Level]

    def kept_keys(self, vocabulary: int) -> list[np.ndarray]:
        """Return the keys of the n-grams of length 2, 3, … that are kept; -1 alone if none is."""
        keys, indices = [], np.arange(vocabulary)
        for level in self.levels[1:]:
            prefixes, words = np.divmod(level.keys[level.kept], vocabulary)
            keys.append(indices[prefixes] * vocabulary + words if len(words) else np.array([-1]))
            indices = np.cumsum(level.kept) - 1
        return keys


def count(
    ids: npt.ArrayLike,
    starts: npt.ArrayLike,
    order: int,
    vocabulary: int,
    boundary: int,
    prune: Sequence[int] = (),
) -> Trie:
    """Return the trie of n-grams up to `order`; the boundary precedes each document.

    Args:
        prune: n-grams of length 1, 2, … that occur at most this often are not kept: 0 for length 1, ascending, the last
            number also for longer ones. Then all parts of an n-gram that is kept are kept, too.
    """
    ids = np.asarray(ids, np.int64)
    stream, position = _with_boundaries(ids, starts, boundary)
    words, every = np.arange(vocabulary), np.ones(vocabulary, bool)
    # The empty n-gram is the suffix of every word.
    levels = [Level(words, np.bincount(ids, minlength=vocabulary), np.zeros(0, np.int64), ~every, every)]
    least = [1 + (prune[min(length, len(prune)) - 1] if prune else 0) for length in range(1, order + 1)]
    nodes = stream
    for length in range(2, order + 1):
        ends = np.flatnonzero(position >= length - 1)
        if not len(ends):
            # No document is that long; a key that no n-gram has keeps the table from being empty.
            empty = np.zeros(1, np.int64)
            levels.append(Level(empty - 1, empty, empty, empty > 0, empty > 0))
            continue
        keys = nodes[ends - 1] * vocabulary + stream[ends]
        keys, sorted_from = _sorted(keys)
        first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        counts = np.diff(first, append=len(keys))
        examples = ends[sorted_from[first]]
        kept = counts >= least[length - 1]
        levels.append(Level(keys[first], counts, nodes[examples], position[examples] == length - 1, kept))
        if length < order:
            nodes = np.full(len(stream), -1)
            nodes[ends[sorted_from]] = np.repeat(np.arange(len(first)), counts)
    return Trie(levels)


def windows(ids: npt.ArrayLike, starts: npt.ArrayLike, order: int, boundary: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `order - 1` words before each token, `(tokens, order - 1)`, 0 before its document; and the tokens."""
    stream, position = _with_boundaries(np.asarray(ids, np.int64), starts, boundary)
    ends = np.flatnonzero(position)
    offsets = np.arange(order - 1, 0, -1)
    return np.where(position[ends, None] >= offsets, stream[ends[:, None] - offsets], 0), stream[ends]


def _with_boundaries(ids: np.ndarray, starts: npt.ArrayLike, boundary: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids with the boundary before each document, and the position of each in it; 0 is the boundary."""
    starts = np.asarray(starts, np.int64)
    stream, begins = np.insert(ids, starts, boundary), starts + np.arange(len(starts))
    return stream, np.arange(len(stream)) - np.repeat(begins, np.diff(np.append(begins, len(stream))))


def _sorted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys in ascending order, and the index that each had."""
    bits = len(keys).bit_length()
    if int(keys.max()) >> (62 - bits):
        order = np.argsort(keys)
        return keys[order], order
    # With its index in the lower bits of each key, one sort does both, several times as fast.
    combined = keys << bits
    combined |= np.arange(len(keys))
    combined.sort()
    order = combined & ((1 << bits) - 1)
    combined >>= bits
    return combined, order


def _contexts(level: Level, vocabulary: int) -> np.ndarray:
    """Return the index of each n-gram without its last word."""
    return level.keys // vocabulary


def kneser_ney(levels: list[Level], vocabulary: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Estimate by modified, interpolated Kneser-Ney smoothing."""
    probabilities: list[np.ndarray] = []
    backoffs: list[np.ndarray] = []
    for index, level in enumerate(levels):
        if index + 1 < len(levels):
            # The number of different words before an n-gram; its count at the start of a document, which nothing
            # precedes.
            preceding = np.bincount(levels[index + 1].suffixes, minlength=len(level.keys))
            counts = np.where(level.initial, level.counts, preceding)
        else:
            counts = level.counts
        discounts = _discounts(counts)
        discounted = np.where(level.kept, np.maximum(counts - discounts[np.minimum(counts, 3)], 0.0), 0.0)
        if index == 0:
            total = counts.sum()
            left = discounts[np.minimum(counts, 3)][counts > 0].sum() / total
            predicted = np.arange(vocabulary) > 0
            probabilities.append(predicted * (discounted / total + left / predicted.sum()))
            continue
        contexts, size = _contexts(level, vocabulary), len(levels[index - 1].keys)
        totals = np.bincount(contexts, counts, size)
        left = np.bincount(contexts, counts - discounted, size)
        weights = np.divide(left, totals, out=np.ones(size), where=totals > 0)
        backoffs.append(weights)
        lower = probabilities[index - 1][level.suffixes]
        # Where all counts of a context were discounted to 0, the shorter context decides.
        share = np.divide(discounted, totals[contexts], out=np.zeros(len(counts)), where=totals[contexts] > 0)
        probabilities.append(share + weights[contexts] * lower)
    return probabilities, backoffs


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Return the discounts of counts 0, 1, 2 and 3 or more, from the counts of counts."""
    n = [np.count_nonzero(counts == value) for value in range(5)]
    if min(n[1:]) == 0:
        # The text is too small to estimate them: typical values of Kneser-Ney smoothing.
        return np.array([0.0, 0.5, 1.0, 1.5])
    y = n[1] / (n[1] + 2 * n[2])
    discounts = [0.0, *(value - (value + 1) * y * n[value + 1] / n[value] for value in (1, 2, 3))]
    return np.clip(discounts, 0.0, [0.0, 1.0, 2.0, 3.0])


def witten_bell(levels: list[Level], vocabulary: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Estimate by Witten-Bell smoothing."""
    predicted = np.arange(vocabulary) > 0
    counts = levels[0].counts
    total, unigram_kinds = counts.sum(), np.count_nonzero(counts)
    probabilities = [predicted * (counts + unigram_kinds / predicted.sum()) / (total + unigram_kinds)]
    backoffs = []
    for index, level in enumerate(levels[1:], 1):
        contexts, size = _contexts(level, vocabulary), len(levels[index - 1].keys)
        totals = np.bincount(contexts, level.counts, size)
        kinds = np.bincount(contexts, minlength=size)
        dropped = np.bincount(contexts, np.where(level.kept, 0, level.counts), size)
        weights = np.divide(kinds + dropped, totals + kinds, out=np.ones(size), where=kinds > 0)
        backoffs.append(weights)
        lower = probabilities[index - 1][level.suffixes]
        share = np.where(level.kept, level.counts, 0) / (totals + kinds)[contexts]
        probabilities.append(share + weights[contexts] * lower)
    return probabilities, backoffs


def add_k(levels: list[Level], vocabulary: int, k: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Estimate by adding `k` to every count of the last length."""
    uniform = (np.arange(vocabulary) > 0) / (vocabulary - 1)
    if len(levels) == 1:
        counts = levels[0].counts
        return [(uniform > 0) * (counts + k) / (counts.sum() + k * (vocabulary - 1))], []
    # Shorter contexts are uninformative: after them every word is equally likely.
    probabilities = [np.full(len(level.keys), 1 / (vocabulary - 1)) for level in levels[:-1]]
    probabilities[0] = uniform
    backoffs = [np.ones(len(level.keys)) for level in levels[:-2]]
    top, contexts = levels[-1], _contexts(levels[-1], vocabulary)
    size = len(levels[-2].keys)
    totals = np.bincount(contexts, top.counts, size) + k * (vocabulary - 1)
    dropped = np.bincount(contexts, np.where(top.kept, 0, top.counts), size)
    weights = (dropped + k * (vocabulary - 1)) / totals
    probabilities.append(np.where(top.kept, top.counts, 0) / totals[contexts] + weights[contexts] / (vocabulary - 1))
    return probabilities, [*backoffs, weights]
