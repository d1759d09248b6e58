"""Initialise a classifier, a tagger or a language model from language models; vocabularies are matched word by word."""

import itertools
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from trellis.components.errors import InputError, first_line
from trellis.components.models.language_model import FeedForwardLanguageModel, RecurrentLanguageModel
from trellis.components.saved_model.versions import EXTRA, latest
from trellis.components.text.stream import LINE_ENDS
from trellis.components.types import JSON, FilePath

VOCABULARY = "vocabulary.json"  # next to the checkpoints of a run
PRETRAINED = f"{EXTRA}/pretrained.json"  # in an export

NeuralLanguageModel = RecurrentLanguageModel | FeedForwardLanguageModel  # those with embeddings


class Pretrained(NamedTuple):
    """The weights of a language model.

    Attributes:
        source: the run or export they were read from.
        words: the vocabulary, without padding and the unknown word.
        embeddings: `(ids, dim)`.
        cell: `lstm`, `gru`, `rnn`, …; None without recurrent layers.
        layers: the weights of each recurrent layer, from the lowest.
        backwards: whether the model reads texts from their ends.
        softmax: `[bias (ids,)]`, after the kernel `(ids, dim)` unless that is tied to the embeddings; empty if the
            softmax is not a single distribution over all words.
        projection: the weights of the layer between states and softmax; empty without one.
    """

    source: str
    words: list[str]
    embeddings: np.ndarray
    cell: str | None
    layers: list[list[np.ndarray]]
    backwards: bool
    softmax: list[np.ndarray]
    projection: list[np.ndarray]


def variable_plan(model: keras.Model, words: Iterable[str]) -> JSON | None:
    """Return which variables of a language model hold which weights, by index; None for a model without embeddings.

    Args:
        model: the language model.
        words: its vocabulary, without padding and the unknown word.
    """
    if not isinstance(model, NeuralLanguageModel):
        return None
    indices = {id(variable): index for index, variable in enumerate(model.variables)}
    softmax, projection = _output_weights(model)
    recurrent: Sequence[Any] = model.recurrent if isinstance(model, RecurrentLanguageModel) else ()
    return {
        "words": list(words),
        "backwards": model.settings.get("backwards", False),
        "cell": model.settings.get("cell"),
        "embedding": indices[id(model.embedding.embeddings)],
        "layers": [[indices[id(weight)] for weight in layer.weights] for layer in recurrent],
        "softmax": [indices[id(weight)] for weight in softmax],
        "projection": [indices[id(weight)] for weight in projection],
    }


def _output_weights(model: NeuralLanguageModel) -> tuple[list[Any], list[Any]]:
    """Return the weights of the softmax that have a row per word and are not tied, and those of the projection."""
    softmax = () if model.softmax.tails else model.softmax.weights
    untied = [weight for weight in softmax if weight is not model.embedding.embeddings]
    return untied, model.projection.weights if model.projection else []


def read(source: FilePath) -> Pretrained:
    """Read the language model of a run's folder or of an export.

    Raises:
        InputError: there is neither, or the model has no embeddings.
    """
    folder = Path(source)
    try:
        if (folder / "checkpoints" / "best.keras").is_file():
            plan, values = _read_run(folder)
        else:
            plan, values = _read_export(latest(folder))
    except InputError as error:
        raise InputError(f"init_from={source}: neither a run's folder nor an export ({error})") from None
    except (OSError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"init_from={source}: no language model to start from ({first_line(error)})") from None
    if plan is None:
        raise InputError(f"init_from={source}: this model has no embeddings to start from")
    return Pretrained(
        source=str(source),
        words=plan["words"],
        embeddings=values[plan["embedding"]],
        cell=plan["cell"],
        layers=[[values[index] for index in layer] for layer in plan["layers"]],
        backwards=bool(plan["backwards"]),
        softmax=[values[index] for index in plan["softmax"]],
        projection=[values[index] for index in plan["projection"]],
    )


def _read_run(folder: Path) -> tuple[JSON | None, dict[int, np.ndarray]]:
    """Return the variable plan of the best checkpoint, and the values of its variables."""
    model = keras.saving.load_model(folder / "checkpoints" / "best.keras", compile=False)
    plan = variable_plan(model, json.loads((folder / VOCABULARY).read_text()))
    return plan, {index: np.asarray(variable) for index, variable in enumerate(model.variables)}


