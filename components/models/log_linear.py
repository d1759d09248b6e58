"""Classical taggers: hand-written features under a CRF, a MEMM, or a softmax at each time step."""

from collections.abc import Mapping, Sequence

import keras

from trellis.components.layers.feature_scores import FeatureScores
from trellis.components.models.tagger import HEADS
from trellis.components.text.templates import parse
from trellis.components.types import JSON


def log_linear(
    features: Mapping[str, int],
    tags: int,
    *,
    head: str,
    templates: Sequence[str],
    buckets: int,
    l1: float,
    l2: float,
    constraints: JSON | None = None,
    name: str = "log_linear",
) -> keras.Model:
    """Build a tagger without hidden layers.

    Inputs, by name: `words (batch, time)`, of which 0 is padding, and `attributes (batch, time, attributes)`. Output:
    best tags `(batch, time)`. The layer `emissions` computes the scores, the layer `head` chooses.

    Args:
        features: sizes of the id spaces, `{"attributes": …}`.
        tags: number of tags.
        head: `crf`, `memm` or `softmax`.
        templates, buckets, l1, l2: see `FeatureScores`.
        constraints: arguments of the head, see `LinearChainHead`: `{"constraints", "tags", "constrain_training"}`, or
            None.
    """
    words = keras.Input((None,), dtype="int32", name="words")
    scores = FeatureScores(features["attributes"], templates, tags, buckets, l1, l2, dtype="float32", name="emissions")
    attributes = keras.Input((None, len(parse(templates).attributes)), dtype="int32", name="attributes")
    mask = keras.ops.not_equal(words, 0)
    best = HEADS[head](name="head", dtype="float32", **(constraints or {}))(scores(attributes), mask=mask)
    return keras.Model({"words": words, "attributes": attributes}, best, name=name)
