"""A cache on disk: folders that are written once, by whichever run comes first, and used by all later ones."""

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from trellis.components import termination
from trellis.components.errors import InputError, first_line
from trellis.components.files import folder_aside

log = logging.getLogger(__name__)

KEY = "text.cache"  # names the folder in the configuration
_ASIDE = ".part-"
_SHOWN_EVERY = 15.0  # seconds between lines of the log
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError)
Content = TypeVar("Content")


class Progress:
    """Says in the log how far the writing of an entry is.

    Args:
        source: what is written, for messages.
        entry: where it will be.
        unit: what is counted.
    """

    def __init__(self, source: object, entry: Path, unit: str) -> None:
        self._source, self._unit = source, unit
        self._began = self._shown = time.perf_counter()
        log.info("writing the %s of %s to %s; later runs find them there", unit, source, entry)

    def reached(self, count: int) -> None:
        """Note how many units have been written; end here if the process is to end."""
        termination.check()
        if time.perf_counter() - self._shown > _SHOWN_EVERY:
            self._shown = time.perf_counter()
            log.info("%s: %s %s so far", self._source, f"{count:,}", self._unit)

    def done(self, count: int) -> None:
        """Note how many units there are."""
        seconds = time.perf_counter() - self._began
        log.info("%s %s in %.0f s, %s a second", f"{count:,}", self._unit, seconds, f"{count / seconds:,.0f}")


def default_folder() -> Path:
    """Return where entries are kept unless the configuration says so: beside downloaded datasets."""
    return Path(os.environ.get("TRELLIS_CACHE", Path.home() / ".cache" / "trellis")) / "tokens"


def kept(entry: Path, load: Callable[[Path], Content], write: Callable[[Path], object]) -> Content:
    """Return an entry of a cache, after writing it there if it is not.

    Several processes may do this at the same time: each writes aside, and the first one that is done puts its folder in
    place. A damaged entry is replaced.

    Args:
        entry: the folder.
        load: reads it; raises OSError, ValueError, KeyError, TypeError or AttributeError if it is damaged.
        write: writes a folder, which does not exist yet.

    Raises:
        InputError: the folder cannot be written to; or by `write`.
    """
    if entry.exists():
        try:
            return load(entry)
        except _DAMAGED as error:
            log.warning("%s: damaged, or written by something else (%s); writing it again", entry, first_line(error))
    try:
        aside = folder_aside(entry.parent, _ASIDE)
    except OSError as error:
        raise InputError(f"{KEY}={entry.parent}: cannot be written to ({error.strerror or error})") from None
    try:
        write(aside / "new")
        if entry.exists():
            with contextlib.suppress(*_DAMAGED):
                return load(entry)  # another process was faster
            os.rename(entry, aside / "damaged")
        with contextlib.suppress(OSError):
            os.rename(aside / "new", entry)
        return load(entry)
    except OSError as error:
        raise InputError(f"{KEY}={entry.parent}: cannot be written to ({error.strerror or error})") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
