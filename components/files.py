"""Atomic file writes."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from trellis.components.errors import InputError


@contextlib.contextmanager
def atomic_write(path: Path, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` on success, delete it if the block raises.

    Args:
        path: the file to write.
        shared: let several processes and threads write the file at the same time. Otherwise the temporary path has a
            fixed name, so that whatever a killed process left is overwritten.
    """
    writer = f"{os.getpid()}-{threading.get_ident()}-" if shared else ""
    part = path.with_name(f".part-{writer}{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def require_writable(folder: Path, key: str) -> None:
    """Check that files can be written to a folder, which need not exist; leave nothing behind.

    Args:
        key: the key of the configuration that names the folder.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is not a folder")
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(2**16))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"{key}={folder}: cannot be written to ({error.strerror or error})") from None
