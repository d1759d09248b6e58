"""What a part of a dataset is read from: a file, a folder, a URL, or several files one after the other."""

import glob
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from trellis.components.errors import InputError
from trellis.components.readers.opening import COMPRESSIONS, identity_of_url, matching_urls, without_compression
from trellis.components.types import FilePath
from trellis.components.urls import is_url

# The choice of `data` for files of the user's own, by their suffix.
READ_BY = {
    ".ann": "annotated",
    ".conll": "conll",
    ".conllu": "conllu",
    ".csv": "labelled",
    ".json": "annotated",
    ".jsonl": "annotated",
    ".parquet": "annotated",
    ".source": "bitext",
    ".tsv": "labelled",
}


@dataclass(frozen=True)
class SeveralFiles:
    """Files that are read one after the other, as one part.

    Attributes:
        files: at least two.
    """

    files: tuple[FilePath, ...]

    def __str__(self) -> str:
        return f"{self.files[0]} and {len(self.files) - 1} more"


Source: TypeAlias = FilePath | SeveralFiles
Names: TypeAlias = str | Sequence[str]  # of files, patterns or URLs, as a configuration has them


def files_of(source: Source) -> tuple[FilePath, ...]:
    """Return the files of a source, in order; a folder is returned as it is."""
    return source.files if isinstance(source, SeveralFiles) else (source,)


def as_source(files: Sequence[FilePath]) -> Source:
    """Return files as one source."""
    return files[0] if len(files) == 1 else SeveralFiles(tuple(files))


def find(names: Names | Path, folder: Path | None = None) -> Source:
    """Return the files that names stand for.

    Args:
        names: a file, with or without the suffix of a compression; a folder; a pattern such as `part-*.txt`, whose
            files are sorted; a URL, which may be such a pattern; or a list of these, whose order stays.
        folder: where files with relative names are; None: the working folder.

    Raises:
        InputError: there is no such file, or none matches a pattern; the message says what the folder holds.
    """
    if not isinstance(names, str | Path):
        if not names:
            raise InputError("data: a list of files is empty")
        return as_source([file for name in names for file in files_of(find(name, folder))])
    if is_url(names):
        found = matching_urls(str(names))
        if not found:
            raise InputError(f"{names}: no such file")
        return as_source(found)
    path = (folder or Path()) / str(names)
    if path.is_dir():
        return path
    file = variant(path)
    if file is not None:
        return file
    if path.exists():  # a pipe
        return path
    if not is_pattern(path):
        raise InputError(f"{path}: no such file")
    matching = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    if not matching:
        raise InputError(f"{path}: no file matches; {_contents_above(path)}")
    return as_source(matching)


def is_pattern(path: object) -> bool:
    """Return whether a path has wildcards, and is not the name of a file that exists."""
    return isinstance(path, str | Path) and glob.has_magic(str(path)) and not Path(str(path)).exists()


def names_files(path: object) -> bool:
    """Return whether a setting names files by a list, a pattern or a URL, rather than one file or folder."""
    return isinstance(path, list | tuple) or is_url(path) or is_pattern(path)


def variant(file: Path) -> Path | None:
    """Return the file as named, or with the suffix of a compression added or removed, whichever exists."""
    plain = without_compression(file.name)
    names = [file.name, *(plain + suffix for suffix in COMPRESSIONS), plain]
    return next((file.with_name(name) for name in names if name and file.with_name(name).is_file()), None)


def contents(folder: Path) -> str:
    """Return what a folder holds, and which `data=` would read it, for messages."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    suffixes = {suffix for entry in entries for suffix in entry.suffixes if entry.is_file()}
    choices = sorted({choice for suffix, choice in READ_BY.items() if suffix in suffixes})
    return f"the folder has {shown or 'no files'}" + (f" (read by data={' or data='.join(choices)})" if choices else "")


def _contents_above(pattern: Path) -> str:
    """Return what the innermost folder holds that a pattern names without wildcards."""
    folder = next(parent for parent in pattern.parents if not glob.has_magic(str(parent)))
    return contents(folder) if folder.is_dir() else f"there is no folder {folder}"


def address(source: Source) -> str:
    """Return the URL of a source, or of its first file."""
    first = files_of(source)[0]
    return str(first) if is_url(first) else Path(first).absolute().as_uri()


def digest(source: Source) -> bytes:
    """Return the sha256 hash of a source: that of a file's bytes, or of the hashes of several files in order.

    Files behind URLs are not read again: their size and the stamps of their server stand for them.
    """
    hashes = list(_hashes(source))
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(b"".join(hashes)).digest()


def _hashes(source: Source) -> Iterator[bytes]:
    for path in files_of(source):
        if is_url(path):
            yield hashlib.sha256(identity_of_url(str(path)).encode()).digest()
        elif Path(path).is_file():
            with open(path, "rb") as file:
                yield hashlib.file_digest(file, "sha256").digest()
