"""Open the files of datasets: local ones, compressed or not, and URLs."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from trellis.components.errors import InputError
from trellis.components.types import FilePath
from trellis.components.urls import file_system, is_url, unreadable

COMPRESSIONS = (".gz", ".bz2", ".xz")
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
_BLOCK = 1 << 20  # bytes that are read of a URL at a time
_OPENERS: Mapping[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_OTHERS = {b"\x28\xb5\x2f\xfd": "Zstandard", b"PK\x03\x04": "zip"}


def suffix_of(path: FilePath) -> str:
    """Return the suffix of a file's name in lower case, but for that of a compression: `.csv` of `train.CSV.gz`."""
    name = Path(str(path).partition("?")[0] if is_url(path) else path).name
    return Path(without_compression(name)).suffix.lower()


def without_compression(name: str) -> str:
    """Return a name without the suffix of a compression."""
    return next((name.removesuffix(suffix) for suffix in COMPRESSIONS if name.endswith(suffix)), name)


@contextlib.contextmanager
def open_file(path: FilePath) -> Iterator[IO[bytes]]:
    """Open a file to read its bytes, uncompressed: gzip, bzip2 and xz, recognized by the content.

    The file is opened once: what is read from a pipe, such as `<(command)`, is gone.

    Args:
        path: a file, or a URL of a file system that `fsspec` knows.

    Raises:
        InputError: the file cannot be opened, or is an archive.
    """
    try:
        stored = open_remote(path) if is_url(path) else open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(unreadable(path, error)) from None
    with stored:
        begin = stored.peek(6)
        for magic, name in _OTHERS.items():
            if begin.startswith(magic):
                raise InputError(f"{path}: {name} is not read; compress with gzip, bzip2 or xz, or not at all")
        opener = next((opener for magic, opener in _OPENERS.items() if begin.startswith(magic)), None)
        if opener is None:
            yield stored
        else:
            with opener(stored) as uncompressed:
                yield uncompressed


# URLs


def open_remote(url: object) -> io.BufferedReader:
    """Open what a URL names, with its bytes as they are stored."""
    with file_system(str(url)) as (files, path):
        return io.BufferedReader(files.open(path, "rb"), _BLOCK)


def matching_urls(pattern: str) -> list[str]:
    """Return the URLs of the files that match a pattern, sorted; of a URL without wildcards, itself if it exists."""
    # In an address of the web, a question mark begins the query.
    wildcards = "*" if pattern.startswith("http") else "*?["
    with file_system(pattern) as (files, path):
        found = files.glob(path) if any(sign in path for sign in wildcards) else [path]
        return sorted(files.unstrip_protocol(name) for name in found if files.isfile(name))


def identity_of_url(url: str) -> str:
    """Return what changes when the file behind a URL does, as far as its server says."""
    with file_system(url) as (files, path):
        information = files.info(path)
    stamps = ("size", "ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "created")
    return " ".join([url, *(f"{name}={information[name]}" for name in stamps if information.get(name))])


def size_of(path: FilePath) -> int:
    """Return the stored size of a file in bytes; 0 if it cannot be told."""
    if not is_url(path):
        return os.stat(path).st_size
    with file_system(str(path)) as (files, name):
        return int(files.info(name).get("size") or 0)
