"""Lines of a text file, split where the format says and nowhere else."""

import codecs
import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from trellis.components.errors import InputError
from trellis.components.readers.opening import READ_ERRORS, open_file
from trellis.components.types import FilePath
from trellis.components.urls import is_url, unreadable

Row = TypeVar("Row")


@dataclass
class _Budget:
    per_file: int
    total: int
    cut: list[str] = field(default_factory=list)


_budget: ContextVar[_Budget | None] = ContextVar("budget", default=None)


@contextlib.contextmanager
def first_lines(per_file: int, total: int) -> Iterator[list[str]]:
    """Read no more than the first lines of files within the block; yield the names of files that have more."""
    budget = _Budget(per_file, total)
    token = _budget.set(budget)
    try:
        yield budget.cut
    finally:
        _budget.reset(token)


def read_lines(path: FilePath, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield `(line number, line)` of a text file, plain or compressed (recognized by its content), or of a URL.

    Lines end in `\\n` or `\\r\\n`; other characters that Python's `splitlines` treats as line ends are ordinary text.

    Args:
        encoding: a codec in which a line feed is the byte 0x0A, such as `utf-8`, `latin-1` or `cp1252`.

    Raises:
        InputError: the file is missing or unreadable, or a line is not in this encoding.
    """
    name = _encoding(encoding)
    try:
        with open_file(path) as file:
            for line_number, line in within_budget(path, enumerate(file, 1)):
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                if line_number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                try:
                    yield line_number, line.decode(encoding)
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{path}:{line_number}: not {name} (byte 0x{line[error.start]:02x} at column "
                        f"{error.start + 1}); convert the file to UTF-8"
                    ) from None
    except READ_ERRORS as error:
        raise InputError(unreadable(path, error)) from None
    except Exception as error:
        if isinstance(error, InputError) or not is_url(path):
            raise
        raise InputError(unreadable(path, error)) from None  # clients of file systems have errors of their own


def within_budget(path: FilePath, rows: Iterable[tuple[int, Row]]) -> Iterable[tuple[int, Row]]:
    """Return the numbered lines or rows of a file, cut as `first_lines` says if they are read within such a block."""
    budget = _budget.get()
    return rows if budget is None else _cut(budget, path, rows)


def _cut(budget: _Budget, path: FilePath, rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
    for number, row in rows:
        budget.total -= 1
        if number > budget.per_file or budget.total < 0:
            budget.cut.append(str(path))
            return
        yield number, row


def _encoding(encoding: str) -> str:
    """Return the usual name of an encoding.

    Raises:
        InputError: there is no such encoding, or lines cannot be told before decoding it.
    """
    try:
        if "\n".encode(encoding) == b"\n":
            return "UTF-8" if codecs.lookup(encoding).name == "utf-8" else encoding
    except (LookupError, UnicodeError):
        raise InputError(f"data.encoding={encoding}: no such encoding; such as utf-8, latin-1, cp1252") from None
    raise InputError(f"data.encoding={encoding}: convert the files to UTF-8")


def is_blank(line: str) -> bool:
    """Return whether a line holds only ASCII white space; a line of U+3000, say, is a token."""
    return not line.strip(" \t\r\f\v")
