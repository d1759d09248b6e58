"""Running text for language models: documents of lines of words or characters."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from trellis.components.errors import InputError
from trellis.components.readers import parquet
from trellis.components.readers.lines import is_blank, read_lines, within_budget
from trellis.components.readers.parquet import is_named_parquet
from trellis.components.readers.sources import Source, files_of
from trellis.components.types import FilePath
from trellis.components.urls import is_url

Line: TypeAlias = list[str]  # tokens
Document: TypeAlias = list[Line]

LONG = 1000  # characters of a line that may have to be cut where a text is divided
UNITS = ("words", "characters")


def read(
    path: Source, unit: str = "words", keep_blank: bool = False, encoding: str = "utf-8", column: str = "text"
) -> list[Document]:
    """Read each file as one document; a folder has a document per `*.txt` file, sorted by name; plain or compressed.

    Words are split at the ASCII space alone. The rows of a Parquet file are lines, or several lines each.

    Args:
        path: a file, a folder, or several files.
        unit: `words` or `characters`.
        keep_blank: keep lines without tokens, which belong to running text but are not sentences.
        encoding: of the files.
        column: the column of Parquet files that has the text.

    Returns:
        documents of lines of tokens, without line ends.

    Raises:
        InputError: there is no file, or no text in it.
    """
    documents = []
    for file in document_files(path):
        lines = [
            tokens(line, unit) for line in read_document(file, encoding, column) if keep_blank or not is_blank(line)
        ]
        if any(lines):
            documents.append(lines)
    if not documents:
        raise InputError(f"{path}: no text in it")
    return documents


def document_files(path: Source) -> list[FilePath]:
    """Return the files of a text, each a document; those of a folder are its `*.txt` files, sorted by name.

    Raises:
        InputError: a folder has no such files.
    """
    files: list[FilePath] = []
    for file in files_of(path):
        if is_url(file) or not Path(file).is_dir():
            files.append(file)
            continue
        found = sorted(each for each in Path(file).glob("*") if ".txt" in each.suffixes)
        if not found:
            raise InputError(f"{file}: no .txt files in this folder")
        files += found
    return files


def read_document(file: FilePath, encoding: str, column: str) -> Iterator[str]:
    """Yield the lines of a file, without line ends."""
    if not is_named_parquet(file):
        return (line for _, line in read_lines(file, encoding))
    rows = within_budget(file, parquet.column(file, column))
    return (line for _, row in rows for line in row.removesuffix("\n").split("\n"))


def tokens(line: str, unit: str) -> Line:
    """Return the tokens of a line."""
    return list(line) if unit == "characters" else [token for token in line.split(" ") if token]


def divide(
    documents: list[Document], shares: Mapping[str, float], source: object = "the text"
) -> dict[str, list[Document]]:
    """Divide documents into consecutive parts, cut between lines; a line that is long for a part, between tokens.

    Args:
        documents: documents of lines of tokens.
        shares: `{part: share of all characters}`, which add up to 1.
        source: the name of the text, for messages.

    Returns:
        `{part: documents}`.

    Raises:
        InputError: there are fewer tokens than parts.
    """
    total = sum(map(_size, (line for lines in documents for line in lines)))
    longest = longest_piece(total, sum(map(len, documents)), shares)
    pieces = [[piece for line in lines for piece in _pieces(line, longest)] for lines in documents]
    ends = ends_of_parts(np.array([_size(piece.tokens) for lines in pieces for piece in lines]), shares, source)
    return {
        part: [_joined(lines) for lines in _slice_lines(pieces, start, end)]
        for part, start, end in zip(shares, ends[:-1], ends[1:], strict=True)
    }


def longest_piece(characters: int, lines: int, shares: Mapping[str, float]) -> int:
    """Return the characters that a line may have before it is cut where a text is divided.

    Where lines are shorter, a cut between two of them will do.

    Args:
        characters: of the whole text.
        lines: of the whole text.
        shares: see `divide`.
    """
    longest = max(1, int(min(shares.values()) * characters / 2))
    return max(longest, LONG) if lines >= len(shares) else longest


def piece_bounds(tokens: int, size: int, longest: int) -> list[int]:
    """Return where a line is cut: into one piece, or if it has more characters than `longest`, into pieces of about a
    tenth of that.

    Args:
        tokens: of the line.
        size: its characters.
    """
    if size <= longest or tokens < 2:
        return [0, tokens]
    count = min(tokens, -(-10 * size // longest))
    return [int(bound) for bound in np.linspace(0, tokens, count + 1).astype(int)]


def ends_of_parts(sizes: np.ndarray, shares: Mapping[str, float], source: object) -> list[int]:
    """Return the numbers of pieces before and after each part: 0, and the end of each.

    Args:
        sizes: the characters of each piece, `(pieces,)`.
        shares: see `divide`.
        source: the name of the text, for messages.

    Raises:
        InputError: there are fewer pieces than parts.
    """
    if len(sizes) < len(shares):
        raise InputError(f"{source}: {len(sizes)} tokens cannot be divided into {', '.join(shares)}")
    targets = np.cumsum(list(shares.values()))
    nearest = np.searchsorted(np.cumsum(sizes) / sizes.sum(), targets - 1e-9) + 1
    ends = [0]
    for count, end in enumerate(nearest, 1):
        # Leave at least one line for each part.
        ends.append(min(max(int(end), ends[-1] + 1), len(sizes) - len(shares) + count))
    ends[-1] = len(sizes)
    return ends


class _Piece(NamedTuple):
    """Tokens of a line, and whether the line goes on."""

    tokens: Line
    goes_on: bool


def _size(tokens: Line) -> int:
    return sum(map(len, tokens)) + 1


def _pieces(line: Line, longest: int) -> list[_Piece]:
    """Return a line as the pieces that `piece_bounds` says."""
    bounds = piece_bounds(len(line), _size(line), longest)
    return [_Piece(line[start:end], end < len(line)) for start, end in itertools.pairwise(bounds)]


def _joined(pieces: list[_Piece]) -> Document:
    """Return the lines that pieces are of; the last one ends where the pieces do."""
    lines: Document = []
    goes_on = False
    for piece in pieces:
        if goes_on:
            lines[-1] = lines[-1] + piece.tokens
        else:
            lines.append(piece.tokens)
        goes_on = piece.goes_on
    return lines


def _slice_lines(documents: list[list[_Piece]], start: int, end: int) -> list[list[_Piece]]:
    """Return lines `start` to `end` (exclusive), counted over all documents, still grouped by document."""
    kept, before = [], 0
    for lines in documents:
        part = lines[max(start - before, 0) : max(end - before, 0)]
        if part:
            kept.append(part)
        before += len(lines)
    return kept
