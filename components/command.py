"""Commands: a parser whose errors are one line, types of arguments, and the exit status."""

import argparse
import contextlib
import errno
import io
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TextIO, TypeVar

from trellis.components.errors import InputError, nearest

# What the user can mend: a full disk, a quota, a limit on files, permissions, a read-only file system.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)

Number = TypeVar("Number", int, float)


class CommandParser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, with the nearest valid option, and exits with status 2.

    Args:
        program: the command, as in `trellis predict`.
        description: the help page; its line breaks are kept.
    """

    def __init__(self, program: str, description: str | None) -> None:
        prepare_streams()
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
        with output(self.prog):
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
        report_error(self.prog, f"{message.removeprefix('argument ')}; see {self.prog} --help")
        raise SystemExit(2)

    def print_help(self, file: Any = None) -> None:
        """Print the help page; unlike `argparse`, raise an OSError if that is not possible."""
        print(self.format_help(), end="", file=file or sys.stdout, flush=True)


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
        with output(parser.prog):
            command(options)
    except InputError as error:
        report_error(parser.prog, error)
        return 2
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


@contextlib.contextmanager
def output(program: str, stop: Callable[[InputError], NoReturn] | None = None) -> Iterator[None]:
    """Write all of standard output by the end of the block, or end the program.

    Args:
        program: the name that errors begin with.
        stop: called with the error, instead of printing it and exiting with status 2.

    Raises:
        SystemExit: status 2, after one line, if standard output or a file cannot be written; status 0 if the reader has
            closed the pipe, as `head` does.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        raise SystemExit(0) from None
    except OSError as error:
        if error.filename is None and error.errno not in DISK_ERRORS:
            raise
        problem = InputError(f"{error.filename}: {error.strerror}")
        if error.filename is None:
            _discard(sys.stdout)
            problem = InputError(f"standard output: cannot be written ({error.strerror})")
        if stop is not None:
            stop(problem)
        report_error(program, problem)
        raise SystemExit(2) from None


def report_error(program: str, error: object) -> None:
    """Print an error in one line to standard error, if that can be written."""
    try:
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Send a stream nowhere: Python would fail again when it flushes what could not be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def prepare_streams() -> None:
    """Let the standard streams take any text in any encoding, and replace those that are closed (`>&-`).

    A character that the encoding does not have, which may be that of PYTHONIOENCODING, is written as `\\u2026`.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            # It takes the descriptor of the stream, the lowest that is free. Otherwise the next file would, and what
            # native code prints would be written into it.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
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
rate = _bounded(float, lambda value: 0 <= value < 1, "a number of at least 0 and below 1")
probability = _bounded(float, lambda value: 0 < value <= 1, "a number above 0 and at most 1")
port = _bounded(int, lambda value: 0 <= value <= 65535, "a port from 0 to 65535")
