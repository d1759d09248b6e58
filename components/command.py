"""Commands: a parser whose errors are one line, types of arguments, and the exit status."""

import argparse
import errno
import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from trellis.components.errors import InputError, nearest

# What the user can mend: a full disk, a quota, permissions, a read-only file system.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)

Number = TypeVar("Number", int, float)


class CommandParser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, with the nearest valid option, and exits with status 2.

    Args:
        program: the command, as in `trellis predict`.
        description: the help page; its line breaks are kept.
    """

    def __init__(self, program: str, description: str | None) -> None:
        escape_what_streams_cannot_encode()
        super().__init__(
            prog=program,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        """Return the parsed arguments; exit with status 2 if one is unknown."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return options

    def _unknown(self, argument: str) -> str:
        if not argument.startswith("-"):
            return f"{argument}: one argument too many; quote a text that has spaces"
        name = argument.partition("=")[0]
        options = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        endings = [option for option in options if option.endswith(f"-{name.lstrip('-')}")]
        meant = " or ".join(endings) or nearest(name, options)
        return f"{name}: no such option (did you mean {meant}?)"

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        print(f"{self.prog}: error: {message.removeprefix('argument ')}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def run_command(
    parser: CommandParser, command: Callable[[argparse.Namespace], object], options: argparse.Namespace
) -> int:
    """Run a command and return its exit status.

    Args:
        parser: its parser, for its name.
        command: takes the options; raises `InputError` for mistakes of the user.
        options: the parsed command line.
    """
    try:
        command(options)
        sys.stdout.flush()
    except InputError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        discard_output()  # the reader has closed the pipe, as `head` does
    except OSError as error:
        if error.filename is not None or error.errno not in DISK_ERRORS:
            raise
        discard_output()
        print(f"{parser.prog}: error: standard output: cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    return 0


def discard_output() -> None:
    """Send standard output nowhere: Python would fail again when it flushes what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def escape_what_streams_cannot_encode() -> None:
    """Write `\\u2026` for a character that the encoding of the terminal or of PYTHONIOENCODING does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


# Types of arguments


def _bounded(kind: type[Number], holds: Callable[[Number], bool], meaning: str) -> Callable[[str], Number]:
    def parse(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not holds(value):
            raise argparse.ArgumentTypeError(f"{text!r} must be {meaning}")
        return value

    return parse


non_negative_int = _bounded(int, lambda value: value >= 0, "a whole number of at least 0")
positive_int = _bounded(int, lambda value: value >= 1, "a whole number of at least 1")
non_negative_float = _bounded(float, lambda value: 0 <= value < math.inf, "a number of at least 0")
positive_float = _bounded(float, lambda value: 0 < value < math.inf, "a number above 0")
probability = _bounded(float, lambda value: 0 < value <= 1, "a number above 0 and at most 1")
port = _bounded(int, lambda value: 0 <= value <= 65535, "a port from 0 to 65535")