def _read_export(version: Path) -> tuple[JSON, dict[int, np.ndarray]]:
    """Return the variable plan of a version of an export, and the values of the variables in it."""
    plan: JSON = {
        "softmax": [],  # older exports lack these two
        "projection": [],
        **json.loads((version / PRETRAINED).read_text()),
    }
    checkpoint = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    indices = {plan["embedding"], *plan["softmax"], *plan["projection"], *itertools.chain(*plan["layers"])}
    return plan, {index: _read_weight(checkpoint, f"parameters/{index}") for index in indices}


def _read_weight(checkpoint: Any, name: str) -> np.ndarray:
    """Return a weight of an export, which may be compressed (see `trellis.components.layers.stored_weights`)."""

    def tensor(part: str) -> np.ndarray | None:
        key = f"{name}{part}/.ATTRIBUTES/VARIABLE_VALUE"
        return checkpoint.get_tensor(key).astype(np.float32) if checkpoint.has_tensor(key) else None

    plain, values, scale = map(tensor, ("", "/values", "/scale"))
    if plain is not None:
        return plain
    if values is None:
        raise KeyError(f"no variable {name} in the export")
    return values if scale is None else values * scale


def most_frequent(pretrained: Iterable[Pretrained], count: int | None) -> list[str]:
    """Return the `count` most frequent words of each language model, without duplicates; all words if it is None."""
    words = ([word for word in model.words if word not in LINE_ENDS.values()][:count] for model in pretrained)
    return list(dict.fromkeys(itertools.chain(*words)))


def apply(
    pretrained: Iterable[Pretrained],
    model: keras.Model,
    words: Sequence[str],
    embeddings: bool = True,
    encoder: bool = True,
) -> tuple[list[list[Any]], tuple[int, int]]:
    """Set the weights of a tagger, a classifier or a language model to pretrained ones.

    Two language models, one that reads forwards and one that reads backwards, both bring their embeddings: the word
    vectors are the concatenated ones. A language model can only start from one that reads in the same direction.

    Args:
        pretrained: one or two language models.
        model: a model with a layer `word_embedding` and recurrent layers `lstm_1`, `bilstm_1`, …; or a neural language
            model.
        words: the vocabulary of the model; pretrained vectors are matched by word, then by lower-cased word.
        embeddings: whether to set the embeddings, and the softmax of a language model.
        encoder: whether to set the recurrent layers.

    Returns:
        groups of the variables that were set, from the output downwards; and the numbers of words with and without
        pretrained vectors.

    Raises:
        InputError: a shape differs; the message names the layer, both shapes, and the setting to change.
    """
    sources = sorted(pretrained, key=lambda source: source.backwards)
    if len(sources) > 2 or len({source.backwards for source in sources}) < len(sources):
        raise InputError("init_from: two language models must be one that reads forwards and one that reads backwards")
    predicts_words = isinstance(model, NeuralLanguageModel)
    layer = next((layer for layer in model.layers if layer.name in ("word_embedding", "embedding")), None)
    if layer is None:
        raise InputError(f"init_from: model={model.name} has no word vectors to set; neural models have")
    if predicts_words and [source.backwards for source in sources] != [model.settings.get("backwards", False)]:
        raise InputError("init_from: a language model starts from a single one that reads in the same direction")
    dim = sum(source.embeddings.shape[1] for source in sources)
    if layer.output_dim != dim:
        shapes = " + ".join(str(source.embeddings.shape) for source in sources)
        raise InputError(
            f"init_from: layer {layer.name} is {tuple(layer.embeddings.shape)} here and {shapes} there; "
            f"set its width to {dim}"
        )
    groups: list[list[Any]] = []
    matched = 0
    if embeddings:
        table, matched = _word_vectors(sources, words, layer.embeddings.numpy())
        layer.embeddings.assign(table)
        groups.append([layer.embeddings])
    if encoder:
        groups = [*_set_encoder(sources, model), *groups]
    if embeddings and predicts_words:
        groups = [*_set_softmax(sources[0], model, words), *groups]
    return groups, (matched, len(words) - matched)


