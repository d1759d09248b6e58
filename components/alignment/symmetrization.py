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
    candidates = forward | reverse

    def beside(links, i, j):
        for down, right in NEIGHBOURS:
            links |= _at(links, i + down, j + right) & candidates & (_free(links, 2) | _free(links, 1))
        return links

    def grow(links, _):
        grown = _one_by_one(links, links, beside)
        return grown, tf.reduce_any(grown & ~links)

    links = forward & reverse
    return tf.while_loop(lambda _, growing: growing, grow, (links, tf.reduce_any(links)))[0]


def grow_diag_final(forward, reverse):
    """And then links of either direction with a word that has none."""
    return _final(grow_diag(forward, reverse), forward, reverse, tf.logical_or)


def grow_diag_final_and(forward, reverse):
    """And then links of either direction both of whose words have none."""
    return _final(grow_diag(forward, reverse), forward, reverse, tf.logical_and)


def _final(links, forward, reverse, enough):
    def add(links, i, j):
        return links | (_at(links, i, j) & enough(_free(links, 2), _free(links, 1)))

    for direction in (forward, reverse):
        links = _one_by_one(links, direction & ~links, add)
    return links


def _free(links, axis):
    """Words without a link."""
    return ~tf.reduce_any(links, axis=axis, keepdims=True)


def _at(links, i, j):
    """True at one place of each sentence pair."""
    rows = tf.range(tf.shape(links)[1])[tf.newaxis, :, tf.newaxis] == i[:, tf.newaxis, tf.newaxis]
    return rows & (tf.range(tf.shape(links)[2])[tf.newaxis, tf.newaxis, :] == j[:, tf.newaxis, tf.newaxis])


def _one_by_one(links, chosen, step):
    """Folds `step(links, i, j)` over the chosen places, by source and then target word, of all pairs at once."""
    places = tf.cast(tf.where(chosen), tf.int32)
    rows = tf.RaggedTensor.from_value_rowids(places[:, 1:], places[:, 0], nrows=tf.shape(links)[0])
    # Where a pair has fewer of them than others, the rest are places that no neighbour of a word is.
    places = rows.to_tensor(-9, shape=[None, None, 2])

    def body(number, links):
        return number + 1, step(links, places[:, number, 0], places[:, number, 1])

    return tf.while_loop(lambda number, _: number < tf.shape(places)[1], body, (0, links))[1]


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
