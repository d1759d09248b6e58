"""Running text on disk: the tokens of a text as numbers in a memory-mapped file, written once and kept in a cache.

A text is written in one pass as the indices of its distinct tokens, in the order in which they first occur; index 0
is the end of a line. The vocabulary is not part of it, so runs with other settings of `text` share the files. An
entry of the cache is a folder, whose name is a hash of the files, of how they are read, and of the version of the
format:

    tokens.bin     indices, uint16 if there are few distinct tokens, else int32
    lines.bin      int64: where each line begins in tokens.bin
    types.txt      the distinct tokens from index 1, one per line
    meta.json      version, sizes, and where documents begin; written last
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np

from trellis.components.errors import InputError
from trellis.components.readers import sources
from trellis.components.readers.disk_cache import Progress, kept
from trellis.components.readers.index_files import DTYPES, IndexWriter, Types
from trellis.components.readers.lines import is_blank
from trellis.components.readers.mapped_array import MappedArray
from trellis.components.readers.opening import COMPRESSIONS, size_of
from trellis.components.readers.parquet import is_named_parquet
from trellis.components.readers.running_text import document_files, read_document
from trellis.components.readers.sources import Source
from trellis.components.types import FilePath
from trellis.components.urls import is_url

log = logging.getLogger(__name__)

VERSION = 1
LINE_END = 0
LARGE = 100e6  # bytes; in memory, the tokens of a text take about 20 times as much
_FORMAT = "trellis token files"
_BUFFER = 1 << 20  # tokens or characters that are held while a text is written
_POSITION = np.dtype("<i8")
_GROWTH = 4  # how many times larger a compressed text is, roughly


@dataclass(frozen=True)
class Reading:
    """How a text is read; see `running_text.read`."""

    unit: str
    keep_blank: bool
    encoding: str
    column: str


@dataclass(frozen=True)
class TokenFiles:
    """A text on disk.

    Attributes:
        tokens: the index of each token, and `LINE_END` after each line.
        lines: where each line begins.
        documents: where each document begins, `(documents,)`.
        types: the distinct tokens by their indices; the first one, the end of a line, is empty.
        sizes: the number of characters of each type; that of a line end is 1.
    """

    tokens: MappedArray
    lines: MappedArray
    documents: np.ndarray
    types: list[str]
    sizes: np.ndarray


def are_large(texts: Iterable[Source]) -> bool:
    """Return whether texts are better kept on disk, by the size of their files, estimated for compressed ones."""
    total = 0
    for file in chain.from_iterable(map(document_files, texts)):
        compressed = str(file).endswith(COMPRESSIONS) or is_named_parquet(file)
        total += size_of(file) * (_GROWTH if compressed else 1)
    return total > LARGE


def open_token_files(source: Source, reading: Reading, folder: Path) -> TokenFiles:
    """Return a text from the cache, after writing it there if it is not.

    Args:
        source: the files.
        reading: how they are read.
        folder: of the cache.

    Raises:
        InputError: a file cannot be read, there is no text in it, or the folder cannot be written to.
    """
    entry = folder / _key(source, reading)
    return kept(entry, _load, lambda new: _write(new, source, reading, entry))


def _key(source: Source, reading: Reading) -> str:
    files = document_files(source)
    for file in files:
        if not is_url(file) and not Path(file).is_file():
            raise InputError(f"text.storage=disk: {file} is not a file, so its tokens cannot be kept; copy it into one")
    content = [VERSION, reading.unit, reading.keep_blank, reading.encoding]
    if any(map(is_named_parquet, files)):
        content.append(reading.column)
    digest = hashlib.sha256(json.dumps(content).encode())
    # In this order: where one file ends and another begins makes a difference.
    for file in files:
        digest.update(sources.digest(file))
    return digest.hexdigest()[:32]


def _load(entry: Path) -> TokenFiles:
    """Return the text of an entry.

    Raises:
        ValueError, KeyError, TypeError, OSError: the entry is damaged.
    """
    meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
    if meta["format"] != _FORMAT or meta["version"] != VERSION:
        raise ValueError(f"not {_FORMAT}, version {VERSION}")
    dtype = DTYPES[meta["dtype"]]
    sizes = {"tokens.bin": meta["tokens"] * dtype.itemsize, "lines.bin": meta["lines"] * _POSITION.itemsize}
    for name, size in {**sizes, "types.txt": meta["types_bytes"]}.items():
        found = (entry / name).stat().st_size
        if found != size:
            raise ValueError(f"{name} has {found} bytes, expected {size}")
    types = ["", *(each.decode() for each in (entry / "types.txt").read_bytes().split(b"\n")[:-1])]
    if len(types) != meta["types"] + 1:
        raise ValueError(f"types.txt has {len(types) - 1} lines, expected {meta['types']}")
    lengths = np.fromiter(map(len, types), np.int32, len(types))
    lengths[LINE_END] = 1
    return TokenFiles(
        MappedArray(entry / "tokens.bin", dtype),
        MappedArray(entry / "lines.bin", _POSITION),
        np.array(meta["documents"], np.int64),
        types,
        lengths,
    )


# Writing


def _write(folder: Path, source: Source, reading: Reading, entry: Path) -> None:
    """Write a text to a new folder.

    Args:
        entry: where it will be, for the log.
    """
    folder.mkdir()
    progress = Progress(source, entry, "tokens")
    types = Types(LINE_END + 1)
    tokens = IndexWriter(folder / "tokens.bin")
    documents: list[int] = []
    lines = 0
    with contextlib.closing(tokens), open(folder / "lines.bin", "wb") as line_file:
        for file in document_files(source):
            begin, written = tokens.count, _write_document(file, reading, types, tokens, line_file, progress)
            if written:
                documents.append(begin)
                lines += written
            else:
                tokens.truncate(begin)
                line_file.flush()
                line_file.truncate(lines * _POSITION.itemsize)
                line_file.seek(0, os.SEEK_END)
    if not documents:
        raise InputError(f"{source}: no text in it")
    content = "".join(f"{token}\n" for token in types).encode()
    (folder / "types.txt").write_bytes(content)
    meta: dict[str, Any] = {
        "format": _FORMAT,
        "version": VERSION,
        "dtype": tokens.dtype.name,
        "tokens": tokens.count,
        "lines": lines,
        "types": len(types),
        "types_bytes": len(content),
        "documents": documents,
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    progress.done(tokens.count)


def _write_document(
    file: FilePath, reading: Reading, types: Types, tokens: IndexWriter, line_file: IO[bytes], progress: Progress
) -> int:
    """Write the lines of a file; return how many, or 0 if there is no token in any of them."""
    index_of, words = types.__getitem__, reading.unit == "words"
    buffer: list[int] = []
    starts: list[int] = []
    lines, found = 0, False

    def flush() -> None:
        progress.reached(tokens.count)
        tokens.write(buffer, len(types))
        buffer.clear()
        np.array(starts, _POSITION).tofile(line_file)
        starts.clear()

    for line in read_document(file, reading.encoding, reading.column):
        if not reading.keep_blank and is_blank(line):
            continue
        lines += 1
        starts.append(tokens.count + len(buffer))
        for piece in _pieces(line, words):
            split = [token for token in piece.split(" ") if token] if words else piece
            found = found or bool(split)
            buffer.extend(map(index_of, split))
            if len(buffer) > _BUFFER:
                flush()
        buffer.append(LINE_END)
    flush()
    return lines if found else 0


def _pieces(line: str, words: bool) -> Iterator[str]:
    """Yield a line, in pieces if it is so long that its tokens would fill the memory."""
    start = 0
    while len(line) - start > _BUFFER:
        end = line.find(" ", start + _BUFFER) if words else start + _BUFFER
        if end < 0:
            break
        yield line[start:end]
        start = end
    yield line[start:] if start else line
