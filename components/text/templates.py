"""Feature templates of classical taggers: which attributes of which neighbouring words score a tag.

    lower[-2:2]            the lower-cased words from two before to two after
    suffix3                the last three characters of the word itself; the same as suffix3[0]
    lower[-1]&lower[0]     both together, as one feature

Attributes: `word`, `lower`, `shape` (`Xxxx-dd`), `pattern` (the shape with runs collapsed, `Xx-d`), `prefixN` and
`suffixN` for N from 1 to 9 (the word itself if it is shorter), `in(NAME)`, whether the word is in a list, and
`column(NAME)`, the word's value in another column of the data.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

import tensorflow as tf

from trellis.components.types import Strings

Lookup: TypeAlias = tf.lookup.StaticHashTable

_PART = re.compile(
    r"\s*((?:in|column)\([A-Za-z0-9_]+\)|[a-z]+)([0-9]?)\s*(?:\[\s*(-?[0-9]+)\s*(?::\s*(-?[0-9]+)\s*)?\])?\s*"
)
_PLAIN = ("word", "lower", "shape", "pattern")


class Templates(NamedTuple):
    """Parsed templates; a feature is `(index into attributes, offset)`.

    Attributes:
        attributes: the distinct attributes.
        singles: features of one attribute at one offset.
        conjunctions: features of several attributes together.
    """

    attributes: tuple[str, ...]
    singles: tuple[tuple[int, int], ...]
    conjunctions: tuple[tuple[tuple[int, int], ...], ...]


def parse(templates: Iterable[str]) -> Templates:
    """Parse templates as written in a configuration.

    Raises:
        ValueError: a template cannot be parsed; the message names it.
    """
    attributes: list[str] = []
    singles: list[tuple[int, int]] = []
    conjunctions: list[tuple[tuple[int, int], ...]] = []
    for template in templates:
        parts = [_parse_part(part, template) for part in template.split("&")]
        for name, _ in parts:
            if name not in attributes:
                attributes.append(name)
        if len(parts) == 1:
            name, offsets = parts[0]
            singles += [(attributes.index(name), offset) for offset in offsets]
        elif any(len(offsets) > 1 for _, offsets in parts):
            raise ValueError(f"feature template {template!r}: a conjunction needs one offset a part, such as lower[-1]")
        else:
            conjunctions.append(tuple((attributes.index(name), offsets[0]) for name, offsets in parts))
    return Templates(tuple(attributes), tuple(singles), tuple(conjunctions))


def _parse_part(part: str, template: str) -> tuple[str, tuple[int, ...]]:
    """Return the attribute and the offsets of a part of a template."""
    match = _PART.fullmatch(part)
    kind, size, first, last = match.groups() if match else ("", "", None, None)
    takes_no_size = kind in _PLAIN or "(" in kind
    if not ((takes_no_size and not size) or (kind in ("prefix", "suffix") and size not in ("", "0"))):
        known = ", ".join((*_PLAIN, "prefix1 … prefix9", "suffix1 … suffix9", "in(LIST)", "column(NAME)"))
        raise ValueError(
            f"feature template {template!r}: {part.strip()!r} is not one of {known}, with or without [offsets]"
        )
    low = int(first or 0)
    high = low if last is None else int(last)
    if high < low:
        raise ValueError(f"feature template {template!r}: the offsets go from {low} down to {high}")
    return kind + size, tuple(range(low, high + 1))


def list_names(attributes: Iterable[str]) -> list[str]:
    """Return the names of the word lists that attributes refer to."""
    return _arguments(attributes, "in")


def column_names(attributes: Iterable[str]) -> list[str]:
    """Return the names of the columns that attributes refer to."""
    return _arguments(attributes, "column")


def _arguments(attributes: Iterable[str], kind: str) -> list[str]:
    return [name[len(kind) + 1 : -1] for name in attributes if name.startswith(f"{kind}(")]


def membership(words: Iterable[str]) -> Lookup:
    """Return a lookup table from the words of a list to `yes`, and from every other word to `""`."""
    entries = tf.constant(sorted(set(words)), tf.string)
    initializer = tf.lookup.KeyValueTensorInitializer(entries, tf.fill(tf.shape(entries), "yes"))
    return tf.lookup.StaticHashTable(initializer, "")


def attribute(
    name: str,
    tokens: Strings,
    lists: Mapping[str, Lookup] | None = None,
    columns: Mapping[str, Strings] | None = None,
) -> Strings:
    """Compute an attribute of tokens.

    Args:
        name: the attribute.
        tokens: strings of any shape.
        lists: the tables of word lists by name, see `membership`.
        columns: the values of `tokens` in other columns by name, in the same shape.

    Returns:
        strings of the same shape; `""` for words that are not in a list.
    """
    if name == "word":
        return tokens
    if name.startswith("in("):
        return (lists or {})[name[3:-1]].lookup(tokens)
    if name.startswith("column("):
        return (columns or {})[name[7:-1]]
    if name == "lower":
        return tf.strings.lower(tokens, encoding="utf-8")
    if name in ("shape", "pattern"):
        repeat = "+" if name == "pattern" else ""
        for characters, symbol in ((r"\p{Lu}", "X"), (r"\p{Ll}", "x"), (r"[0-9]", "d")):
            tokens = tf.strings.regex_replace(tokens, characters + repeat, symbol)
        return tokens
    size = name[-1]
    pattern = f"(?s)^(.{{{size}}}).*$" if name.startswith("prefix") else f"(?s)^.*(.{{{size}}})$"
    return tf.strings.regex_replace(tokens, pattern, r"\1")
