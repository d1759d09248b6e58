"""Feature templates of classical taggers: which attributes of which neighbouring words score a tag.

    lower[-2:2]            the lower-cased words from two before to two after
    suffix3                the last three characters of the word itself; the same as suffix3[0]
    lower[-1]&lower[0]     both together, as one feature

Attributes: `word`, `lower`, `shape` (`Xxxx-dd`), `pattern` (the shape with runs written once, `Xx-d`), `prefixN`
and `suffixN` for N from 1 to 9 (the word itself where it is shorter), `in(NAME)`, whether the word is in a list, and
`column(NAME)`, what another column of the data says of the word.
"""

import re
from typing import NamedTuple

import tensorflow as tf

_PART = re.compile(
    r"\s*((?:in|column)\([A-Za-z0-9_]+\)|[a-z]+)([0-9]?)\s*(?:\[\s*(-?[0-9]+)\s*(?::\s*(-?[0-9]+)\s*)?\])?\s*"
)
_PLAIN = ("word", "lower", "shape", "pattern")


class Templates(NamedTuple):
    """Attributes by name; single features as (attribute, offset); conjunctions as tuples of these."""

    attributes: tuple
    singles: tuple
    conjunctions: tuple


def parse(templates):
    """Reads templates as written in a configuration.

    Raises:
        ValueError: naming the template that cannot be read.
    """
    attributes, singles, conjunctions = [], [], []
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


def _parse_part(part, template):
    match = _PART.fullmatch(part)
    kind, size, low, high = match.groups() if match else ("", "", None, None)
    plain = kind in _PLAIN or "(" in kind
    if not ((plain and not size) or (kind in ("prefix", "suffix") and size not in ("", "0"))):
        known = ", ".join((*_PLAIN, "prefix1 … prefix9", "suffix1 … suffix9", "in(LIST)", "column(NAME)"))
        raise ValueError(
            f"feature template {template!r}: {part.strip()!r} is not one of {known}, with [offsets] or none"
        )
    low = int(low or 0)
    high = low if high is None else int(high)
    if high < low:
        raise ValueError(f"feature template {template!r}: the offsets go from {low} down to {high}")
    return kind + size, tuple(range(low, high + 1))


def listed(attributes):
    """The names of the lists that attributes ask for."""
    return _named(attributes, "in")


def columns(attributes):
    """The names of the columns that attributes ask for."""
    return _named(attributes, "column")


def _named(attributes, kind):
    return [name[len(kind) + 1 : -1] for name in attributes if name.startswith(f"{kind}(")]


def membership(words):
    """A table from the words of a list to `yes`."""
    words = tf.constant(sorted(set(words)), tf.string)
    initializer = tf.lookup.KeyValueTensorInitializer(words, tf.fill(tf.shape(words), "yes"))
    return tf.lookup.StaticHashTable(initializer, "")


def attribute(name, tokens, lists=None, columns=None):
    """The value of an attribute for `tokens` of any shape: strings of the same shape; `""` for words in no list.

    Args:
        lists: tables by name, see `membership`.
        columns: by name, what each says of `tokens`, in their shape.
    """
    if name == "word":
        return tokens
    if name.startswith("in("):
        return lists[name[3:-1]].lookup(tokens)
    if name.startswith("column("):
        return columns[name[7:-1]]
    if name == "lower":
        return tf.strings.lower(tokens, encoding="utf-8")
    if name in ("shape", "pattern"):
        many = "+" if name == "pattern" else ""
        for letters, sign in ((r"\p{Lu}", "X"), (r"\p{Ll}", "x"), (r"[0-9]", "d")):
            tokens = tf.strings.regex_replace(tokens, letters + many, sign)
        return tokens
    size = name[-1]
    pattern = f"(?s)^(.{{{size}}}).*$" if name.startswith("prefix") else f"(?s)^.*(.{{{size}}})$"
    return tf.strings.regex_replace(tokens, pattern, r"\1")
