"""Tag schemes of entities, and what counts as an entity according to `conlleval`.

Inside Trellis tags are BIO2: `B-TYPE` begins an entity, `I-TYPE` continues it, `O` is outside. Files may be written in
any scheme that `recognize` knows.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from trellis.components.errors import quoted

UNTYPED = "ENTITY"  # the type of entities whose tags have none: B, I and O alone

# The positions of each scheme. The first one that has all letters of a file is its scheme.
_LETTERS = {
    "BIO2": "BI",
    "IOBES": "BIES",
    "BILOU": "BILU",
    "BMEWO": "BMEW",
    "BMES": "BMES",
}
_CANONICAL = {"L": "E", "U": "S", "M": "I", "W": "S"}  # letters by their names in IOBES
_POSITION = "[BIESLUMW]"
_PATTERNS = {
    "B-TYPE": re.compile(f"(?P<position>{_POSITION})-(?P<kind>.+)", re.IGNORECASE | re.DOTALL),
    "B_TYPE": re.compile(f"(?P<position>{_POSITION})_(?P<kind>.+)", re.IGNORECASE | re.DOTALL),
    "TYPE-B": re.compile(f"(?P<kind>.+)-(?P<position>{_POSITION})", re.IGNORECASE | re.DOTALL),
    "TYPE_B": re.compile(f"(?P<kind>.+)_(?P<position>{_POSITION})", re.IGNORECASE | re.DOTALL),
    "B": re.compile(f"(?P<position>{_POSITION})(?P<kind>)", re.IGNORECASE),
    "TYPE": re.compile("(?P<position>)(?P<kind>.+)", re.DOTALL),
}


class Entity(NamedTuple):
    """An entity of type `kind` over the tokens from `start` up to, not including, `stop`."""

    kind: str
    start: int
    stop: int


class Scheme(NamedTuple):
    """How tags are written.

    Attributes:
        name: `BIO2`, `IOB1`, `IOBES`, `BILOU`, `BMEWO`, `BMES` or `IO`.
        form: what a tag looks like: `B-TYPE`, `B_TYPE`, `TYPE-B`, `TYPE_B`, `B` or `TYPE`.
    """

    name: str
    form: str = "B-TYPE"

    def __str__(self) -> str:
        if self.name == "IO":
            return "IO"
        return self.name if self.form == "B-TYPE" else f"{self.name} (written {self.form})"

    def split(self, tag: str) -> tuple[str, str]:
        """Return the position, `B`, `I`, `E`, `S` or `O`, and the type of a tag; a missing one counts as outside."""
        if tag in ("O", "o", ""):
            return "O", ""
        match = _PATTERNS[self.form].fullmatch(tag)
        if match is None:
            return "I", tag
        letter = match["position"].upper() or "I"
        return _CANONICAL.get(letter, letter), match["kind"] or UNTYPED

    def covers(self, sentences: Iterable[Sequence[str]]) -> bool:
        """Return whether every tag is written like this."""
        return all(tag in ("O", "o") or _PATTERNS[self.form].fullmatch(tag) for tags in sentences for tag in tags)


class UnknownTagError(ValueError):
    """A tag that belongs to no scheme, or not to that of the others.

    Attributes:
        tag: the tag.
        sentence, token: where it occurs first, counted from 0.
    """

    def __init__(self, message: str, tag: str, sentence: int, token: int) -> None:
        super().__init__(message)
        self.tag, self.sentence, self.token = tag, sentence, token


def recognize(sentences: Iterable[Sequence[str]]) -> Scheme:
    """Return the scheme in which tag sequences are written.

    BIO2, IOB1, IOBES, BILOU (BILUO), BMEWO, BMES and IO are known, with the position before the type or after it,
    joined by `-` or `_`, in either case; `B`, `I` and `O` without types; and types without positions, which are IO.

    Raises:
        UnknownTagError: the tags are in none of these, or one is not in the scheme of the others.
    """
    if isinstance(sentences, Iterator):
        sentences = list(sentences)
    counts = Counter(tag for tags in sentences for tag in tags)
    has_outside = bool(counts.pop("O", 0) + counts.pop("o", 0))
    if not counts:
        return Scheme("BIO2")

    def refuse(tag: str, why: str) -> UnknownTagError:
        sentence, token = next((s, t) for s, tags in enumerate(sentences) for t, each in enumerate(tags) if each == tag)
        return UnknownTagError(f"tag {quoted(tag)} {why}", tag, sentence, token)

    if "" in counts:
        raise refuse("", "is empty")

    def positions(form: str) -> dict[str, str]:
        matches = ((tag, _PATTERNS[form].fullmatch(tag)) for tag in counts)
        return {tag: match["position"].upper() for tag, match in matches if match}

    forms = {form: positions(form) for form in _PATTERNS if form != "TYPE"}
    form = max(forms, key=lambda form: sum(counts[tag] for tag in forms[form]))  # the first of equals
    letters = forms[form]
    others = [tag for tag in counts if tag not in letters]
    if others and set(letters.values()) <= {"E"}:  # E-MAIL may be a type
        if not has_outside:
            raise refuse(
                others[0], "is in no scheme of entities: expected O and B-TYPE, I-TYPE, … (BIO2, IOBES, BILOU, …)"
            )
        return Scheme("IO", "TYPE")
    if others:
        raise refuse(others[0], f"is neither O nor written {form}, as the other tags are")
    names = {
        name: sum(counts[tag] for tag, letter in letters.items() if letter in known) for name, known in _LETTERS.items()
    }
    name = max(names, key=lambda name: names[name])
    for tag, letter in letters.items():
        if letter not in _LETTERS[name]:
            raise refuse(tag, f"is not in the scheme of the other tags, {Scheme(name, form)}")
    if name == "BIO2" and _is_iob1(sentences, Scheme(name, form)):
        name = "IOB1"
    return Scheme(name, form)


def _is_iob1(sentences: Iterable[Sequence[str]], scheme: Scheme) -> bool:
    """Return whether entities begin with `I-`, and `B-` occurs only where one follows another of its type.

    A single `B-` elsewhere makes it BIO2 with mistakes, which `entities` handles.
    """
    begins_with_i = False
    for tags in sentences:
        previous = "O", ""
        for tag in tags:
            position, kind = scheme.split(tag)
            follows_same_kind = previous[0] != "O" and kind == previous[1]
            if position == "B" and not follows_same_kind:
                return False
            begins_with_i |= position == "I" and not follows_same_kind
            previous = position, kind
    return begins_with_i


def detect(sentences: Iterable[Sequence[str]]) -> str:
    """Return the name of the scheme in which tag sequences are written, in lower case: `bio2`, `iob1`, `iobes`, …"""
    return recognize(sentences).name.lower()


def entities(tags: Sequence[str], scheme: Scheme | None = None) -> list[Entity]:
    """Return the entities of a sentence, with exactly the semantics of the CoNLL `conlleval` script.

    An entity begins at `B-` or `S-`, at any tag whose type differs from the previous one, and at an `I-` or `E-` after
    `O`, `E-` or `S-`. An `I-` that continues nothing therefore begins an entity rather than being ignored. A tag
    without a position other than `O` is an entity type of its own, continued as if by `I-`.

    Args:
        scheme: how the tags are written; by default as `recognize` finds for this sentence alone.
    """
    spans, start = [], 0
    previous_prefix, previous_kind = "O", ""
    for index, (prefix, kind) in enumerate((*_split_all(tags, scheme), ("O", ""))):
        inside = previous_prefix != "O"
        boundary = prefix in ("B", "S", "O") or previous_prefix in ("E", "S") or kind != previous_kind
        if inside and boundary:
            spans.append(Entity(previous_kind, start, index))
        if prefix != "O" and (boundary or not inside):
            start = index
        previous_prefix, previous_kind = prefix, kind
    return spans


def _split_all(tags: Sequence[str], scheme: Scheme | None) -> Iterator[tuple[str, str]]:
    if scheme is None:
        try:
            scheme = recognize([tags])
        except UnknownTagError:
            scheme = Scheme("BIO2")
    return map(scheme.split, tags)


def split(tag: str) -> tuple[str, str]:
    """Return the position and type of a tag: `B-ORG` as `("B", "ORG")`, `O` as `("O", "")`, `ORG` as `("I", "ORG")`."""
    return Scheme("BIO2").split(tag)


def convert(tags: Sequence[str], target: str, scheme: Scheme | None = None) -> tuple[str, ...]:
    """Write the same entities in BIO2 or IOBES.

    Args:
        target: `bio2` or `iobes`.
        scheme: how the tags are written; by default as `recognize` finds for this sentence alone.
    """
    converted = ["O"] * len(tags)
    for kind, start, stop in entities(tags, scheme):
        for index in range(start, stop):
            first, last = index == start, index == stop - 1
            if target == "iobes":
                prefix = "S" if first and last else "B" if first else "E" if last else "I"
            else:
                prefix = "B" if first else "I"
            converted[index] = f"{prefix}-{kind}"
    return tuple(converted)


def to_bio2(tag: str) -> str:
    """Return the BIO2 tag for the position of an IOBES tag."""
    prefix, kind = split(tag)
    return {"S": f"B-{kind}", "E": f"I-{kind}"}.get(prefix, tag)


class Segments(NamedTuple):
    """Which tags form entities, in the order of the tags it was asked about; see `trellis.components.lattice.spans`.

    Attributes:
        names: the types of entities, sorted.
        kinds: the index of each tag's type in `names`, -1 for `O`.
        continues: whether the tag of a column, after the tag of a row, is in the same entity, `(tags, tags)`.
    """

    names: list[str]
    kinds: list[int]
    continues: list[list[bool]]


def segments(tags: Iterable[str], scheme: Scheme | None = None) -> Segments:
    """Return how tags form entities, with the semantics of `entities`.

    Args:
        tags: the name of each tag.
        scheme: how the tags are written; BIO2 or IOBES by default.
    """
    split_tags = list(map((scheme or Scheme("BIO2")).split, tags))
    names = sorted({kind for position, kind in split_tags if position != "O"})

    def continues(before: tuple[str, str], after: tuple[str, str]) -> bool:
        boundary = after[0] in ("B", "S", "O") or before[0] in ("E", "S", "O")
        return not boundary and before[1] == after[1]

    return Segments(
        names,
        [names.index(kind) if position != "O" else -1 for position, kind in split_tags],
        [[continues(before, after) for after in split_tags] for before in split_tags],
    )


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
