"""Ask taggers for entities, for the most probable readings of texts, and for the scores behind them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from trellis.components.errors import InputError
from trellis.serve.export_model import ExportModel
from trellis.serve.inference import BATCH, as_strings, batches, decoded, padded_tokens, split

OWN = -1.0  # stands for the threshold of the export


class Entity(NamedTuple):
    """An entity in a text. Ends are exclusive: `text[start:end]` is the entity.

    Attributes:
        type: such as `PER`.
        text: its words as they are in the text.
        start: the offset of its first character, in Unicode code points.
        end: the offset after its last character.
        probability: that this entity, with this type and these boundaries, is right: the exact posterior, calibrated on
            the dev part.
        start_token: the index of its first token.
        end_token: the index after its last token.
        start_byte: the offset of its first byte in UTF-8.
        end_byte: the offset after its last byte in UTF-8.
    """

    type: str
    text: str
    start: int
    end: int
    probability: float
    start_token: int
    end_token: int
    start_byte: int
    end_byte: int


class Reading(NamedTuple):
    """A sequence of tags for a text, and its posterior probability among all sequences."""

    tokens: list[str]
    tags: list[str]
    probability: float


class Lattice(NamedTuple):
    """The lattice of a text: the scores that its tags are chosen by. The score of a path is their sum along it.

    Attributes:
        tokens: the tokens of the text.
        tags: the name of each tag.
        unary: the score of each tag at each token, `(tokens, tags)`.
        pairwise: the score of each pair of neighbouring tags, `(tokens - 1, tags, tags)`.
    """

    tokens: list[str]
    tags: list[str]
    unary: np.ndarray
    pairwise: np.ndarray


def entities(
    model: ExportModel,
    texts: Iterable[bytes],
    tokenized: bool = False,
    threshold: float | None = None,
    batch_size: int = BATCH,
) -> Iterator[list[Entity]]:
    """Yield the entities of each text, in order.

    Args:
        model: a tagger of entities.
        texts: the texts.
        tokenized: whether texts are tokens separated by single spaces; offsets refer to the text as it is.
        threshold: keep entities of at least this probability; None: the threshold of the export.
        batch_size: the number of texts of a request.

    Raises:
        InputError: the model finds no entities, or was exported before taggers had these signatures.
    """
    require(model, "entities")
    for batch in batches(texts, batch_size):
        least = np.full(len(batch), OWN if threshold is None else threshold, np.float32)
        if tokenized:
            tokens, batch = (
                padded_tokens(batch),
                [b" ".join(token for token in text.split(b" ") if token) for text in batch],
            )
            outputs = model.call("token_entities", tokens=tokens, threshold=least)
        else:
            outputs = model.call("entities", text=as_strings(batch), threshold=least)
        for row, text in enumerate(batch):
            yield [
                _entity({name: outputs[name][row][i] for name in Entity._fields}, text)
                for i in range(outputs["count"][row])
            ]


def _entity(values: Mapping[str, Any], text: bytes) -> Entity:
    places = {name: int(values[name]) for name in ("start_byte", "end_byte", "start_token", "end_token")}
    start, end = int(values["start"]), int(values["end"])
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        # Each byte that belongs to no character is one character of a Python string.
        start, end = (
            len(text[: places[name]].decode("utf-8", "surrogateescape")) for name in ("start_byte", "end_byte")
        )
    return Entity(decoded(values["type"]), decoded(values["text"]), start, end, float(values["probability"]), **places)


def n_best(model: ExportModel, texts: Iterable[bytes], batch_size: int = BATCH) -> Iterator[list[Reading]]:
    """Yield the most probable readings of each text, best first; fewer if it has no more.

    Raises:
        InputError: the model was exported before taggers had the signature.
    """
    require(model, "n_best")
    for batch in batches(texts, batch_size):
        outputs = model.call("n_best", text=as_strings(batch))
        for tokens, readings, probabilities in zip(
            *(outputs[name] for name in ("tokens", "tags", "probability")), strict=True
        ):
            length = sum(token != b"" for token in tokens)
            words = [decoded(token) for token in tokens[:length]]
            yield [
                Reading(words, [decoded(tag) for tag in tags[:length]], float(probability))
                for tags, probability in zip(readings, probabilities, strict=True)
                if probability > 0
            ]


def lattice(model: ExportModel, text: bytes, tokenized: bool = False) -> Lattice:
    """Return the lattice of a text.

    Args:
        model: a tagger.
        text: the text.
        tokenized: whether the text is tokens separated by spaces.

    Raises:
        InputError: the export was written before taggers had the signature `lattice`, or a token lacks a column.
    """
    require(model, "lattice")
    tokens = split(text)
    if not tokenized:
        outputs = model.call("from_text", text=as_strings([text]))
        tokens = [token for token in outputs["tokens"][0] if token]
    outputs = model.call("lattice", tokens=as_strings([tokens or [b""]]))
    return Lattice(
        [decoded(token) for token in tokens],
        [decoded(name) for name in outputs["names"][0]],
        outputs["unary"][0, : len(tokens)],
        outputs["pairwise"][0, : max(0, len(tokens) - 1)],
    )


def require(model: ExportModel, signature: str) -> None:
    """Raise an InputError where a tagger lacks a signature.

    Raises:
        InputError: says why.
    """
    if signature in model.inputs:
        return
    if signature == "entities" and "n_best" in model.inputs:
        raise InputError(f"{model.name}: the tags of this export are not of entities; ask for tags")
    raise InputError(f"{model.name}: this export has no signature `{signature}`; train the model again to export it")


def bio_tags(found: Sequence[Entity], length: int) -> list[str]:
    """Return the tags, in BIO2, of a text of `length` tokens with these entities."""
    tags = ["O"] * length
    for entity in found:
        for token in range(entity.start_token, entity.end_token):
            tags[token] = f"{'B' if token == entity.start_token else 'I'}-{entity.type}"
    return tags
