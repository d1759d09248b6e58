"""Copies of exports on other machines: `s3://bucket/models/NAME/1`, `s3://bucket/models/NAME/2`, …"""

import contextlib
from pathlib import Path
from typing import Any

from trellis.components.errors import InputError
from trellis.components.saved_model.versions import LONGEST_NUMBER
from trellis.components.urls import file_system, reason

_LAST = "saved_model.pb"  # without it, a folder is no version to a server


def check(url: str) -> None:
    """Check that a URL can be listed; it need not exist.

    Raises:
        InputError: a package is missing, or the other side refuses.
    """
    with file_system(url) as (files, folder):
        _next_version(files, folder)


def upload(version: Path, url: str) -> str:
    """Copy a version of an export to a URL, under the next version number there.

    `saved_model.pb` is copied last, so that a server that watches the URL loads no version before it is complete.

    Args:
        version: the folder of the version.
        url: the folder of the model, of which versions are subfolders.

    Returns:
        the URL of the new version.

    Raises:
        InputError: it cannot be written; nothing is left there.
    """
    with file_system(url) as (files, folder):
        target = f"{folder.rstrip('/')}/{_next_version(files, folder)}"
        paths = sorted((path for path in version.rglob("*") if path.is_file()), key=lambda path: path.name == _LAST)
        try:
            for path in paths:
                place = f"{target}/{path.relative_to(version).as_posix()}"
                files.makedirs(place.rpartition("/")[0], exist_ok=True)
                files.put_file(str(path), place)
        except BaseException as error:
            with contextlib.suppress(Exception):
                files.rm(target, recursive=True)
            if not isinstance(error, Exception):
                raise
            raise InputError(f"{url}: cannot be written ({reason(error)}); the export is in {version}") from None
        return str(files.unstrip_protocol(target))


def _next_version(files: Any, folder: str) -> int:
    """Return the number after that of the newest version in a folder of a file system."""
    files.invalidate_cache()
    try:
        entries = [str(path).rstrip("/").rpartition("/")[2] for path in files.ls(folder, detail=False)]
    except FileNotFoundError:
        return 1
    numbers = (name for name in entries if name.isascii() and name.isdigit() and len(name) <= LONGEST_NUMBER)
    return max(map(int, numbers), default=0) + 1
