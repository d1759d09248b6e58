"""Lines of a text file, split where the format says and nowhere else."""

import gzip
import zlib

from trellis.components.errors import InputError


def read_lines(path):
    """Yields `(number, line)` of a UTF-8 file, plain or gzip (recognised by its content).

    Lines end in `\\n` or `\\r\\n`; other characters that Python's `splitlines` takes for line ends are ordinary text.

    Raises:
        InputError: the file is missing or unreadable, or a line is not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if compressed else open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                try:
                    yield number, line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{path}:{number}: not UTF-8 (byte 0x{line[error.start]:02x} at column {error.start + 1}); "
                        "convert the file to UTF-8"
                    ) from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def is_blank(line):
    """Whether a line holds only ASCII white space; a line of U+3000, say, is a token."""
    return not line.strip(" \t\r\f\v")
