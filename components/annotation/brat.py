"""Brat standoff (https://brat.nlplab.org/standoff.html): a text, `a.txt`, and its annotations, `a.ann`."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from trellis.components.annotation.annotated_text import AnnotatedText, FoundSpan, FoundText, checked
from trellis.components.errors import InputError, quoted
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.types import FilePath

log = logging.getLogger(__name__)

_OTHERS = {
    "R": "relations",
    "*": "relations",
    "E": "events",
    "A": "attributes",
    "M": "attributes",
    "N": "normalizations",
    "#": "notes",
}


def documents(path: FilePath) -> list[Path]:
    """Return the text files of a folder and its subfolders, or the text file of one document.

    Args:
        path: a folder, or one of the two files of a document.

    Raises:
        InputError: a text or its annotations are missing.
    """
    path = Path(path)
    if not path.is_dir():
        texts = [path.with_suffix(".txt")]
    else:
        files = sorted(file for file in path.rglob("*") if file.suffix in (".ann", ".txt"))
        texts = [file.with_suffix(".txt") for file in files if file.suffix == ".ann"]
        without = sum(file.suffix == ".txt" and not file.with_suffix(".ann").is_file() for file in files)
        if without:
            log.warning("%s: %d texts left out: without annotations (.ann)", path, without)
        if not texts:
            raise InputError(f"{path}: no annotations (.ann) in this folder")
    for text in texts:
        for file in (text, text.with_suffix(".ann")):
            if not file.is_file():
                raise InputError(f"{file}: no such file; brat needs a text (.txt) and its annotations (.ann)")
    return texts


def read(path: FilePath) -> list[AnnotatedText]:
    """Read the documents of a folder, or one document.

    Only entities (`T`) are read; a warning counts all other annotations. Fragments of an entity that are separated by
    white space only, such as a line break, become one span. An entity that leaves words out has `gaps`.

    Args:
        path: a folder, or one of the two files of a document.

    Raises:
        InputError: an entity is outside of the text, or has other words than the text at its place; names the file and
            line.
    """
    texts, others = [], Counter[str]()
    for file in documents(path):
        with open(file, "rb") as stored:  # a line end may be two characters, which brat counts
            content = stored.read()
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise InputError(f"{file}:{line}: not UTF-8 (byte 0x{content[error.start]:02x})") from None
        annotations = file.with_suffix(".ann")
        spans = _spans(annotations, text, others)
        texts.append(checked(FoundText(text, spans, None, file.stem), str(annotations), None))
    if others:
        counts = ", ".join(f"{count} {name}" for name, count in others.items())
        log.warning("%s: only entities are read, not %s", path, counts)
    return texts


def _spans(path: Path, text: str, others: Counter[str]) -> Iterator[FoundSpan]:
    for number, line in read_lines(path):
        if is_blank(line):
            continue
        if line[0] in _OTHERS:
            others[_OTHERS[line[0]]] += 1
            continue
        place = f"{path}:{number}"
        fields = line.split("\t", 2)
        label, _, ranges = fields[1].partition(" ") if len(fields) > 1 else ("", "", "")
        fragments = [part.split() for part in ranges.split(";")]
        bounds = [int(bound) for part in fragments for bound in part if bound.isascii() and bound.isdecimal()]
        if not line.startswith("T") or not label or len(bounds) != 2 * len(fragments):
            raise InputError(f"{place}: expected T1<TAB>TYPE START END<TAB>words, found {quoted(line)}")
        between = [text[end:start] for end, start in zip(bounds[1:-1:2], bounds[2::2], strict=True)]
        gaps = any(part.strip() for part in between)
        surface = fields[2] if len(fields) > 2 and len(fragments) == 1 else None
        yield FoundSpan(bounds[0], bounds[-1], label, surface, gaps, place)


def write(folder: Path, texts: Iterable[AnnotatedText]) -> int:
    """Write each text as a document; return how many. See `write_document`."""
    count = 0
    for count, text in enumerate(texts, 1):
        name = str(count if text.id is None else text.id).replace("/", "_")
        name = f"{name:0>6}" if name.isdecimal() else name
        if (folder / f"{name}.txt").exists() or name.startswith("."):
            name = f"{count:06}-{name.lstrip('.')}"
        write_document(folder / f"{name}.txt", text)
    return count


def write_document(file: Path, text: AnnotatedText) -> None:
    """Write a text and, next to it, its annotations.

    Raises:
        InputError: a label has white space, which brat cannot express.
    """
    lines = []
    for number, span in enumerate(text.spans, 1):
        if len(span.label.split()) != 1 or span.label.split()[0] != span.label:
            raise InputError(
                f"{span.place or text.place}: brat cannot express types with spaces, such as {quoted(span.label)}"
            )
        surface = " ".join(text.text[span.start : span.end].splitlines())
        lines.append(f"T{number}\t{span.label} {_ranges(text.text, span.start, span.end)}\t{surface}\n")
    file.write_bytes(text.text.encode("utf-8"))
    file.with_suffix(".ann").write_bytes("".join(lines).encode("utf-8"))


def _ranges(text: str, start: int, end: int) -> str:
    """Return the offsets of a span; in brat, each line of it is a fragment."""
    pieces, position = [], start
    for line in text[start:end].split("\n"):
        if line.strip():
            pieces.append(f"{position} {position + len(line)}")
        position += len(line) + 1
    return ";".join(pieces) or f"{start} {end}"
