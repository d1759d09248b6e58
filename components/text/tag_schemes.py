"""Tag schemes of entities: IOB1, BIO2 and IOBES, and what counts as an entity according to `conlleval`."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Entity(NamedTuple):
    """An entity of type `kind` over the tokens from `start` up to, not including, `stop`."""

    kind: str
    start: int
    stop: int


def entities(tags: Iterable[str]) -> list[Entity]:
    """Return the entities of a sentence, with exactly the semantics of the CoNLL `conlleval` script.

    An entity begins at `B-` or `S-`, at any tag whose type differs from the previous one, and at an `I-` or `E-` after
    `O`, `E-` or `S-`. An `I-` that continues nothing therefore begins an entity rather than being ignored. A tag
    without a hyphen other than `O` is an entity type of its own, continued as if by `I-`.
    """
    spans, start = [], 0
    previous_prefix, previous_kind = "O", ""
    for index, tag in enumerate((*tags, "O")):
        prefix, kind = split(tag)
        inside = previous_prefix != "O"
        boundary = prefix in ("B", "S", "O") or previous_prefix in ("E", "S") or kind != previous_kind
        if inside and boundary:
            spans.append(Entity(previous_kind, start, index))
        if prefix != "O" and (boundary or not inside):
            start = index
        previous_prefix, previous_kind = prefix, kind
    return spans


def split(tag: str) -> tuple[str, str]:
    """Return the prefix and type of a tag: `B-ORG` as `("B", "ORG")`, `O` as `("O", "")`, `ORG` as `("I", "ORG")`."""
    if tag == "O":
        return "O", ""
    prefix, hyphen, kind = tag.partition("-")
    return (prefix, kind) if hyphen and len(prefix) == 1 else ("I", tag)


def detect(sentences: Iterable[Iterable[str]]) -> str:
    """Return the scheme in which tag sequences are written: `bio2`, `iob1` or `iobes`.

    IOB1 writes `B-` only where an entity follows another of its type. So if entities begin with `I-`, and `B-` occurs
    nowhere else, it is IOB1; a single `B-` elsewhere makes it BIO2 with mistakes, which `entities` handles.
    """
    begins_with_i = False
    for tags in sentences:
        previous_prefix, previous_kind = "O", ""
        for tag in tags:
            prefix, kind = split(tag)
            if prefix in ("S", "E"):
                return "iobes"
            follows_same_kind = previous_prefix != "O" and kind == previous_kind
            if prefix == "B" and not follows_same_kind:
                return "bio2"
            if prefix == "I" and not follows_same_kind:
                begins_with_i = True
            previous_prefix, previous_kind = prefix, kind
    return "iob1" if begins_with_i else "bio2"


def convert(tags: Sequence[str], scheme: str) -> tuple[str, ...]:
    """Write the same entities in the scheme `bio2` or `iobes`."""
    converted = ["O"] * len(tags)
    for kind, start, stop in entities(tags):
        for index in range(start, stop):
            first, last = index == start, index == stop - 1
            if scheme == "iobes":
                prefix = "S" if first and last else "B" if first else "E" if last else "I"
            else:
                prefix = "B" if first else "I"
            converted[index] = f"{prefix}-{kind}"
    return tuple(converted)


def to_bio2(tag: str) -> str:
    """Return the BIO2 tag for the position of an IOBES tag."""
    prefix, kind = split(tag)
    return {"S": f"B-{kind}", "E": f"I-{kind}"}.get(prefix, tag)


class AllowedTransitions(NamedTuple):
    """What a tag scheme allows, in the order of the tags it was asked about.

    Attributes:
        pairs: whether the tag of a row may be followed by the tag of a column, `(tags, tags)`.
        first: whether a sentence may begin with each tag, `(tags,)`.
        last: whether a sentence may end with each tag, `(tags,)`.
    """

    pairs: list[list[bool]]
    first: list[bool]
    last: list[bool]


def allowed_transitions(tags: Iterable[str], scheme: str) -> AllowedTransitions:
    """Return which transitions between tags the scheme `bio` (BIO2) or `iobes` allows.

    Raises:
        ValueError: a tag is not written in the scheme.
    """
    prefixes = {"bio": ("B", "I"), "iobes": ("B", "I", "E", "S")}[scheme]
    split_tags = []
    for tag in tags:
        prefix, hyphen, _ = tag.partition("-")
        if tag != "O" and not (hyphen and prefix in prefixes):
            raise ValueError(f"{tag!r} is not a tag of the scheme {scheme!r}: O, or {', '.join(prefixes)} and a hyphen")
        split_tags.append(split(tag))

    def is_continuation(tag: tuple[str, str]) -> bool:
        return tag[0] in ("I", "E")

    def is_unfinished(tag: tuple[str, str]) -> bool:
        return scheme == "iobes" and tag[0] in ("B", "I")

    def may_follow(before: tuple[str, str], after: tuple[str, str]) -> bool:
        if is_continuation(after):
            return before[1] == after[1] and before[0] in ("B", "I")
        return not is_unfinished(before)

    return AllowedTransitions(
        [[may_follow(before, after) for after in split_tags] for before in split_tags],
        [not is_continuation(tag) for tag in split_tags],
        [not is_unfinished(tag) for tag in split_tags],
    )
