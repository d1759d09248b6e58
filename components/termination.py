"""Ending on SIGTERM where it is safe: at the next step, not inside of whatever the main thread happens to be doing.

An exception raised by a signal handler may surface in a callback of native code or in a finalizer, which lose it or
abort the process. So the handler only takes a note, which `check` reads.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STATUS = 143  # 128 + SIGTERM
GRACE = 20.0  # seconds that a block is given to come to its next check


class Terminated(BaseException):
    """SIGTERM was received."""


class _Request:
    """What a block knows about the signals that it received."""

    def __init__(self, too_late: Callable[[], None]) -> None:
        self.received = False
        self._timer = threading.Timer(GRACE, self._end)
        self._timer.daemon = True
        self._too_late = too_late

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: note the first one; end the process at the second one."""
        del number, frame
        if self.received:
            os._exit(STATUS)
        self.received = True
        self._timer.start()

    def cancel(self) -> None:
        """Let the block end by itself."""
        self._timer.cancel()

    def _end(self) -> None:
        try:
            self._too_late()
        finally:
            os._exit(STATUS)


_request: _Request | None = None


def check() -> None:
    """Raise Terminated if the block of `deferred` around this received SIGTERM; in the main thread alone."""
    if _request is not None and _request.received and threading.current_thread() is threading.main_thread():
        _request.cancel()
        raise Terminated


@contextlib.contextmanager
def deferred(too_late: Callable[[], None] = lambda: None) -> Iterator[None]:
    """In this block, SIGTERM makes the next `check` raise Terminated, and a second SIGTERM ends the process at once.

    Outside of the main thread, where signals cannot be handled, do nothing.

    Args:
        too_late: called, in another thread, if no check comes soon; the process ends with status 143 after it.
    """
    global _request
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former_request, _request = _request, _Request(too_late)
    former_handler = signal.signal(signal.SIGTERM, _request.take)
    try:
        yield
    finally:
        _request.cancel()
        signal.signal(signal.SIGTERM, former_handler)
        _request = former_request


def end_at_once() -> None:
    """Let SIGTERM end this process with status 143, until a block defers it: there is nothing to be saved yet."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: os._exit(STATUS))
