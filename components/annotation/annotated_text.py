"""A text with labelled spans, and the checks that every format needs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trellis.components.choices import OffsetUnit
from trellis.components.errors import InputError, quoted
from trellis.components.types import FilePath

Token = tuple[int, int]  # start and end in the text
_WHITE_SPACE = " \t\n\r\f\v"


@dataclass(frozen=True, slots=True)
class Span:
    """A labelled span of a text.

    Attributes:
        start: where it begins, in Unicode code points.
        end: where it ends; `text[start:end]` is what is labelled.
        label: such as `PER`.
        gaps: whether it leaves out words between its ends, as brat's discontinuous entities do.
        place: `file:line`, for messages.
    """

    start: int
    end: int
    label: str
    gaps: bool = False
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class AnnotatedText:
    """A text with labelled spans.

    Attributes:
        text: the text, as written.
        spans: in the order of the file.
        tokens: the offsets of its tokens, if the file has them.
        id: its identifier in the file: text, a number or None.
        place: `file:line`, for messages.
        line: the line in its file, from 1; None if the text is a whole file or a table row.
        file: its file, if a part has several; otherwise None.
    """

    text: str
    spans: tuple[Span, ...]
    tokens: tuple[Token, ...] | None = None
    id: str | int | None = None
    place: str = field(default="", compare=False, repr=False)
    line: int | None = field(default=None, compare=False, repr=False)
    file: FilePath | None = field(default=None, compare=False, repr=False)


class FoundSpan(NamedTuple):
    """A span as it stands in a file, not checked yet.

    Attributes:
        start: offset of its first character.
        end: offset after its last one.
        label: its label.
        surface: its words, if the file repeats them.
        gaps: see `Span`.
        place: `file:line` of the span, if it is not that of the text.
    """

    start: Any
    end: Any
    label: Any
    surface: Any = None
    gaps: bool = False
    place: str = ""


@dataclass(frozen=True)
class FoundText:
    """A text as it stands in a file, not checked yet; see `AnnotatedText`."""

    text: Any
    spans: Iterable[FoundSpan]
    tokens: Sequence[tuple[Any, Any]] | None = None
    id: Any = None


def checked(found: FoundText, place: str, line: int | None, unit: OffsetUnit = "code_points") -> AnnotatedText:
    """Check a text and its spans; return them with offsets in code points, without duplicate spans.

    Args:
        found: the text as it stands in the file.
        place: `file:line`, for messages.
        line: the line in the file.
        unit: what the offsets of the file count.

    Raises:
        InputError: the text is not a string, an offset is outside it, or a span has no label or other words than the
            text; names the place.
    """
    text = found.text
    if not isinstance(text, str):
        raise InputError(f"{place}: the text is {_shown(text)}, expected a string")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{place}: character {error.start} of the text is half of a surrogate pair") from None
    offsets = _Offsets(text, unit)
    spans: dict[Span, None] = {}
    for span in found.spans:
        own = span.place or place
        start, end = (offsets.code_point(own, offset, "a span") for offset in (span.start, span.end))
        if start > end:
            raise InputError(f"{own}: span {span.start}-{span.end} ends before it begins")
        if not isinstance(span.label, str) or not span.label.strip():
            raise InputError(
                f"{own}: the label of span {span.start}-{span.end} is {_shown(span.label)}, expected a name"
            )
        if isinstance(span.surface, str) and not _same(span.surface, text[start:end]):
            raise InputError(
                f"{own}: span {span.start}-{span.end} is {quoted(text[start:end])} in the text, but "
                f"{quoted(span.surface)} according to the file{offsets.hint}"
            )
        spans[Span(start, end, span.label, span.gaps, own)] = None
    tokens = None if found.tokens is None else tuple(_tokens(found.tokens, text, offsets, place))
    identifier = found.id if isinstance(found.id, str | int) and not isinstance(found.id, bool) else None
    return AnnotatedText(text, tuple(spans), tokens, identifier, place, line)


def _tokens(found: Iterable[tuple[Any, Any]], text: str, offsets: "_Offsets", place: str) -> Iterator[Token]:
    """Yield the offsets of tokens, except tokens of white space, which spaCy has."""
    former = 0
    for bounds in found:
        start, end = (offsets.code_point(place, bound, "a token") for bound in bounds)
        if not former <= start < end:
            raise InputError(f"{place}: token {bounds[0]}-{bounds[1]} is empty, or not after the one before it")
        former = end
        if text[start:end].strip(_WHITE_SPACE):
            yield start, end


class _Offsets:
    """Converts offsets of a file to code points of its text.

    Attributes:
        hint: advice for offsets that do not fit.
    """

    def __init__(self, text: str, unit: OffsetUnit) -> None:
        self._length = len(text)
        self.hint = utf16_hint(text) if unit == "code_points" else ""
        self._code_points: dict[int, int] | None = None
        if unit == "utf16" and utf16_hint(text):
            self._code_points, units = {}, 0
            for index, character in enumerate(text):
                self._code_points[units] = index
                units += 2 if ord(character) > 0xFFFF else 1
            self._code_points[units] = len(text)

    def code_point(self, place: str, offset: Any, what: str) -> int:
        if not isinstance(offset, int) or isinstance(offset, bool):
            raise InputError(f"{place}: an offset of {what} is {_shown(offset)}, expected a whole number")
        known = self._code_points
        if known is None and 0 <= offset <= self._length:
            return offset
        if known is not None and offset in known:
            return known[offset]
        if known is not None and 0 <= offset < max(known):
            raise InputError(f"{place}: offset {offset} of {what} is inside of a character, counted in UTF-16 units")
        raise InputError(
            f"{place}: offset {offset} of {what} is outside of the text, which has "
            f"{self._length:,} characters{self.hint}"
        )


def utf16_hint(text: str) -> str:
    """Return advice for offsets that do not fit a text, if they would differ in UTF-16 units; otherwise no text."""
    if text.isascii() or max(text) <= "\uffff":
        return ""
    return " (if offsets are JavaScript's, in UTF-16 units: data.reader.offsets=utf16, --offsets utf16)"


def utf16_offsets(text: str) -> list[int]:
    """Return, for each code point of a text and for its end, the offset in UTF-16 units."""
    offsets = [0]
    for character in text:
        offsets.append(offsets[-1] + (2 if ord(character) > 0xFFFF else 1))
    return offsets


def _same(surface: str, text: str) -> bool:
    """Return whether words are those of the text; tools write line breaks in several ways."""
    return surface == text or surface.replace("\\n", " ").split() == text.split()


def _shown(value: object) -> str:
    return "missing" if value is None else quoted(value) if isinstance(value, str) else quoted(repr(value))[1:-1]
