"""Atomic file writes."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: Path, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` on success, delete it if the block raises.

    Args:
        path: the file to write.
        shared: let several processes write the file at the same time. Otherwise the temporary path has a fixed name,
            so that whatever a killed process left is overwritten.
    """
    part = path.with_name(f".part-{os.getpid()}-{path.name}" if shared else f".part-{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
