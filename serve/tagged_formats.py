"""How `trellis predict` writes what a tagger finds: columns, CoNLL, JSON lines, and a page."""

import html
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

from trellis.components.types import JSON
from trellis.serve import inference
from trellis.serve.entities import Entity, bio_tags, entities
from trellis.serve.export_model import ExportModel
from trellis.serve.inference import Tagged, batches

HUES = 8


class Request(NamedTuple):
    """What to ask a tagger.

    Attributes:
        texts: the texts.
        tokenized: whether they are tokens separated by single spaces.
        threshold: keep entities of at least this probability; None: the threshold of the export.
        batch_size: texts of a request to the model.
    """

    texts: Iterator[bytes]
    tokenized: bool
    threshold: float | None
    batch_size: int


def _tokens(model: ExportModel, request: Request) -> Iterator[str]:
    for tagged in inference.tag(model, request.texts, request.tokenized, request.batch_size):
        yield f"{readable(tagged)}\n"


def readable(tagged: Tagged) -> str:
    """Return three aligned columns: token, tag and confidence; a dot stands for the tag `O`."""
    tokens = [token.replace("\t", " ") for token in tagged.tokens]
    width = max((len(token) for token in tokens), default=0)
    tag_width = max((len(tag) for tag in tagged.tags), default=0)
    return "\n".join(
        f"{token:<{width}}  {tag if tag != 'O' else '·':<{tag_width}}  {value:.2f}"
        for token, tag, value in zip(tokens, tagged.tags, tagged.confidence, strict=True)
    )


def _found(model: ExportModel, request: Request) -> Iterator[tuple[str, list[Entity]]]:
    """Yield each text with its entities."""
    for batch in batches(request.texts, request.batch_size):
        found = entities(model, batch, request.tokenized, request.threshold, request.batch_size)
        for text, of_text in zip(batch, found, strict=True):
            if request.tokenized:
                text = b" ".join(inference.split(text))
            yield text.decode("utf-8", "surrogateescape"), of_text


def _entities(model: ExportModel, request: Request) -> Iterator[str]:
    for _, found in _found(model, request):
        places = [f"{entity.start}-{entity.end}" for entity in found]
        width = max(map(len, places), default=0)
        type_width = max((len(entity.type) for entity in found), default=0)
        lines = (
            f"{place:<{width}}  {entity.type:<{type_width}}  {entity.probability:.2f}  {' '.join(entity.text.split())}"
            for place, entity in zip(places, found, strict=True)
        )
        yield "".join(f"{line}\n" for line in lines)


def _conll(model: ExportModel, request: Request) -> Iterator[str]:
    finds_entities = "entities" in model.inputs
    for batch in batches(request.texts, request.batch_size):
        tagged = list(inference.tag(model, batch, request.tokenized, request.batch_size))
        tags = [each.tags for each in tagged]
        if finds_entities or request.threshold is not None:
            found = entities(model, batch, request.tokenized, request.threshold, request.batch_size)
            tags = [bio_tags(own, len(each.tokens)) for each, own in zip(tagged, found, strict=True)]
        for each, own_tags in zip(tagged, tags, strict=True):
            yield "".join(f"{token}\t{tag}\n" for token, tag in zip(each.tokens, own_tags, strict=True))


def _jsonl(model: ExportModel, request: Request) -> Iterator[str]:
    for text, found in _found(model, request):
        printable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        yield json.dumps({"text": printable, "entities": [_as_json(entity) for entity in found]}, ensure_ascii=False)


def _as_json(entity: Entity) -> JSON:
    return {**entity._asdict(), "probability": round(entity.probability, 4)}


def _html(model: ExportModel, request: Request) -> Iterator[str]:
    yield _HEAD
    for text, found in _found(model, request):
        parts, end = [], 0
        for entity in found:
            # Types of the same name have the same colour on every page.
            hue = sum(entity.type.encode()) % HUES
            parts.append(html.escape(text[end : entity.start]))
            parts.append(
                f'<mark class="hue-{hue}" style="--sure:{entity.probability:.2f}" title="probability '
                f'{entity.probability:.4f}">{html.escape(text[entity.start : entity.end])}<span> '
                f"<b>{html.escape(entity.type)}</b> {entity.probability:.2f}</span></mark>"
            )
            end = entity.end
        parts.append(html.escape(text[end:]))
        yield f'<p dir="auto">{"".join(parts)}</p>'.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    yield "</body></html>"


_COLORS = ("47,126,216", "224,123,0", "38,150,92", "201,62,92", "136,92,214", "18,150,168", "158,134,20", "196,76,160")
_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>Entities</title><style>"
    ":root{color-scheme:light dark}"
    "body{font:1.1rem/1.9 Georgia,serif;max-width:52rem;margin:2rem auto;padding:0 1.25rem}"
    "p{white-space:pre-wrap;overflow-wrap:anywhere}"
    "mark{color:inherit;padding:.12em .3em;border-radius:5px;border-bottom:2px solid rgb(var(--hue));"
    "background:rgba(var(--hue),calc(.08 + .25*var(--sure)))}"
    "mark span{font:.72rem/1 system-ui,sans-serif;white-space:nowrap}"
    + "".join(f".hue-{index}{{--hue:{color}}}" for index, color in enumerate(_COLORS))
    + "</style></head><body>"
)

Writer = Callable[[ExportModel, Request], Iterator[str]]
FORMATS: dict[str, Writer] = {
    "tokens": _tokens,
    "entities": _entities,
    "conll": _conll,
    "jsonl": _jsonl,
    "html": _html,
}


def lines(model: ExportModel, kind: str, request: Request) -> Iterator[str]:
    """Yield what a tagger finds in texts, in one of `FORMATS`, one text after the other."""
    return FORMATS[kind](model, request)
