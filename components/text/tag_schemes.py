"""Tag schemes of entities: IOB1, BIO2 and IOBES, and the rules of `conlleval` for what an entity is."""

from typing import NamedTuple


class Entity(NamedTuple):
    """Tokens `start` up to, not including, `stop`."""

    kind: str
    start: int
    stop: int


def entities(tags):
    """Entities of one sentence, with exactly the semantics of the CoNLL `conlleval` script.

    An entity begins at `B-` or `S-`, at any tag whose type differs from the one before, and at an `I-` or `E-` after
    `O`, `E-` or `S-`: an `I-` that follows nothing of its type therefore begins an entity rather than being ignored.
    A tag without a hyphen other than `O` is an entity type of its own, continued as if by `I-`.
    """
    found, start = [], 0
    before_prefix, before_kind = "O", ""
    for index, tag in enumerate((*tags, "O")):
        prefix, kind = split(tag)
        inside = before_prefix != "O"
        broken = prefix in ("B", "S", "O") or before_prefix in ("E", "S") or kind != before_kind
        if inside and broken:
            found.append(Entity(before_kind, start, index))
        if prefix != "O" and (broken or not inside):
            start = index
        before_prefix, before_kind = prefix, kind
    return found


def split(tag):
    """`B-ORG` as `("B", "ORG")`; `O` as `("O", "")`; a tag without a prefix as `("I", tag)`."""
    if tag == "O":
        return "O", ""
    prefix, hyphen, kind = tag.partition("-")
    return (prefix, kind) if hyphen and len(prefix) == 1 else ("I", tag)


def detect(sentences):
    """`bio2`, `iob1` or `iobes`: the scheme in which these tag sequences are written.

    IOB1 writes `B-` only where an entity follows another of its type. So where entities begin with `I-`, and no `B-`
    stands anywhere else, it is IOB1; one `B-` elsewhere makes it BIO2 with mistakes, which are left to `entities`.
    """
    begins_with_i = False
    for tags in sentences:
        before_prefix, before_kind = "O", ""
        for tag in tags:
            prefix, kind = split(tag)
            if prefix in ("S", "E"):
                return "iobes"
            follows = before_prefix != "O" and kind == before_kind
            if prefix == "B" and not follows:
                return "bio2"
            if prefix == "I" and not follows:
                begins_with_i = True
            before_prefix, before_kind = prefix, kind
    return "iob1" if begins_with_i else "bio2"


def convert(tags, scheme):
    """The same entities written in `bio2` or `iobes`."""
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


def to_bio2(tag):
    """One IOBES tag as the BIO2 tag of the same position."""
    prefix, kind = split(tag)
    return {"S": f"B-{kind}", "E": f"I-{kind}"}.get(prefix, tag)


def allowed_transitions(tags, scheme):
    """What a scheme, `bio` (BIO2) or `iobes`, allows between these tags.

    Returns:
        booleans as nested lists: whether [row] may be followed by [column], may come first, may come last.

    Raises:
        ValueError: if a tag is not written in the scheme.
    """
    prefixes = {"bio": ("B", "I"), "iobes": ("B", "I", "E", "S")}[scheme]
    parts = []
    for tag in tags:
        prefix, hyphen, _ = tag.partition("-")
        if tag != "O" and not (hyphen and prefix in prefixes):
            raise ValueError(f"{tag!r} is not a tag of the scheme {scheme!r}: O, or {', '.join(prefixes)} and a hyphen")
        parts.append(split(tag))

    def continues(tag):
        return tag[0] in ("I", "E")

    def goes_on(tag):
        return scheme == "iobes" and tag[0] in ("B", "I")

    def follows(before, after):
        if continues(after):
            return before[1] == after[1] and (before[0] in ("B", "I"))
        return not goes_on(before)

    return (
        [[follows(before, after) for after in parts] for before in parts],
        [not continues(tag) for tag in parts],
        [not goes_on(tag) for tag in parts],
    )
