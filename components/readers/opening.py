"""Open the files of datasets: local ones, compressed or not, and URLs."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from trellis.components.errors import InputError, first_line
from trellis.components.types import FilePath

COMPRESSIONS = (".gz", ".bz2", ".xz")
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
REMOTE = "trellis-sequence[remote]"
_BLOCK = 1 << 20  # bytes that are read of a URL at a time
_URL = re.compile(r"[a-z][a-z0-9+.-]+://")
_OPENERS: Mapping[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_OTHERS = {b"\x28\xb5\x2f\xfd": "Zstandard", b"PK\x03\x04": "zip"}


def is_url(path: object) -> bool:
    """Return whether a path is a URL such as `s3://bucket/train.txt`; `package://` is none."""
    return isinstance(path, str) and bool(_URL.match(path)) and not path.startswith("package://")


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


def unreadable(path: FilePath, error: BaseException) -> str:
    """Return the message for a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such file"
    reason = getattr(error, "strerror", None) or first_line(error)
    return f"{path}: cannot be read ({reason})"


# URLs


def open_remote(url: object) -> io.BufferedReader:
    """Open what a URL names, with its bytes as they are stored."""
    with _file_system(str(url)) as (file_system, path):
        return io.BufferedReader(file_system.open(path, "rb"), _BLOCK)


def matching_urls(pattern: str) -> list[str]:
    """Return the URLs of the files that match a pattern, sorted; of a URL without wildcards, itself if it exists."""
    # In an address of the web, a question mark begins the query.
    wildcards = "*" if pattern.startswith("http") else "*?["
    with _file_system(pattern) as (file_system, path):
        found = file_system.glob(path) if any(sign in path for sign in wildcards) else [path]
        return sorted(file_system.unstrip_protocol(name) for name in found if file_system.isfile(name))


def identity_of_url(url: str) -> str:
    """Return what changes when the file behind a URL does, as far as its server says."""
    with _file_system(url) as (file_system, path):
        information = file_system.info(path)
    stamps = ("size", "ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "created")
    return " ".join([url, *(f"{name}={information[name]}" for name in stamps if information.get(name))])


def size_of(path: FilePath) -> int:
    """Return the stored size of a file in bytes; 0 if it cannot be told."""
    if not is_url(path):
        return os.stat(path).st_size
    with _file_system(str(path)) as (file_system, name):
        return int(file_system.info(name).get("size") or 0)


@contextlib.contextmanager
def _file_system(url: str) -> Iterator[tuple[Any, str]]:
    """Yield the file system of a URL, and the path in it.

    Raises:
        InputError: a package is missing, or the file system raises an error of any kind: clients have their own.
    """
    try:
        import fsspec
    except ModuleNotFoundError:
        raise InputError(f"{url}: fsspec is not installed; pip install '{REMOTE}'") from None
    try:
        yield fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise InputError(f"{url}: {first_line(error)}; pip install '{REMOTE}'") from None
    except Exception as error:
        raise InputError(unreadable(url, error)) from None
