"""Combine the alignments of both directions into one.

Links and posteriors are `(batch, source, target)`; forward means that source words generate target words. Everything
runs in graph, so that training and exports give the same links.

Sources: Och and Ney 2003; Koehn, Och and Marcu 2003 (grow-diag-final); Koehn et al. 2005 (grow-diag-final-and);
Liang, Taskar and Klein 2006 (thresholds on posteriors).
"""

from collections.abc import Callable
from typing import Self, TypeAlias

import tensorflow as tf

from trellis.components.types import Strings, Tensor

Links: TypeAlias = Tensor  # (batch, source, target) booleans
Posteriors: TypeAlias = Tensor  # (batch, source, target) floats, 0 at padding

NEIGHBOURS = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


def symmetrize(forward: Posteriors, reverse: Posteriors, method: str = "posterior", threshold: float = 0.5) -> Links:
    """Return the links of sentence pairs.

    Args:
        forward: posteriors of links where source words generate target words.
        reverse: posteriors of links where target words generate source words.
        method: `posterior` links words whose mean posterior exceeds the threshold; the others are `METHODS`, applied to
            the most probable links of each direction.
        threshold: see `method`.
    """
    if method == "posterior":
        return (forward + reverse) / 2.0 > threshold
    return METHODS[method](best_links(forward, axis=1), best_links(reverse, axis=2))


def best_links(posteriors: Posteriors, axis: int) -> Links:
    """Return the most probable link of each generated word (the first of equals), none if NULL is more probable.

    Args:
        posteriors: posteriors of one direction.
        axis: the axis of the generating words: 1 forward, 2 in reverse.
    """
    top = tf.reduce_max(posteriors, axis=axis, keepdims=True)
    depth = tf.shape(posteriors)[axis]
    first = tf.one_hot(tf.argmax(posteriors, axis=axis), depth, True, False, axis=axis, dtype=tf.bool)
    null = 1.0 - tf.reduce_sum(posteriors, axis=axis, keepdims=True)
    return first & (top > tf.maximum(null, 0.0))


def grow_diag(forward: Links, reverse: Links) -> Links:
    """Start from the intersection and add links of the union next to links, while one of their words has none."""
    return _GrowingLinks(forward, reverse).grow().links()


def grow_diag_final(forward: Links, reverse: Links) -> Links:
    """Apply `grow_diag`, then add links of either direction with a word that has none."""
    return _GrowingLinks(forward, reverse).grow().finish(forward, reverse, tf.logical_or).links()


def grow_diag_final_and(forward: Links, reverse: Links) -> Links:
    """Apply `grow_diag`, then add links of either direction both of whose words have none."""
    return _GrowingLinks(forward, reverse).grow().finish(forward, reverse, tf.logical_and).links()


METHODS: dict[str, Callable[[Links, Links], Links]] = {
    "intersection": tf.logical_and,
    "union": tf.logical_or,
    "grow-diag": grow_diag,
    "grow-diag-final": grow_diag_final,
    "grow-diag-final-and": grow_diag_final_and,
}


