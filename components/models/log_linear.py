"""Classical taggers: hand-written features under a CRF, a MEMM, or a softmax at each time step."""

import keras

from trellis.components.layers.feature_scores import FeatureScores
from trellis.components.models.tagger import HEADS
from trellis.components.text.templates import parse


def log_linear(features, tags, *, head, templates, buckets, l1, l2, constraints=None, name="log_linear"):
    """A tagger without hidden layers.

    Inputs, by name: `words (batch, time)`, which tells padding (0), and `attributes (batch, time, attributes)`.
    Output: best tags `(batch, time)`. The layer `emissions` gives the scores, the layer `head` chooses.

    Args:
        features: sizes of the id spaces; tags: number of tags.
        head: `crf`, `memm` or `softmax`.
        templates, buckets, l1, l2: see `FeatureScores`.
        constraints: of the head, see `LinearChainHead`: `{"constraints", "tags", "constrain_training"}`, or None.
    """
    words = keras.Input((None,), dtype="int32", name="words")
    scores = FeatureScores(features["attributes"], templates, tags, buckets, l1, l2, dtype="float32", name="emissions")
    attributes = keras.Input((None, len(parse(templates).attributes)), dtype="int32", name="attributes")
    mask = keras.ops.not_equal(words, 0)
    best = HEADS[head](name="head", dtype="float32", **(constraints or {}))(scores(attributes), mask=mask)
    return keras.Model({"words": words, "attributes": attributes}, best, name=name)
