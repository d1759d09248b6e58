"""What a tagger thinks of the same words elsewhere in their document, in graph."""

import tensorflow as tf

from trellis.components.types import Strings, Tensor

SMALLEST = 1e-3  # added to mean posteriors before their logarithm


def document_evidence(posteriors: Tensor, words: Strings, documents: Tensor) -> Tensor:
    """Return what the posteriors of the other occurrences of each word in its document say of it.

    A name that is hard to recognize in one sentence is often plain in another (Krishnan and Manning 2006). Words are
    the same whatever their case.

    Args:
        posteriors: the posterior probability of each tag, `(tokens, tags)`.
        words: `(tokens,)`.
        documents: the document of each token, `(tokens,)` int32.

    Returns:
        `(tokens, 2 * tags + 1)`: the logarithm of the mean of each tag's posteriors at the other occurrences, and the
        highest of them, less what no evidence would be, `log SMALLEST` and 0; then 1. All are 0 for a word that occurs
        once in its document.
    """
    keys = tf.strings.join([tf.strings.as_string(documents), tf.strings.lower(words, encoding="utf-8")], "\t")
    distinct, group = tf.unique(keys)
    groups = tf.size(distinct)

    def sums(values: Tensor) -> Tensor:
        """Return the sum over the occurrences of each word, at each occurrence."""
        return tf.gather(tf.math.unsorted_segment_sum(values, group, groups), group)

    def highest(values: Tensor) -> Tensor:
        return tf.gather(tf.math.unsorted_segment_max(values, group, groups), group)

    others = sums(tf.ones_like(posteriors[:, :1])) - 1
    mean = tf.math.divide_no_nan(sums(posteriors) - posteriors, others)
    # Rounding may leave a sum of others just below 0.
    log_mean = tf.math.log(tf.maximum(mean, 0.0) / SMALLEST + 1)
    top = highest(posteriors)
    is_top = posteriors == top
    second = highest(tf.where(is_top, 0.0, posteriors))
    only_top = is_top & (sums(tf.cast(is_top, posteriors.dtype)) == 1)
    elsewhere = tf.where(only_top, second, top)
    evidence = tf.concat([log_mean, elsewhere, tf.ones_like(others)], axis=1)
    return tf.where(others > 0, evidence, 0.0)
