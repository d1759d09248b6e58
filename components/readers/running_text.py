"""Running text for language models: documents of lines of words or characters."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

from trellis.components.errors import InputError
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.types import FilePath

Line: TypeAlias = list[str]  # tokens
Document: TypeAlias = list[Line]

UNITS = ("words", "characters")


def read(path: FilePath, unit: str = "words", keep_blank: bool = False) -> list[Document]:
    """Read a file as one document, or a folder as one document per `*.txt` file, sorted by name; plain or gzip.

    Words are split at the ASCII space alone.

    Args:
        path: a file or folder.
        unit: `words` or `characters`.
        keep_blank: keep lines without tokens, which belong to running text but are not sentences.

    Returns:
        documents of lines of tokens, without line ends.

    Raises:
        InputError: there is no file, or no text in it.
    """
    path = Path(path)
    files = sorted(file for file in path.glob("*") if ".txt" in file.suffixes) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: no .txt files in this folder")
    documents = []
    for file in files:
        lines = [_tokens(line, unit) for _, line in read_lines(file) if keep_blank or not is_blank(line)]
        if any(lines):
            documents.append(lines)
    if not documents:
        raise InputError(f"{path}: no text in it")
    return documents


def _tokens(line: str, unit: str) -> Line:
    return list(line) if unit == "characters" else [token for token in line.split(" ") if token]


def divide(documents: list[Document], shares: Mapping[str, float]) -> dict[str, list[Document]]:
    """Divide documents into consecutive parts, cut between lines.

    Args:
        documents: documents of lines of tokens.
        shares: `{part: share of all characters}`, which add up to 1.

    Returns:
        `{part: documents}`.

    Raises:
        InputError: there are fewer lines than parts.
    """
    sizes = [sum(map(len, line)) + 1 for lines in documents for line in lines]
    if len(sizes) < len(shares):
        raise InputError(f"{len(sizes)} lines cannot be divided into {', '.join(shares)}")
    targets = np.cumsum(list(shares.values()))
    nearest = np.searchsorted(np.cumsum(sizes) / sum(sizes), targets - 1e-9) + 1
    ends = [0]
    for count, end in enumerate(nearest, 1):
        # Leave at least one line for each part.
        ends.append(min(max(int(end), ends[-1] + 1), len(sizes) - len(shares) + count))
    ends[-1] = len(sizes)
    return {
        part: _slice_lines(documents, start, end) for part, start, end in zip(shares, ends[:-1], ends[1:], strict=True)
    }


def _slice_lines(documents: list[Document], start: int, end: int) -> list[Document]:
    """Return lines `start` to `end` (exclusive), counted over all documents, still grouped by document."""
    kept, before = [], 0
    for lines in documents:
        part = lines[max(start - before, 0) : max(end - before, 0)]
        if part:
            kept.append(part)
        before += len(lines)
    return kept