def _word_vectors(sources: Sequence[Pretrained], words: Sequence[str], table: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the embeddings of a vocabulary, and the number of words with a pretrained vector; others keep theirs."""
    table, start = table.copy(), 0
    matched: set[int] = set()
    for source in sources:
        end = start + source.embeddings.shape[1]
        ids, source_ids = _match_words(source.words, words)
        table[ids, start:end] = source.embeddings[source_ids]
        matched.update(ids[1:])
        start = end
    return table, len(matched)


def _match_words(source_words: Iterable[str], words: Iterable[str]) -> tuple[list[int], list[int]]:
    """Return the ids of the words that a source has too, in any case of letters, and their ids in the source.

    The unknown word comes first.
    """
    ids = {word: index for index, word in enumerate(source_words, 2)}
    candidates = ((index, ids.get(word, ids.get(word.lower()))) for index, word in enumerate(words, 2))
    pairs = [(1, 1), *((index, source_id) for index, source_id in candidates if source_id is not None)]
    return [index for index, _ in pairs], [source_id for _, source_id in pairs]


def _set_softmax(source: Pretrained, model: NeuralLanguageModel, words: Sequence[str]) -> list[list[Any]]:
    """Set the distribution over words, and the projection before it; new words keep their weights.

    Returns:
        the variables that were set, as one group; no group for an adaptive softmax, whose groups of rarer words differ
        from those of the source.
    """
    softmax, projection = _output_weights(model)
    if not softmax or not source.softmax:
        return []
    shapes = [[weight.shape[1:] for weight in softmax], [weight.shape for weight in projection]]
    source_shapes = [[weight.shape[1:] for weight in source.softmax], [weight.shape for weight in source.projection]]
    if shapes != source_shapes:
        raise InputError(
            f"init_from={source.source}: layer softmax is {_shapes([*softmax, *projection])} here and "
            f"{_shapes([*source.softmax, *source.projection])} there; set the same model.tied, units and dim"
        )
    ids, source_ids = _match_words(source.words, words)
    for variable, values in zip(softmax, source.softmax, strict=True):
        table = variable.numpy()
        table[ids] = values[source_ids]
        variable.assign(table)
    for variable, values in zip(projection, source.projection, strict=True):
        variable.assign(values)
    return [[*softmax, *projection]]


def _set_encoder(sources: Sequence[Pretrained], model: keras.Model) -> list[list[Any]]:
    """Set the recurrent layers; return a group of variables for each, from the highest."""
    groups: list[list[Any]] = []
    widths = [source.embeddings.shape[1] for source in sources]  # of the parts of the inputs of the current layer
    cells = {source.cell for source in sources}
    for depth in itertools.count(1):
        names = [name for cell in cells for name in (f"{cell}_{depth}", f"bi{cell}_{depth}")]
        layer = next((layer for layer in model.layers if layer.name in names), None)
        present = [source for source in sources if len(source.layers) >= depth]
        if layer is None or not present:
            break
        bidirectional = isinstance(layer, keras.layers.Bidirectional)
        group: list[Any] = []
        for source in present:
            if bidirectional:
                target = layer.backward_layer if source.backwards else layer.forward_layer
            elif source.backwards and not isinstance(model, NeuralLanguageModel):
                raise InputError(f"init_from={source.source}: reads backwards, but layer {layer.name} does not")
            else:
                target = layer
            first = widths[0] if source.backwards and len(sources) == 2 else 0
            group += _set_recurrent(target, source.layers[depth - 1], first, sum(widths), source.source)
        groups.insert(0, group)
        units = present[0].layers[depth - 1][1].shape[0]
        # Above a bidirectional layer the inputs are both directions, whichever of them were pretrained.
        widths = [units, units] if bidirectional else [units]
    if not groups:
        listed = ", ".join(str(source.cell) for source in sources)
        raise InputError(f"init_from: this model has no recurrent layer of the kind {listed} to start from it")
    return groups


def _set_recurrent(
    layer: keras.layers.RNN, weights: Sequence[np.ndarray], first: int, width: int, source: str
) -> list[Any]:
    """Set the weights of a recurrent layer.

    Args:
        layer: the layer to set.
        weights: the pretrained weights; the first one is the kernel `(inputs, units)`.
        first: the first input of the layer that the pretrained layer had.
        width: the number of inputs that come from pretrained layers; those that this one did not have get weight 0.
        source: where the weights come from, for the message.

    Returns:
        the variables that were set.
    """
    variables = layer.cell.weights
    kernel, *others = weights
    variable, *other_variables = variables
    fits = variable.shape[1] == kernel.shape[1] and variable.shape[0] >= first + kernel.shape[0]
    if not fits or [tuple(other.shape) for other in other_variables] != [other.shape for other in others]:
        raise InputError(
            f"init_from={source}: layer {layer.name} is {_shapes(variables)} here and {_shapes(weights)} there; "
            "set the same number of units"
        )
    values = variable.numpy()
    values[:width] = 0.0
    values[first : first + kernel.shape[0]] = kernel
    variable.assign(values)
    for other_variable, value in zip(other_variables, others, strict=True):
        other_variable.assign(value)
    return [variable, *other_variables]


def _shapes(weights: Iterable[Any]) -> str:
    return " ".join(str(tuple(weight.shape)) for weight in weights)
