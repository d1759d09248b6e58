"""Open the files of datasets: local ones, compressed or not, and URLs."""

import bz2
import contextlib
import gzip
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
_URL = re.compile(r"[a-z][a-z0-9+.-]+://")
_OPENERS: Mapping[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_OTHERS = {b"\x28\xb5\x2f\xfd": "Zstandard", b"PK\x03\x04": "zip"}


def is_url(path: object) -> bool:
    """Return whether a path is a URL such as `s3://bucket/train.txt`; `package://` is none."""
    return isinstance(path, str) and bool(_URL.match(path)) and not path.startswith("package://")


def suffix_of(path: FilePath) -> str:
    """Return the suffix of a file's name in lower case, but for that of a compression: `.csv` of `train.CSV.gz`."""
    return Path(without_compression(Path(path).name)).suffix.lower()


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
        begin = _peek(stored)
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


def _peek(stored: Any) -> bytes:
    """Return the first bytes of an open file without moving in it."""
    if hasattr(stored, "peek"):
        return bytes(stored.peek(6)[:6])
    begin = stored.read(6)
    stored.seek(0)
    return bytes(begin)


# URLs


def open_remote(url: object) -> IO[bytes]:
    """Open what a URL names, with its bytes as they are stored."""
    file_system, path = _file_system(str(url))
    try:
        return file_system.open(path, "rb")
    except OSError:
        raise
    except Exception as error:  # clients of clouds have exceptions of their own
        raise InputError(f"{url}: cannot be read ({first_line(error)})") from None


def matching_urls(pattern: str) -> list[str]:
    """Return the URLs of the files that match a pattern, sorted; of a URL without wildcards, itself if it exists."""
    file_system, path = _file_system(pattern)
    try:
        found = file_system.glob(path) if any(sign in path for sign in "*?[") else [path]
        return sorted(file_system.unstrip_protocol(name) for name in found if file_system.isfile(name))
    except Exception as error:
        raise InputError(f"{pattern}: cannot be read ({first_line(error)})") from None


def identity_of_url(url: str) -> str:
    """Return what changes when the file behind a URL does, as far as its server says."""
    file_system, path = _file_system(url)
    information = file_system.info(path)
    stamps = ("size", "ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "created")
    return " ".join([url, *(f"{name}={information[name]}" for name in stamps if information.get(name))])


def size_of(path: FilePath) -> int:
    """Return the stored size of a file in bytes; 0 if it cannot be told."""
    if is_url(path):
        file_system, name = _file_system(str(path))
        return int(file_system.info(name).get("size") or 0)
    return os.stat(path).st_size


def _file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    try:
        import fsspec
    except ModuleNotFoundError:
        raise InputError(f"{url}: fsspec is not installed; pip install '{REMOTE}'") from None
    try:
        file_system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise InputError(f"{url}: {first_line(error)}; pip install '{REMOTE}'") from None
    except Exception as error:
        raise InputError(f"{url}: {first_line(error)}") from None
    return file_system, str(path)
