"""Taggers: word, character and casing features, a stack of recurrent layers, and a head that chooses the tags."""

import keras

from trellis.components.layers.character_encoder import CharacterEncoder
from trellis.components.layers.crf import CRF
from trellis.components.layers.memm import MEMM
from trellis.components.layers.sequence_head import IndependentTags
from trellis.components.layers.stored_weights import Embedding
from trellis.components.layers.word_dropout import WordDropout
from trellis.components.models.recurrent_stack import recurrent_stack

HEADS = {"crf": CRF, "memm": MEMM, "softmax": IndependentTags}


def tagger(
    features,
    tags,
    *,
    cell,
    bidirectional,
    layers,
    units,
    head,
    words,
    characters,
    casing,
    dropout,
    constraints=None,
    vectors=None,
    name="tagger",
):
    """A tagger as an ordinary functional `keras.Model`.

    Inputs, by name: `words (batch, time)`, `characters (batch, time, characters)` and `casing (batch, time)`, ids
    with 0 for padding (on the right); those whose width is 0 (or kind `none`) are left out. Output: best tags
    `(batch, time)`. The layer `emissions` gives the scores `(batch, time, tags)`, the layer `head` chooses.

    Args:
        features: sizes of the id spaces: `{"words": …, "characters": …, "casing": …}`.
        tags: number of tags.
        cell: `rnn`, `lstm` or `gru`; layers: how many, one above the other; units: width in each direction.
        head: `crf`, `memm` or `softmax`.
        words: `{"dim", "tune"}`; characters: `{"kind", "dim", "units", "window"}`; casing: `{"dim"}`.
        dropout: rates `{"word", "input", "recurrent", "output"}`.
        constraints: of the head, see `LinearChainHead`: `{"constraints", "tags", "constrain_training"}`, or None.
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
        parts.append(
            keras.layers.Embedding(features["casing"], casing["dim"], name="casing_embedding")(inputs["casing"])
        )
    x = keras.layers.Concatenate(name="features")(parts) if len(parts) > 1 else parts[0]

    x = recurrent_stack(x, mask, cell, bidirectional, layers, units, dropout)
    x = keras.layers.Dropout(dropout["output"], name="output_dropout")(x)
    emissions = keras.layers.Dense(tags, name="emissions", dtype="float32")(x)
    head = HEADS[head](name="head", dtype="float32", **(constraints or {}))
    return keras.Model(inputs, head(emissions, mask=mask), name=name)
