"""Rows of Parquet files, as the library `datasets` of Hugging Face writes them."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trellis.components.errors import InputError
from trellis.components.readers.opening import READ_ERRORS, open_remote, suffix_of
from trellis.components.types import FilePath
from trellis.components.urls import is_url, unreadable

METADATA = b"huggingface"  # of the schema of a Parquet file
_ROWS = 1024  # read at a time


def is_named_parquet(path: FilePath) -> bool:
    """Return whether a file is Parquet, by its name."""
    return suffix_of(path) == ".parquet"


@contextlib.contextmanager
def open_parquet(path: FilePath) -> Iterator[Any]:
    """Open a Parquet file or URL as a `pyarrow.parquet.ParquetFile`.

    Raises:
        InputError: pyarrow is not installed, or the file cannot be read, now or while the block reads it.
    """
    pyarrow = import_pyarrow()
    try:
        with open_remote(path) if is_url(path) else open(path, "rb") as stored:
            yield pyarrow.parquet.ParquetFile(stored)
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    except READ_ERRORS as error:
        raise InputError(unreadable(path, error)) from None


def import_pyarrow() -> Any:
    """Return the module `pyarrow`.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise InputError("Parquet: pyarrow is not installed; pip install 'trellis-sequence[train]'") from None
    return pyarrow


def features_of(schema: Any) -> Mapping[str, Any]:
    """Return what `datasets` says about the columns of a schema; nothing if another program wrote it."""
    metadata = (schema.metadata or {}).get(METADATA)
    try:
        features = json.loads(metadata)["info"]["features"] if metadata else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def rows(path: FilePath) -> Iterator[tuple[int, list[str]]]:
    """Yield `(row number, cells)` of a Parquet file as text: first `(0, names of columns)`, then rows from 1.

    Classes that are numbers get their names, if the file has them.
    """
    with open_parquet(path) as file:
        columns = list(file.schema_arrow.names)
        features = features_of(file.schema_arrow)
        names = [feature.get("names") if isinstance(feature := features.get(name), dict) else None for name in columns]
        yield 0, columns
        number = 0
        for batch in file.iter_batches(_ROWS):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                yield number, [_cell(value, classes) for value, classes in zip(row, names, strict=True)]


def _cell(value: Any, classes: Sequence[str] | None) -> str:
    if classes and isinstance(value, int) and 0 <= value < len(classes):
        return str(classes[value])
    return "" if value is None else str(value)


def column(path: FilePath, name: str) -> Iterator[tuple[int, str]]:
    """Yield `(row number, text)` of a column of texts, streamed.

    Raises:
        InputError: there is no such column, or it has no texts.
    """
    with open_parquet(path) as file:
        if name not in file.schema_arrow.names:
            has = ", ".join(file.schema_arrow.names)
            raise InputError(f"{path}: no column {name!r}; it has {has} (data.column names the text)")
        number = 0
        for batch in file.iter_batches(_ROWS, columns=[name]):
            for value in batch.column(0).to_pylist():
                number += 1
                if not isinstance(value, str | None):
                    raise InputError(f"{path}: row {number}: {name} is no text")
                yield number, value or ""
