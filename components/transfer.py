"""From a language model into a classifier, a tagger or another language model: what is of words goes word by word."""

import itertools
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from trellis.components.errors import InputError
from trellis.components.models import language_model  # noqa: F401 - what is loaded has to be known to Keras
from trellis.components.saved_model.versions import EXTRA, latest
from trellis.components.text.stream import ENDS

VOCABULARY = "vocabulary.json"  # beside the checkpoints of a run
PRETRAINED = f"{EXTRA}/pretrained.json"  # in an export


class Pretrained(NamedTuple):
    """What a language model leaves.

    Attributes:
        source: where it was read from.
        words: its vocabulary, without padding and the unknown word.
        embeddings: `(ids, dim)`.
        cell: `lstm`, `gru`, `rnn`, …; None without recurrent layers.
        layers: weights of each recurrent layer, from the lowest.
        backwards: whether it read texts from their ends.
        softmax: `[bias (ids,)]`, before it the kernel `(ids, dim)` where that is not the embeddings; empty where
            it is not one distribution over all words.
        projection: weights of the layer between states and softmax; empty without one.
    """

    source: str
    words: list
    embeddings: np.ndarray
    cell: str | None
    layers: list
    backwards: bool
    softmax: list
    projection: list


def described(reader, words):
    """Which of a language model's variables are what, for `PRETRAINED`; None for a model without embeddings."""
    if not hasattr(reader, "embedding"):
        return None
    numbers = {id(variable): number for number, variable in enumerate(reader.variables)}
    softmax, projection = _output(reader)
    return {
        "words": list(words),
        "backwards": reader.settings.get("backwards", False),
        "cell": reader.settings.get("cell"),
        "embedding": numbers[id(reader.embedding.embeddings)],
        "layers": [[numbers[id(weight)] for weight in layer.weights] for layer in getattr(reader, "recurrent", ())],
        "softmax": [numbers[id(weight)] for weight in softmax],
        "projection": [numbers[id(weight)] for weight in projection],
    }


def _output(reader):
    """Weights of a language model's softmax that are of all words and its own, and those of the layer before it."""
    softmax = () if reader.softmax.tails else reader.softmax.weights
    projection = getattr(reader, "projection", None)
    own = [weight for weight in softmax if weight is not reader.embedding.embeddings]
    return own, projection.weights if projection else []


def read(source):
    """The language model of a run's folder or of an export.

    Raises:
        InputError: neither is there, or it is no model with embeddings.
    """
    folder = Path(source)
    try:
        if (folder / "checkpoints" / "best.keras").is_file():
            reader = keras.saving.load_model(folder / "checkpoints" / "best.keras", compile=False)
            plan = described(reader, json.loads((folder / VOCABULARY).read_text()))
            values = [np.asarray(variable) for variable in reader.variables]
        else:
            folder = latest(folder)
            plan = json.loads((folder / PRETRAINED).read_text())
            stored = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
            plan = {"softmax": [], "projection": [], **plan}  # which older exports do not have
            wanted = {plan["embedding"], *plan["softmax"], *plan["projection"], *itertools.chain(*plan["layers"])}
            values = {number: _parameter(stored, f"parameters/{number}") for number in wanted}
    except InputError as error:
        raise InputError(f"init_from={source}: neither a run's folder nor an export ({error})") from None
    except (OSError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"init_from={source}: no language model to start from ({str(error).splitlines()[0]})"
        ) from None
    if plan is None:
        raise InputError(f"init_from={source}: this model has no embeddings to start from")
    return Pretrained(
        str(source),
        plan["words"],
        values[plan["embedding"]],
        plan["cell"],
        [[values[number] for number in layer] for layer in plan["layers"]],
        bool(plan["backwards"]),
        [values[number] for number in plan["softmax"]],
        [values[number] for number in plan["projection"]],
    )


def _parameter(stored, name):
    """A weight of an export, which may be stored in fewer bits (`trellis.components.layers.stored_weights`)."""

    def tensor(part):
        key = f"{name}{part}/.ATTRIBUTES/VARIABLE_VALUE"
        return stored.get_tensor(key).astype(np.float32) if stored.has_tensor(key) else None

    plain, values, scale = map(tensor, ("", "/values", "/scale"))
    if plain is not None:
        return plain
    return values if scale is None else values * scale


def most_frequent(pretrained, count):
    """That many words of language models, the most frequent of each; all where `count` is None."""
    words = ([word for word in each.words if word not in ENDS.values()] for each in pretrained)
    return list(dict.fromkeys(word for each in words for word in each[:count]))


