"""Which word each piece of a text belongs to."""

import tensorflow as tf

from trellis.components.text.subwords import END, PAD, SPACE
from trellis.components.text.vocabulary import Vocabulary
from trellis.components.types import Tensor, TokenIds


def word_membership(vocabulary: Vocabulary, ids: TokenIds) -> Tensor:
    """Return which word each piece belongs to, `(…, time, words)` floats, 1 or 0; padding and the end belong to none.

    Args:
        ids: `(…, time)`.
    """
    pieces = vocabulary.pieces_of(ids)
    begins = tf.strings.regex_full_match(pieces, f"{SPACE}.*")
    # A space that another space follows begins no word.
    followed = tf.concat([begins[..., 1:] | (ids[..., 1:] == END), tf.zeros_like(begins[..., :1])], axis=-1)
    begins &= ~((pieces == SPACE) & followed)
    words = tf.cumsum(tf.cast(begins, tf.int32), axis=-1) - 1
    words = tf.where((ids == PAD) | (ids == END), -1, words)
    return tf.one_hot(words, tf.maximum(tf.reduce_max(words) + 1, 1))
