"""Rows of tables: lines split at tabs, and CSV."""

import csv
import sys
from collections.abc import Iterable, Iterator

from trellis.components.errors import InputError
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.types import FilePath


def tsv_rows(path: FilePath, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Yield `(line number, cells)` of each line that is not blank, split at tabs."""
    return ((line_number, line.split("\t")) for line_number, line in read_lines(path, encoding) if not is_blank(line))


def csv_rows(path: FilePath, encoding: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield `(line number, cells)` of each row that has cells, quoted as in CSV files; a row may span several lines.

    Raises:
        InputError: a row is not CSV; names the file and line.
    """
    former = csv.field_size_limit(sys.maxsize)
    lines = (line + "\n" for _, line in read_lines(path, encoding))
    first_line = 1
    try:
        reader = csv.reader(lines, delimiter=separator, strict=True)
        for row in reader:
            if row:
                yield first_line, row
            first_line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{first_line}: not CSV ({error})") from None
    finally:
        csv.field_size_limit(former)


def shown(names: Iterable[str]) -> str:
    """Return names of columns for a message, shortened: they may be texts."""
    names = list(names)
    short = [" ".join(name[:31].split()) for name in names[:8]]
    short = [name if len(name) <= 30 else f"{name[:27]}…" for name in short]
    return (", ".join(short) + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "none"
