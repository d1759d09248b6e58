"""Files that are there whole or not at all."""

import contextlib
import os


@contextlib.contextmanager
def written_whole(path):
    """A path beside `path` to write to: it takes its place at the end, and goes where something fails."""
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
