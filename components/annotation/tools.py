"""JSON as spaCy, Prodigy, doccano and Label Studio write it."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from trellis.components.annotation.annotated_text import AnnotatedText, FoundSpan, FoundText, checked, utf16_offsets
from trellis.components.annotation.records import Record, is_json, is_pair, read_records
from trellis.components.choices import OffsetUnit
from trellis.components.errors import InputError, quoted
from trellis.components.readers import tables
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.types import JSON, FilePath

log = logging.getLogger(__name__)

_LOOKED_AT = 100  # records by which a tool is recognized


@dataclass(frozen=True)
class Tool:
    """How a tool writes annotated texts.

    Attributes:
        recognizes: whether the fields of a record are those of this tool.
        find: returns the text of a record, or why it has no annotations.
        write: returns the record of a text.
    """

    recognizes: Callable[[JSON], bool]
    find: Callable[[JSON, str], FoundText | str]
    write: Callable[["_Written"], JSON]


@dataclass(frozen=True)
class _Written:
    """A text to write, with offsets in the unit of the file."""

    text: str
    spans: Sequence[tuple[int, int, str]]
    surfaces: Sequence[str]
    tokens: Sequence[tuple[int, int]] | None
    token_texts: Sequence[str]
    id: str | int
    score: float | None


def read(path: FilePath, tool: str, encoding: str = "utf-8", unit: OffsetUnit = "code_points") -> list[AnnotatedText]:
    """Read the annotated texts of a file, JSON or JSON lines.

    Records that were not annotated, or whose answer was rejected, are left out with a warning.

    Args:
        path: the file.
        tool: one of `TOOLS`.
        encoding: of the file.
        unit: what offsets count.

    Raises:
        InputError: a record does not have the fields of the tool, or an offset is outside its text; names the file and
            line.
    """
    texts = []
    left_out: Counter[str] = Counter()
    for record in read_records(path, encoding):
        found = TOOLS[tool].find(_fields(record), record.place)
        if isinstance(found, str):
            left_out[found] += 1
        else:
            texts.append(checked(found, record.place, record.line, unit))
    for reason, count in left_out.items():
        log.warning("%s: %s", path, f"{count:,} {'text' if count == 1 else 'texts'} left out: {reason}")
    return texts


def recognize(records: Iterable[Record]) -> str | None:
    """Return the tool that wrote records, by their fields; None if no tool is recognized."""
    for record in islice(records, _LOOKED_AT):
        fields = _fields(record)
        for name, tool in TOOLS.items():
            if tool.recognizes(fields):
                return name
    return None


def read_unlabelled(path: FilePath, encoding: str = "utf-8") -> list[AnnotatedText]:
    """Read texts without spans: the field `text` or the task of each record; from other files than JSON, each line.

    Raises:
        InputError: a record has no text; names the file and line.
    """
    found: list[tuple[FoundText, str, int]] = []
    if is_json(path):
        for record in read_records(path, encoding):
            fields = {"text": record.value} if isinstance(record.value, str) else _fields(record)
            inner = fields.get("data")
            text = _only_text(inner, record.place) if isinstance(inner, dict) else _text_of(fields)
            found.append((FoundText(text, (), None, fields.get("id")), record.place, record.line))
    else:
        for number, line in read_lines(path, encoding):
            if not is_blank(line):
                found.append((FoundText(line, ()), f"{path}:{number}", number))
    return [checked(text, place, line) for text, place, line in found]


def records(
    texts: Iterable[AnnotatedText],
    tool: str,
    unit: OffsetUnit = "code_points",
    scores: Sequence[float] | None = None,
) -> Iterable[JSON]:
    """Yield a record for each text, as a tool writes it.

    Args:
        texts: the texts.
        tool: one of `TOOLS`.
        unit: what offsets count.
        scores: one for each text, whose spans are then suggestions to be corrected; None: spans are annotations.
    """
    for number, text in enumerate(texts, 1):
        place: Sequence[int] = utf16_offsets(text.text) if unit == "utf16" else range(len(text.text) + 1)
        yield TOOLS[tool].write(
            _Written(
                text.text,
                [(place[span.start], place[span.end], span.label) for span in text.spans],
                [text.text[span.start : span.end] for span in text.spans],
                None if text.tokens is None else [(place[start], place[end]) for start, end in text.tokens],
                [text.text[start:end] for start, end in text.tokens or ()],
                number if text.id is None else text.id,
                None if scores is None else round(float(scores[number - 1]), 6),
            )
        )


def _fields(record: Record) -> JSON:
    """Return the fields of a record; a pair `["text", {…}]` gives one dictionary."""
    value = record.value
    if is_pair(value):
        return {**value[1], "text": value[0]}
    if not isinstance(value, dict):
        raise InputError(f"{record.place}: expected an object with a text and its spans, found {quoted(repr(value))}")
    return value


# Fields


def _objects(values: Any, name: str, place: str) -> list[JSON]:
    """Return a list of objects, which is empty if the field is missing or null."""
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise InputError(f"{place}: {name} is not a list of objects")
    return values


def _triples(values: Any, name: str, place: str) -> list[FoundSpan]:
    """Return spans written `[start, end, label]`, or as objects with these fields."""
    spans = []
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, dict):
            label = value.get("label", value.get("type", value.get("label_")))
            spans.append(FoundSpan(value.get("start"), value.get("end"), label, value.get("text")))
        elif isinstance(value, list) and len(value) >= 3:
            spans.append(FoundSpan(*value[:3]))
        else:
            raise InputError(f"{place}: {name} has {quoted(repr(value))}, expected [start, end, label]")
    return spans


def _are_triples(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, list) and len(value) >= 3 and isinstance(value[2], str) for value in values
    )


def _are_objects_with(values: Any, *names: str) -> bool:
    return (
        isinstance(values, list)
        and bool(values)
        and all(isinstance(value, dict) and all(name in value for name in names) for value in values)
    )


def _text_of(fields: JSON) -> Any:
    return fields.get("text", fields.get("data"))


def _tokens_of(fields: JSON) -> list[tuple[Any, Any]] | None:
    tokens = fields.get("tokens")
    if not isinstance(tokens, list) or not _are_objects_with(tokens, "start", "end"):
        return None
    return [(token["start"], token["end"]) for token in tokens]


# spaCy: the entities that pipelines are trained from, and Doc.to_json, which is written


def _is_spacy(fields: JSON) -> bool:
    entities = fields.get("entities")
    return "ents" in fields or (
        "entities" in fields and (_are_triples(entities) or _are_objects_with(entities, "start", "end"))
    )


def _find_spacy(fields: JSON, place: str) -> FoundText | str:
    name = "ents" if "ents" in fields else "entities"
    if fields.get(name) is None:
        return f"without {name}"
    return FoundText(fields.get("text"), _triples(fields[name], name, place), _tokens_of(fields), fields.get("id"))


def _write_spacy(written: _Written) -> JSON:
    spans = [{"start": start, "end": end, "label": label} for start, end, label in written.spans]
    record: JSON = {"text": written.text, "ents": spans}
    if written.tokens is not None:
        record["tokens"] = [{"id": i, "start": start, "end": end} for i, (start, end) in enumerate(written.tokens)]
    return _scored(record, written)


def _scored(record: JSON, written: _Written) -> JSON:
    return record if written.score is None else {**record, "score": written.score}


# Prodigy


def _is_prodigy(fields: JSON) -> bool:
    return "_task_hash" in fields or "_input_hash" in fields or ("text" in fields and _are_spans(fields.get("spans")))


def _are_spans(spans: Any) -> bool:
    return spans == [] or _are_objects_with(spans, "start", "end", "label")


def _find_prodigy(fields: JSON, place: str) -> FoundText | str:
    answer = fields.get("answer", "accept")
    if answer != "accept":
        return f"the answer is {quoted(str(answer))}"
    spans = [
        FoundSpan(span.get("start"), span.get("end"), span.get("label"), span.get("text"))
        for span in _objects(fields.get("spans"), "spans", place)
    ]
    identifier = (fields.get("meta") or {}).get("id") if isinstance(fields.get("meta"), dict | None) else None
    return FoundText(fields.get("text"), spans, _tokens_of(fields), identifier)


def _write_prodigy(written: _Written) -> JSON:
    record: JSON = {"text": written.text}
    if written.tokens is not None:
        following = [start for start, _ in written.tokens[1:]]
        record["tokens"] = [
            {"text": text, "start": start, "end": end, "id": i, "ws": i < len(following) and following[i] > end}
            for i, ((start, end), text) in enumerate(zip(written.tokens, written.token_texts, strict=True))
        ]
    record["spans"] = [
        {"start": start, "end": end, "label": label, **_token_places(start, end, written.tokens)}
        for start, end, label in written.spans
    ]
    if written.score is not None:  # no answer yet
        return {**record, "meta": {"id": written.id, "score": written.score}}
    return {**record, "answer": "accept", "meta": {"id": written.id}}


def _token_places(start: int, end: int, tokens: Sequence[tuple[int, int]] | None) -> dict[str, int]:
    """Return the index of the first and last token of a span, if it begins and ends with tokens."""
    starts = [i for i, token in enumerate(tokens or ()) if token[0] == start]
    ends = [i for i, token in enumerate(tokens or ()) if token[1] == end]
    return {"token_start": starts[0], "token_end": ends[0]} if starts and ends else {}


# doccano


def _is_doccano(fields: JSON) -> bool:
    return (
        any(_are_triples(fields[name]) for name in ("label", "labels") if name in fields)
        or _are_objects_with(fields.get("entities"), "start_offset", "end_offset")
        or _are_objects_with(fields.get("annotations"), "start_offset", "end_offset")
        or ("entities" in fields and "Comments" in fields)
    )


def _find_doccano(fields: JSON, place: str) -> FoundText | str:
    name = next((name for name in ("label", "labels", "entities", "annotations") if fields.get(name) is not None), None)
    if name is None:
        return "without labels"
    values = fields[name]
    if name in ("label", "labels"):
        return FoundText(_text_of(fields), _triples(values, name, place), None, fields.get("id"))
    spans = []
    for value in _objects(values, name, place):
        label = value.get("label")
        if isinstance(label, int):
            raise InputError(
                f"{place}: label {label} is the number of a label; export from doccano with the names of labels"
            )
        spans.append(FoundSpan(value.get("start_offset"), value.get("end_offset"), label))
    return FoundText(_text_of(fields), spans, None, fields.get("id"))


def _write_doccano(written: _Written) -> JSON:
    record = {"id": written.id, "text": written.text, "label": [list(span) for span in written.spans]}
    return _scored(record, written)


# Label Studio: JSON, and JSON-MIN, where each tag of the labelling configuration is a field


def _is_label_studio(fields: JSON) -> bool:
    return isinstance(fields.get("data"), dict) or any(_are_labels(value) for value in fields.values())


def _are_labels(values: Any) -> bool:
    return _are_objects_with(values, "start", "end", "labels")


def _find_label_studio(fields: JSON, place: str) -> FoundText | str:
    if not isinstance(fields.get("data"), dict):
        labels = [value for values in fields.values() if _are_labels(values) for value in values]
        if not labels and "annotation_id" not in fields:
            return "not annotated"
        return FoundText(_only_text(fields, place), _labelled(labels, place), None, fields.get("id"))
    versions = _objects(fields.get("annotations", fields.get("completions")), "annotations", place)
    versions = [version for version in versions if not version.get("was_cancelled")]
    if not versions:
        return "not annotated"
    # If there are several annotations, take the ground truth, otherwise the first one.
    chosen = next((version for version in versions if version.get("ground_truth")), versions[0])
    values = []
    for item in _objects(chosen.get("result"), "result", place):
        value = item.get("value")
        if isinstance(value, dict) and "hypertextlabels" in value:
            raise InputError(f"{place}: labels of HTML cannot be read: their offsets are not those of a plain text")
        if isinstance(value, dict) and "labels" in value:
            values.append(value)
    return FoundText(_only_text(fields["data"], place), _labelled(values, place), None, fields.get("id"))


def _labelled(values: Iterable[JSON], place: str) -> list[FoundSpan]:
    """Return the spans of values with a list of labels each."""
    spans = []
    for value in values:
        labels = value["labels"]
        if not isinstance(labels, list):
            raise InputError(f"{place}: labels is {quoted(repr(labels))}, expected a list")
        spans += [FoundSpan(value.get("start"), value.get("end"), label, value.get("text")) for label in labels]
    return spans


def _only_text(data: Mapping[str, Any], place: str) -> Any:
    if "text" in data:
        return data["text"]
    times = ("created_at", "updated_at")
    names = [name for name, value in data.items() if isinstance(value, str) and name not in times]
    if len(names) != 1:
        raise InputError(
            f"{place}: which field is the text? expected `text`, or one string; found {tables.shown(names)}"
        )
    return data[names[0]]


def _write_label_studio(written: _Written) -> JSON:
    result = [
        {
            "id": f"{written.id}-{number}",
            "from_name": "label",
            "to_name": "text",
            "type": "labels",
            "value": {"start": start, "end": end, "text": surface, "labels": [label]},
        }
        for number, ((start, end, label), surface) in enumerate(zip(written.spans, written.surfaces, strict=True), 1)
    ]
    task: JSON = {"id": written.id, "data": {"text": written.text}}
    if written.score is not None:
        return {**task, "predictions": [{"score": written.score, "result": result}]}
    return {**task, "annotations": [{"result": result}]}


# In the order in which they are recognized.
TOOLS = {
    "label_studio": Tool(_is_label_studio, _find_label_studio, _write_label_studio),
    "prodigy": Tool(_is_prodigy, _find_prodigy, _write_prodigy),
    "doccano": Tool(_is_doccano, _find_doccano, _write_doccano),
    "spacy": Tool(_is_spacy, _find_spacy, _write_spacy),
}