class _GrowingLinks:
    """Links to which others are added one at a time, in all sentence pairs in parallel.

    Each added link affects the next decision, so a step looks at one cell of each sentence pair. The tables are flat,
    so that one index addresses a cell, and have a border, so that every cell has all its neighbours. The border above
    and on the left is wide enough to hold a cell all of whose neighbours are border: sentence pairs without cells left
    look at that one.
    """

    border, dummy = (3, 1), 1

    def __init__(self, forward: Links, reverse: Links) -> None:
        self.shape = tf.shape(forward)
        self.height, self.width = self.shape[1] + 4, self.shape[2] + 4
        both = forward & reverse
        self.candidates = self._flat(forward | reverse)
        # Which cells are links, which source words have no link, which target words have no link.
        self.state = (
            self._flat(both),
            ~tf.reshape(tf.pad(tf.reduce_any(both, axis=2), [[0, 0], self.border]), [-1]),
            ~tf.reshape(tf.pad(tf.reduce_any(both, axis=1), [[0, 0], self.border]), [-1]),
        )

    def _flat(self, links: Links) -> Tensor:
        return tf.reshape(tf.pad(links, [[0, 0], self.border, self.border]), [-1])

    def _with_border(self, cells: Tensor) -> Tensor:
        return tf.reshape(cells, [self.shape[0], self.height, self.width])

    def links(self) -> Links:
        """Return the links."""
        return self._with_border(self.state[0])[:, 3:-1, 3:-1]

    def grow(self) -> Self:
        """Add neighbours of links until there are none left to add."""

        def add_neighbours(state: Tensor, i: Tensor, j: Tensor) -> Tensor:
            for down, right in NEIGHBOURS:
                state = self._add(state, i + down, j + right, self.candidates, tf.logical_or)
            return state

        def grow(state: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
            before = tf.math.count_nonzero(state[0])
            state = self._fold_cells(state, self._with_border(state[0]), add_neighbours)
            return state, tf.math.count_nonzero(state[0]) > before

        self.state = tf.while_loop(lambda _, growing: growing, grow, (self.state, tf.constant(True)))[0]
        return self

    def finish(self, forward: Links, reverse: Links, enough: Callable[[Tensor, Tensor], Tensor]) -> Self:
        """Add links of one direction, then of the other.

        Args:
            forward: the links of one direction.
            reverse: the links of the other.
            enough: decides whether to add a link, given whether its source word and its target word have none.
        """
        for direction in (forward, reverse):
            candidates = self._flat(direction)

            def add(state: Tensor, i: Tensor, j: Tensor, candidates: Tensor = candidates) -> Tensor:
                return self._add(state, i, j, candidates, enough)

            self.state = self._fold_cells(self.state, self._with_border(candidates & ~self.state[0]), add)
        return self

    def _add(
        self, state: Tensor, i: Tensor, j: Tensor, candidates: Tensor, enough: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Make one cell of each sentence pair a link, if it is a candidate and enough of its words have none."""
        links, free_sources, free_targets = state
        row = tf.range(self.shape[0])
        source, target = row * self.height + i, row * self.width + j
        cell = source * self.width + j
        source_is_free, target_is_free = tf.gather(free_sources, source), tf.gather(free_targets, target)
        is_link = tf.gather(links, cell)
        new = tf.gather(candidates, cell) & ~is_link & enough(source_is_free, target_is_free)

        def update(table: Tensor, index: Tensor, values: Tensor) -> Tensor:
            return tf.tensor_scatter_nd_update(table, index[:, tf.newaxis], values)

        return (
            update(links, cell, is_link | new),
            update(free_sources, source, source_is_free & ~new),
            update(free_targets, target, target_is_free & ~new),
        )

    def _fold_cells(self, state: Tensor, chosen: Tensor, step: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """Fold `step(state, i, j)` over the chosen cells, ordered by source and then by target word."""
        cells = tf.cast(tf.where(chosen), tf.int32)
        rows = tf.RaggedTensor.from_value_rowids(cells[:, 1:], cells[:, 0], nrows=self.shape[0])
        cells = rows.to_tensor(self.dummy, shape=[None, None, 2])

        def body(index: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            return index + 1, step(state, cells[:, index, 0], cells[:, index, 1])

        return tf.while_loop(lambda index, _: index < tf.shape(cells)[1], body, (0, state))[1]


def pharaoh(links: Links) -> Strings:
    """Return links as text, `0-0 1-2`, source first, counted from 0: strings `(batch,)`."""
    cells = tf.where(links)
    texts = tf.strings.join([tf.strings.as_string(cells[:, 1]), tf.strings.as_string(cells[:, 2])], "-")
    rows = tf.RaggedTensor.from_value_rowids(texts, cells[:, 0], nrows=tf.shape(links, out_type=tf.int64)[0])
    return tf.strings.reduce_join(rows, axis=1, separator=" ")
