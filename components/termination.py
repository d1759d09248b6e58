"""Ending on SIGTERM where it is safe: at the next step, not inside of whatever the main thread happens to be doing.

An exception raised by a signal handler may surface in a callback of native code or in a finalizer, which lose it or
abort the process. So the handler only takes a note, which `check` reads.
"""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

STATUS = 143  # 128 + SIGTERM
GRACE = 20.0  # seconds that a block is given to come to its next check


class Terminated(BaseException):
    """SIGTERM was received."""


class _Request:
    """The signals that a block receives, watched by a thread: the main one may be in native code for long."""

    def __init__(self, too_late: Callable[[], None]) -> None:
        self.received = self.heeded = False
        self._too_late = too_late
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._former = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def take(self, number: int, frame: FrameType | None) -> None:
        """Note a signal."""
        del number, frame
        self.received = True

    def _watch(self) -> None:
        """End the process at the second signal, or when the first one is not heeded in time."""
        deadline: float | None = None
        while True:
            left = None if deadline is None or self.heeded else max(0.0, deadline - time.monotonic())
            if not select.select([self._read], [], [], left)[0]:
                if not self.heeded:
                    try:
                        self._too_late()
                    finally:
                        os._exit(STATUS)
                continue
            for number in os.read(self._read, 64):
                if number == 0:
                    return
                if number == signal.SIGTERM:
                    if deadline is not None:
                        os._exit(STATUS)
                    self.received, deadline = True, time.monotonic() + GRACE

    def close(self) -> None:
        """Watch no longer."""
        signal.set_wakeup_fd(self._former)
        os.write(self._write, b"\0")
        self._thread.join()
        os.close(self._read)
        os.close(self._write)


_request: _Request | None = None


def check() -> None:
    """Raise Terminated if the block of `deferred` around this received SIGTERM; in the main thread alone."""
    if _request is not None and _request.received and threading.current_thread() is threading.main_thread():
        _request.heeded = True
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
        signal.signal(signal.SIGTERM, former_handler)
        _request.close()
        _request = former_request


def end_at_once() -> None:
    """Let SIGTERM end this process with status 143, until a block defers it: there is nothing to be saved yet."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: os._exit(STATUS))
