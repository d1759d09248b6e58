"""Files that are there whole or not at all."""

import contextlib
import os


@contextlib.contextmanager
def atomic_write(path, shared=False):
    """A path beside `path` to write to: it takes its place at the end, and goes where something fails.

    Args:
        shared: several processes may write the file at a time. Otherwise what a killed one left is written over.
    """
    part = path.with_name(f".part-{os.getpid()}-{path.name}" if shared else f".part-{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
