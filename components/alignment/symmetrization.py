"""One alignment from two: the links seen from the words that generate and from those that are generated.

Links and posteriors are `(batch, source, target)`; forward is where source words generate target words. All of it is in
graph, so that training and exports give out the same.

Sources: Och and Ney 2003; Koehn, Och and Marcu 2003 (grow-diag-final); Koehn et al. 2005 (grow-diag-final-and);
Liang, Taskar and Klein 2006 (thresholds on posteriors).
"""

import tensorflow as tf

NEIGHBOURS = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


def symmetrize(forward, reverse, method="posterior", threshold=0.5):
    """Links of sentence pairs.

    Args:
        forward, reverse: posteriors of links, 0 at padding.
        method: one of `METHODS`; `posterior`: where the mean of both is above the threshold.

    Returns:
        booleans `(batch, source, target)`.
    """
    if method == "posterior":
        return (forward + reverse) / 2.0 > threshold
    return METHODS[method](best_links(forward, axis=1), best_links(reverse, axis=2))


def best_links(posteriors, axis):
    """The most probable link of each generated word, the first of equals; none where NULL is more probable.

    Args:
        axis: of the words that generate: 1 forward, 2 in reverse.
    """
    top = tf.reduce_max(posteriors, axis=axis, keepdims=True)
    depth = tf.shape(posteriors)[axis]
    first = tf.one_hot(tf.argmax(posteriors, axis=axis), depth, True, False, axis=axis, dtype=tf.bool)
    null = 1.0 - tf.reduce_sum(posteriors, axis=axis, keepdims=True)
    return first & (top > tf.maximum(null, 0.0))


def grow_diag(forward, reverse):
    """From the intersection, links of the union beside links, as long as one of their words has none."""
    return _Growing(forward, reverse).grow().links()


def grow_diag_final(forward, reverse):
    """And then links of either direction with a word that has none."""
    return _Growing(forward, reverse).grow().finish(forward, reverse, tf.logical_or).links()


def grow_diag_final_and(forward, reverse):
    """And then links of either direction both of whose words have none."""
    return _Growing(forward, reverse).grow().finish(forward, reverse, tf.logical_and).links()


class _Growing:
    """Links that are added one after the other, of all sentence pairs at once.

    What was added decides on what comes next, so a step looks at one place of each pair. The tables are flat, so that
    a place needs one number, and have a border, so that its neighbours are always there. Above and on the left it is
    wide enough for a place all of whose neighbours are border: the one that pairs without a place left look at.
    """

    border, nowhere = (3, 1), 1

    def __init__(self, forward, reverse):
        self.shape = tf.shape(forward)
        self.height, self.width = self.shape[1] + 4, self.shape[2] + 4
        both = forward & reverse
        self.candidates = self._flat(forward | reverse)
        # Which places are links, which source words have none, which target words have none.
        self.state = (
            self._flat(both),
            ~tf.reshape(tf.pad(tf.reduce_any(both, axis=2), [[0, 0], self.border]), [-1]),
            ~tf.reshape(tf.pad(tf.reduce_any(both, axis=1), [[0, 0], self.border]), [-1]),
        )

    def _flat(self, links):
        return tf.reshape(tf.pad(links, [[0, 0], self.border, self.border]), [-1])

    def links(self):
        """`(batch, source, target)`."""
        return tf.reshape(self.state[0], [self.shape[0], self.height, self.width])[:, 3:-1, 3:-1]

    def grow(self):
        """Adds neighbours of links until there are no more to add."""

        def around(state, i, j):
            for down, right in NEIGHBOURS:
                state = self._add(state, i + down, j + right, self.candidates, tf.logical_or)
            return state

        def grow(state, _):
            before = tf.math.count_nonzero(state[0])
            links = tf.reshape(state[0], [self.shape[0], self.height, self.width])
            state = self._one_by_one(state, links, around)
            return state, tf.math.count_nonzero(state[0]) > before

        self.state = tf.while_loop(lambda _, growing: growing, grow, (self.state, tf.constant(True)))[0]
        return self

    def finish(self, forward, reverse, enough):
        """Adds links of the one, then of the other direction, where enough of their two words have none."""
        for direction in (forward, reverse):
            links = self._flat(direction)

            def add(state, i, j, links=links):
                return self._add(state, i, j, links, enough)

            chosen = tf.reshape(links & ~self.state[0], [self.shape[0], self.height, self.width])
            self.state = self._one_by_one(self.state, chosen, add)
        return self

    def _add(self, state, i, j, candidates, enough):
        """Makes one place of each pair a link, if it is a candidate and enough of its words have none."""
        links, sources, targets = state
        row = tf.range(self.shape[0])
        at, source, target = (row * self.height + i) * self.width + j, row * self.height + i, row * self.width + j
        free_source, free_target = tf.gather(sources, source), tf.gather(targets, target)
        new = tf.gather(candidates, at) & ~tf.gather(links, at) & enough(free_source, free_target)

        def put(table, index, values):
            return tf.tensor_scatter_nd_update(table, index[:, tf.newaxis], values)

        return (
            put(links, at, tf.gather(links, at) | new),
            put(sources, source, free_source & ~new),
            put(targets, target, free_target & ~new),
        )

    def _one_by_one(self, state, chosen, step):
        """Folds `step(state, i, j)` over the chosen places, by source and then by target word."""
        places = tf.cast(tf.where(chosen), tf.int32)
        rows = tf.RaggedTensor.from_value_rowids(places[:, 1:], places[:, 0], nrows=self.shape[0])
        places = rows.to_tensor(self.nowhere, shape=[None, None, 2])

        def body(number, state):
            return number + 1, step(state, places[:, number, 0], places[:, number, 1])

        return tf.while_loop(lambda number, _: number < tf.shape(places)[1], body, (0, state))[1]


METHODS = {
    "posterior": None,
    "intersection": tf.logical_and,
    "union": tf.logical_or,
    "grow-diag": grow_diag,
    "grow-diag-final": grow_diag_final,
    "grow-diag-final-and": grow_diag_final_and,
}


def pharaoh(links):
    """Links as text, `0-0 1-2`, source first, counted from 0: strings `(batch,)`."""
    places = tf.where(links)
    texts = tf.strings.join([tf.strings.as_string(places[:, 1]), tf.strings.as_string(places[:, 2])], "-")
    rows = tf.RaggedTensor.from_value_rowids(texts, places[:, 0], nrows=tf.shape(links, out_type=tf.int64)[0])
    return tf.strings.reduce_join(rows, axis=1, separator=" ")
