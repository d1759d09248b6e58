"""Records of JSON files: one per line, or the elements of a list."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from trellis.components.errors import InputError
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.readers.opening import suffix_of
from trellis.components.types import FilePath

_SPACE = " \t\n\r"


class Record(NamedTuple):
    """A value of a JSON file.

    Attributes:
        place: `file:line`, and the number of the record if several are in one line.
        line: the line where it begins, from 1.
        value: the decoded value.
    """

    place: str
    line: int
    value: Any


def read_records(path: FilePath, encoding: str = "utf-8") -> list[Record]:
    """Read the records of a file: JSON lines, or JSON with a list, on one line or on many.

    Raises:
        InputError: the file is not JSON; names the line.
    """
    every = list(read_lines(path, encoding))
    lines = [(number, line) for number, line in every if not is_blank(line)]
    if not lines:
        return []
    if _is_whole(str(path), lines[0][1], len(lines) == 1):
        return list(_elements(path, "\n".join(line for _, line in every)))
    return [Record(f"{path}:{number}", number, _decoded(path, line, number)) for number, line in lines]


def _is_whole(name: str, first: str, only: bool) -> bool:
    """Return whether a file is one JSON value, according to its name and to its first line that is not blank."""
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return first.strip() in ("[", "{") or suffix_of(name) == ".json"
    return only and isinstance(value, list) and not is_pair(value)


def is_json(path: FilePath) -> bool:
    """Return whether a file is JSON or JSON lines, by its name."""
    return suffix_of(path) in (".json", ".jsonl", ".ndjson")


def is_pair(value: Any) -> bool:
    """Return whether a value is a text with its annotations, as spaCy is trained from: `["text", {…}]`."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict)


def _decoded(path: FilePath, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{line + error.lineno - 1}: not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number with thousands of digits; lists nested too deeply
        raise InputError(f"{path}:{line}: not JSON ({str(error).partition(';')[0]})") from None


def _elements(path: FilePath, text: str) -> Iterator[Record]:
    """Yield the elements of a list, or the one value of another file."""
    value = _decoded(path, text, 1)  # decode all of it first: its errors are better than those of pieces
    begin = len(text) - len(text.lstrip(_SPACE))
    if not isinstance(value, list) or is_pair(value):
        line = text.count("\n", 0, begin) + 1
        yield Record(f"{path}:{line}", line, value)
        return
    decoder, position, line, former, index = json.JSONDecoder(), begin + 1, 1, 0, 0
    while True:
        while text[position] in _SPACE or text[position] == ",":
            position += 1
        if text[position] == "]":
            return
        line, index, before = line + text.count("\n", former, position), index + 1, line
        shared = index > 1 and line == before
        former = position
        element, position = decoder.raw_decode(text, position)
        yield Record(f"{path}:{line}" + f" (record {index})" * shared, line, element)


def write_records(records: Iterable[Any], as_list: bool) -> Iterator[str]:
    """Yield the lines of a file of records: JSON lines, or a list with an element per line."""
    lines = (json.dumps(record, ensure_ascii=False) for record in records)
    if not as_list:
        yield from (f"{line}\n" for line in lines)
        return
    yield "["
    for index, line in enumerate(lines):
        yield f"{',' if index else ''}\n{line}"
    yield "\n]\n"
