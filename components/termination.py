"""Ending on SIGTERM or SIGINT where it is safe: at the next step, not inside of what the main thread happens to do.

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
from typing import NoReturn

SIGNALS = {signal.SIGTERM: "terminated", signal.SIGINT: "interrupted"}
GRACE = 20.0  # seconds that a block is given to come to its next check
LAST = 2.0  # seconds for what is still done after a second signal


class Terminated(BaseException):
    """A signal was received.

    Attributes:
        word: `terminated` or `interrupted`.
        status: the exit status, as that of a process that the signal ends.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.word, self.status = SIGNALS[signal.Signals(number)], status(number)


def status(number: int) -> int:
    """Return the exit status of a process that a signal ends."""
    return 128 + number


class _Request:
    """The signals that a block receives, watched by a thread: the main one may be in native code for long."""

    def __init__(self, too_late: Callable[[], None]) -> None:
        self.received: int | None = None
        self.heeded = False
        self._too_late = too_late
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._former = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def take(self, number: int, frame: FrameType | None) -> None:
        """Note a signal."""
        del frame
        self.received = number

    def _watch(self) -> None:
        """End the process at the second signal, or when the first one is not heeded in time."""
        deadline: float | None = None
        while True:
            left = None if deadline is None or self.heeded else max(0.0, deadline - time.monotonic())
            if not select.select([self._read], [], [], left)[0]:
                if not self.heeded:
                    self._end(GRACE)
                continue
            for number in os.read(self._read, 64):
                if number == 0:
                    return
                if number in set(SIGNALS):
                    if deadline is not None:
                        self._end(LAST)
                    self.received, deadline = number, time.monotonic() + GRACE

    def _end(self, seconds: float) -> NoReturn:
        """End the process, after what is to be done before if it does not take longer than that."""
        last = threading.Thread(target=self._too_late, daemon=True)
        last.start()
        last.join(seconds)
        os._exit(status(self.received or signal.SIGTERM))

    def close(self) -> None:
        """Watch no longer."""
        signal.set_wakeup_fd(self._former)
        os.write(self._write, b"\0")
        self._thread.join()
        os.close(self._read)
        os.close(self._write)


_request: _Request | None = None


def check() -> None:
    """Raise Terminated if the block of `deferred` around this received a signal; in the main thread alone."""
    if _request is not None and _request.received and threading.current_thread() is threading.main_thread():
        _request.heeded = True
        raise Terminated(_request.received)


@contextlib.contextmanager
def deferred(too_late: Callable[[], None] = lambda: None) -> Iterator[None]:
    """In this block, SIGTERM or SIGINT makes the next `check` raise Terminated, and a second one ends the process.

    Outside of the main thread, where signals cannot be handled, do nothing.

    Args:
        too_late: called, in another thread, if no check comes soon or a second signal comes; the process ends after it.
    """
    global _request
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former_request, _request = _request, _Request(too_late)
    former_handlers = {number: signal.signal(number, _request.take) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in former_handlers.items():
            signal.signal(number, handler)
        _request.close()
        _request = former_request


def end_at_once() -> None:
    """Let SIGTERM and SIGINT end this process, until a block defers them: there is nothing to be saved yet."""
    if threading.current_thread() is threading.main_thread():
        for each in SIGNALS:
            signal.signal(each, lambda number, _: os._exit(status(number)))
