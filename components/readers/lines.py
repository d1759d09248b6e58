"""Lines of a text file, split where the format says and nowhere else."""

import codecs
import contextlib
import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from trellis.components.errors import InputError
from trellis.components.types import FilePath


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
    """Yield `(line number, line)` of a text file, plain or gzip (recognised by its content).

    Lines end in `\\n` or `\\r\\n`; other characters that Python's `splitlines` treats as line ends are ordinary text.

    Args:
        encoding: a codec in which a line feed is the byte 0x0A, such as `utf-8`, `latin-1` or `cp1252`.

    Raises:
        InputError: the file is missing or unreadable, or a line is not in this encoding.
    """
    name = _encoding(encoding)
    budget = _budget.get()
    if budget and budget.total <= 0:
        budget.cut.append(str(path))
        return
    try:
        # Opened once: what is read from a pipe, such as `<(command)`, is gone.
        with open(path, "rb") as stored:
            compressed = stored.peek(2)[:2] == b"\x1f\x8b"
            lines: Iterable[bytes] = gzip.GzipFile(fileobj=stored) if compressed else stored
            for line_number, line in enumerate(lines, 1):
                if budget:
                    budget.total -= 1
                    if line_number > budget.per_file or budget.total < 0:
                        budget.cut.append(str(path))
                        return
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
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


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
