"""Keep native start-up messages and library chatter off the terminal."""

import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TextIO


def silence_retracing() -> None:
    """Drop TensorFlow's warning that a function is traced often: every run of a sweep traces its own."""

    def is_other(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in str(record.msg)

    logging.getLogger("tensorflow").addFilter(is_other)


class _Diverted(io.TextIOBase):
    """A stream that diverts text to a file until it is released: loggers set up meanwhile keep the stream for good."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self.stream, self.file = stream, file

    def release(self) -> None:
        self.file.flush()
        self.file = self.stream

    def write(self, text: str) -> int:
        return self.file.write(text)

    def flush(self) -> None:
        self.file.flush()

    def fileno(self) -> int:
        return self.file.fileno()

    def isatty(self) -> bool:
        return self.file.isatty()


@contextlib.contextmanager
def captured_stderr() -> Iterator[None]:
    """Capture standard error, including output from native code; replay it if the block raises."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            # `sys.stderr` need not write to descriptor 2: a live display puts its own stream there.
            with open(captured.fileno(), "w", closefd=False) as file:
                diverted = _Diverted(sys.stderr, file)
                with contextlib.redirect_stderr(diverted):
                    try:
                        yield
                    finally:
                        diverted.release()
        except BaseException:
            os.dup2(terminal, 2)
            captured.seek(0)
            os.write(2, captured.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
