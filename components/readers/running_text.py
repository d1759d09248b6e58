"""Running text for language models: documents of lines of words or characters."""

from pathlib import Path

import numpy as np

from trellis.components.errors import InputError
from trellis.components.readers.lines import is_blank, read_lines

UNITS = ("words", "characters")


def read(path, unit="words", keep_blank=False):
    """Documents of a file (one document) or of a folder (each `*.txt` file one, by name), plain or gzip.

    Words are split at the ASCII space alone.

    Args:
        unit: `words` or `characters`.
        keep_blank: keep lines without a token: they are part of running text, and no sentences.

    Returns:
        `[[[token, …], …], …]`: documents of lines of tokens, without line ends.

    Raises:
        InputError: nothing is there, or it holds no text.
    """
    path = Path(path)
    files = sorted(each for each in path.glob("*") if ".txt" in each.suffixes) if path.is_dir() else [path]
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


def _tokens(line, unit):
    return list(line) if unit == "characters" else [token for token in line.split(" ") if token]


def divide(documents, shares):
    """Parts of documents one after the other, cut between lines.

    Args:
        shares: `{part: share of all characters}`, which add up to 1.

    Returns:
        `{part: documents}`.

    Raises:
        InputError: there are fewer lines than parts.
    """
    sizes = [sum(map(len, line)) + 1 for lines in documents for line in lines]
    if len(sizes) < len(shares):
        raise InputError(f"{len(sizes)} lines cannot be divided into {', '.join(shares)}")
    wanted = np.cumsum(list(shares.values()))
    nearest = np.searchsorted(np.cumsum(sizes) / sum(sizes), wanted - 1e-9) + 1
    ends = [0]
    for number, end in enumerate(nearest, 1):
        # At least a line for each part.
        ends.append(min(max(int(end), ends[-1] + 1), len(sizes) - len(shares) + number))
    ends[-1] = len(sizes)
    return {part: _lines(documents, *ends[number : number + 2]) for number, part in enumerate(shares)}


def _lines(documents, first, end):
    """The lines from `first` to before `end`, still in their documents."""
    found, before = [], 0
    for lines in documents:
        cut = lines[max(first - before, 0) : max(end - before, 0)]
        if cut:
            found.append(cut)
        before += len(lines)
    return found
