"""A reader and a model of one's own, for `trellis train --config-dir conf model=mine`."""

import keras

from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.readers.sentence import Sentence
from trellis.layers import CRF, GRU


def read(path, separator="/"):
    """Return the sentences of a file with one sentence per line, `word/TAG word/TAG`."""
    sentences = []
    for _, line in read_lines(path):
        if not is_blank(line):
            words, _, tags = zip(*(token.rpartition(separator) for token in line.split(" ") if token), strict=True)
            sentences.append(Sentence(words, tags))
    return sentences


def tagger(features, tags, *, units, dropout, name):
    """Return a tagger of words alone.

    A tagger has a layer `emissions` with a score for each tag, and a layer `head` that chooses the tags.

    Args:
        features: sizes of the id spaces, `{"words": …}`.
        tags: the number of tags.
    """
    words = keras.Input((None,), dtype="int32", name="words")
    x = keras.layers.Embedding(features["words"], units, name="word_embedding")(words)
    x = keras.layers.Dropout(dropout)(x)
    mask = keras.ops.not_equal(words, 0)
    x = keras.layers.Bidirectional(GRU(units, return_sequences=True))(x, mask=mask)
    emissions = keras.layers.Dense(tags, name="emissions", dtype="float32")(x)
    return keras.Model({"words": words}, CRF(name="head")(emissions, mask=mask), name=name)
