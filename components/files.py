"""Atomic file writes."""

import contextlib
import glob
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from trellis.components.errors import InputError
from trellis.components.processes import is_alive


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


def folder_aside(folder: Path, prefix: str) -> Path:
    """Make an empty folder to write into before it is renamed; remove those of processes that were killed.

    Args:
        folder: where to make it; need not exist.
        prefix: the beginning of its name; the machine and the process follow.
    """
    folder.mkdir(parents=True, exist_ok=True)
    of_machine = f"{prefix}{socket.gethostname()}-"
    for aside in folder.glob(f"{glob.escape(of_machine)}*-*"):
        process = aside.name.rsplit("-", 2)[1]
        if process.isdigit() and not is_alive(int(process)):
            shutil.rmtree(aside, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{of_machine}{os.getpid()}-", dir=folder))


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
