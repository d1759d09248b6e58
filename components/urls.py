"""URLs of files on other machines, through `fsspec`, which the extra `remote` installs."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from trellis.components.errors import InputError, first_line
from trellis.components.types import FilePath

REMOTE = "trellis-sequence[remote]"
_URL = re.compile(r"[a-z][a-z0-9+.-]+://")


def is_url(path: object) -> bool:
    """Return whether a path is a URL such as `s3://bucket/train.txt`; `package://` is none."""
    return isinstance(path, str) and bool(_URL.match(path)) and not path.startswith("package://")


def unreadable(path: FilePath, error: BaseException) -> str:
    """Return the message for a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such file"
    return f"{path}: cannot be read ({reason(error)})"


def reason(error: BaseException) -> str:
    """Return what an operating system or a file system says about an error."""
    return str(getattr(error, "strerror", None) or first_line(error))


@contextlib.contextmanager
def file_system(url: str) -> Iterator[tuple[Any, str]]:
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
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{url}: {first_line(error)}; pip install '{REMOTE}'") from None
    except Exception as error:
        raise InputError(unreadable(url, error)) from None
