"""Taggers: word, character and casing features, a stack of recurrent layers, and a head that chooses the tags."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from trellis.components.layers.character_encoder import CharacterEncoder
from trellis.components.layers.crf import CRF
from trellis.components.layers.memm import MEMM
from trellis.components.layers.sequence_head import IndependentTags, SequenceHead
from trellis.components.layers.stored_weights import Embedding
from trellis.components.layers.word_dropout import WordDropout
from trellis.components.models.recurrent_stack import recurrent_stack
from trellis.components.types import JSON

HEADS: dict[str, type[SequenceHead]] = {"crf": CRF, "memm": MEMM, "softmax": IndependentTags}


def tagger(
    features: Mapping[str, int],
    tags: int,
    *,
    cell: str,
    bidirectional: bool,
    layers: int,
    units: int,
    head: str,
    words: Mapping[str, Any],
    characters: Mapping[str, Any],
    casing: Mapping[str, Any],
    dropout: Mapping[str, float],
    constraints: JSON | None = None,
    vectors: np.ndarray | None = None,
    name: str = "tagger",
) -> keras.Model:
    """Build a tagger as an ordinary functional `keras.Model`.

    Inputs, by name: `words (batch, time)`, `characters (batch, time, characters)` and `casing (batch, time)`, ids with
    0 for padding on the right; those of width 0 (or kind `none`) are left out. Output: best tags `(batch, time)`. The
    layer `emissions` computes the scores `(batch, time, tags)`, the layer `head` chooses.

    Args:
        features: sizes of the id spaces: `{"words": …, "characters": …, "casing": …}`.
        tags: number of tags.
        cell: `rnn`, `lstm` or `gru`.
        bidirectional: read in both directions.
        layers: number of recurrent layers.
        units: width of each in each direction.
        head: `crf`, `memm` or `softmax`.
        words: `{"dim", "tune"}`.
        characters: `{"kind", "dim", "units", "window"}`.
        casing: `{"dim"}`.
        dropout: rates `{"word", "input", "recurrent", "output"}`.
        constraints: arguments of the head, see `LinearChainHead`: `{"constraints", "tags", "constrain_training"}`, or
            None.
        vectors: initial word embeddings `(words, dim)`, or None for random ones.
    """
    inputs = {"words": keras.Input((None,), dtype="int32", name="words")}
    mask = keras.ops.not_equal(inputs["words"], 0)

    embedding = Embedding(
        features["words"],
        words["dim"],
        embeddings_initializer=keras.initializers.RandomUniform(-0.15, 0.15),
        trainable=words["tune"],
        name="word_embedding",
    )
    parts = [embedding(WordDropout(dropout["word"], name="word_dropout")(inputs["words"]))]
    if vectors is not None:
        embedding.set_weights([vectors])
    if characters["kind"] != "none":
        inputs["characters"] = keras.Input((None, None), dtype="int32", name="characters")
        encoder = CharacterEncoder(features["characters"], **characters, name="character_encoder")
        parts.append(encoder(inputs["characters"]))
    if casing["dim"]:
        inputs["casing"] = keras.Input((None,), dtype="int32", name="casing")
        casing_embedding = keras.layers.Embedding(features["casing"], casing["dim"], name="casing_embedding")
        parts.append(casing_embedding(inputs["casing"]))
    x = keras.layers.Concatenate(name="features")(parts) if len(parts) > 1 else parts[0]

    x = recurrent_stack(x, mask, cell, bidirectional, layers, units, dropout)
    x = keras.layers.Dropout(dropout["output"], name="output_dropout")(x)
    emissions = keras.layers.Dense(tags, name="emissions", dtype="float32")(x)
    chooser = HEADS[head](name="head", dtype="float32", **(constraints or {}))
    return keras.Model(inputs, chooser(emissions, mask=mask), name=name)