def apply(pretrained, model, words, embeddings=True, encoder=True):
    """Puts pretrained weights into a tagger, a classifier or a language model.

    Two models, one that reads forwards and one that reads backwards, each bring their embeddings: the word vectors
    are theirs side by side. A language model goes on from one that reads as it does.

    Args:
        pretrained: one or two `Pretrained`.
        model: with a layer `word_embedding` and recurrent layers `lstm_1`, `bilstm_1`, …; or a neural language model.
        words: the model's own vocabulary; pretrained vectors go by word, and by lower-cased word.
        embeddings, encoder: which parts to take over; the softmax of a language model is of words, as embeddings are.

    Returns:
        groups of the variables that were set, from the output downwards; and `(matched, new)` words.

    Raises:
        InputError: a shape differs; names layer, shapes, and what to set.
    """
    pretrained = sorted(pretrained, key=lambda each: each.backwards)
    if len(pretrained) > 2 or len({each.backwards for each in pretrained}) < len(pretrained):
        raise InputError("init_from: several models have to be one that reads forwards and one that reads backwards")
    predicts = hasattr(model, "softmax")
    layer = next((each for each in model.layers if each.name in ("word_embedding", "embedding")), None)
    if layer is None:
        raise InputError(f"init_from: model={model.name} has no word vectors to set; neural models have")
    if predicts and [each.backwards for each in pretrained] != [model.settings.get("backwards", False)]:
        raise InputError("init_from: a language model goes on from one other, and in the direction in which that reads")
    dim = sum(each.embeddings.shape[1] for each in pretrained)
    if layer.output_dim != dim:
        shapes = " + ".join(str(each.embeddings.shape) for each in pretrained)
        raise InputError(
            f"init_from: layer {layer.name} is {tuple(layer.embeddings.shape)} here and {shapes} there; "
            f"set its width to {dim}"
        )
    groups, matched = [], 0
    if embeddings:
        table, matched = _vectors(pretrained, words, layer.embeddings.numpy())
        layer.embeddings.assign(table)
        groups.append([layer.embeddings])
    if encoder:
        groups = [*_encoder(pretrained, model), *groups]
    if embeddings and predicts:
        groups = [*_softmax(*pretrained, model, words), *groups]
    return groups, (matched, len(words) - matched)


def _vectors(pretrained, words, table):
    """The word vectors of a vocabulary; new words keep the vectors they have."""
    table, matched, start = table.copy(), set(), 0
    for each in pretrained:
        end = start + each.embeddings.shape[1]
        places, rows = _same(each.words, words)
        table[places, start:end] = each.embeddings[rows]
        matched.update(places[1:])
        start = end
    return table, len(matched)


def _same(words, others):
    """Ids of another vocabulary's words that this one has too, in any case of letters, and their ids in this one.

    The unknown word comes first.
    """
    rows = {word: row for row, word in enumerate(words, 2)}
    found = ((place, rows.get(word, rows.get(word.lower()))) for place, word in enumerate(others, 2))
    places, rows = zip((1, 1), *(pair for pair in found if pair[1] is not None), strict=True)
    return list(places), list(rows)


def _softmax(pretrained, model, words):
    """The distribution over words, and the layer before it where there is one; new words keep what they have."""
    of_words, others = _output(model)
    if not of_words or not pretrained.softmax:
        return []  # an adaptive one: its groups of rarer words are others here
    here = [[each.shape[1:] for each in of_words], [each.shape for each in others]]
    there = [[each.shape[1:] for each in pretrained.softmax], [each.shape for each in pretrained.projection]]
    if here != there:
        raise InputError(
            f"init_from={pretrained.source}: layer softmax is {_shapes(*of_words, *others)} here and "
            f"{_shapes(*pretrained.softmax, *pretrained.projection)} there; set the same model.tied, units and dim"
        )
    places, rows = _same(pretrained.words, words)
    for variable, values in zip(of_words, pretrained.softmax, strict=True):
        table = variable.numpy()
        table[places] = values[rows]
        variable.assign(table)
    for variable, values in zip(others, pretrained.projection, strict=True):
        variable.assign(values)
    return [[*of_words, *others]]


def _encoder(pretrained, model):
    groups, depth = [], 1
    below = [each.embeddings.shape[1] for each in pretrained]
    while True:
        found = [
            name for cell in {each.cell for each in pretrained} for name in (f"{cell}_{depth}", f"bi{cell}_{depth}")
        ]
        layer = next((each for each in model.layers if each.name in found), None)
        present = [each for each in pretrained if len(each.layers) >= depth]
        if layer is None or not present:
            if depth == 1:
                cells = ", ".join(str(each.cell) for each in pretrained)
                raise InputError(f"init_from: this model has no recurrent layer of the kind {cells} to start from it")
            return groups
        group, both = [], hasattr(layer, "forward_layer")
        for each in present:
            if each.backwards and not both and not hasattr(model, "softmax"):
                raise InputError(f"init_from={each.source}: reads backwards, and layer {layer.name} does not")
            target = (layer.backward_layer if each.backwards else layer.forward_layer) if both else layer
            first = below[0] if each.backwards and len(pretrained) == 2 else 0
            group += _into(target, each.layers[depth - 1], first, sum(below), each.source)
        groups.insert(0, group)
        units = present[0].layers[depth - 1][1].shape[0]
        # Above a bidirectional layer both directions are read, whichever were pretrained.
        below = [units, units] if both else [units]
        depth += 1


def _into(layer, weights, first, known, source):
    """Sets a recurrent layer's weights; its first `known` inputs are words, of which the model knew some."""
    variables = layer.cell.weights if hasattr(layer, "cell") else layer.weights
    kernel, *rest = weights
    target, *others = variables
    fits = target.shape[1] == kernel.shape[1] and target.shape[0] >= first + kernel.shape[0]
    if not fits or [tuple(each.shape) for each in others] != [each.shape for each in rest]:
        raise InputError(
            f"init_from={source}: layer {layer.name} is {_shapes(*variables)} here and {_shapes(*weights)} there; "
            "set the same number of units"
        )
    values = target.numpy()
    values[:known] = 0.0
    values[first : first + kernel.shape[0]] = kernel
    target.assign(values)
    for variable, value in zip(others, rest, strict=True):
        variable.assign(value)
    return [target, *others]


def _shapes(*weights):
    return " ".join(str(tuple(each.shape)) for each in weights)
