"""Find the files of a dataset: at a path, in $TRELLIS_DATA, in the cache, or on the network."""

import gzip
import hashlib
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from trellis.components.errors import InputError, nearest
from trellis.components.files import atomic_write
from trellis.components.readers import sources
from trellis.components.readers.opening import suffix_of
from trellis.components.readers.sources import (
    Names,
    Source,
    contents,
    files_of,
    find,
    is_pattern,
    names_files,
    variant,
)
from trellis.components.types import FilePath
from trellis.components.urls import is_url

PARTS = ("train", "dev", "test")
# What files of each part are called where they are published.
USUAL_NAMES = {
    "train": {"train", "training", "trn"},
    "dev": {"dev", "devel", "development", "valid", "validation", "val", "testa"},
    "test": {"test", "testing", "tst", "testb", "eval"},
}
NO_DATA = {"md", "pdf", "zip", "tar", "tgz", "py", "sh", "html", "png", "npz", "log", "readme", "license"}
PACKAGE = "package://"
TIMEOUT = 30  # seconds without a byte


def locate(
    name: str,
    files: Mapping[str, Names],
    path: FilePath | Sequence[str] | Mapping[str, Names] | None = None,
    download: Mapping[str, Mapping[str, str]] | None = None,
    folder: str | None = None,
) -> dict[str, Source]:
    """Find the file or files of each part of a dataset.

    Looks in this order: `path`, the folder `$TRELLIS_DATA/NAME`, the cache (`$TRELLIS_CACHE`, by default
    `~/.cache/trellis`), the network. Each file may be stored with or without `.gz`, `.bz2` or `.xz`.

    Args:
        name: the name of the dataset.
        files: `{part: file name}`; instead of a name, a pattern or a list, see `sources.find`.
        path: a folder, `{part: file}`, or `package://FOLDER` for a folder of this package. In a folder, the files of
            parts may also have other names that say which part they are, such as `en_ewt-ud-train.conllu`. The URL
            of a folder works too, and so do patterns and lists instead of a file.
        download: `{part: {"url", "sha256", "git_blob"}}`, see `fetch`; None if it cannot be downloaded.
        folder: the folder in `$TRELLIS_DATA` and the cache, if it is not called `name`.

    Returns:
        `{part: source}`.

    Raises:
        InputError: the files are in none of these places; the message lists them all.
    """
    if isinstance(path, Mapping):
        known = list(dict.fromkeys((*files, *PARTS)))
        check_names("data.path", path, known)
        return {part: find(path[part]) for part in known if part in path}
    if is_url(path):
        return {part: find([f"{str(path).rstrip('/')}/{name}" for name in as_list(files[part])]) for part in files}
    if names_files(path):
        parts = ", ".join(f"{part}: …" for part in files)
        raise InputError(f"data.path: {path} names files, but not of which part; data.path={{{parts}}}")
    if path is not None:
        path = str(path)  # a folder such as 2024 is a number on the command line
        if path.startswith(PACKAGE):
            path = Path(__file__).parents[2] / path.removeprefix(PACKAGE)
        if Path(path).is_file():
            choices = f"its folder, {Path(path).parent}, or a file for each part, {{train: FILE, dev: FILE}}"
            raise InputError(f"data.path: {path} is a file; give {choices}")
        if not Path(path).is_dir():
            raise InputError(f"data.path: {path} is not a folder")
        return in_folder(Path(path), files)

    tried = ["data.path (not set)"]
    if "TRELLIS_DATA" in os.environ:
        shared = Path(os.environ["TRELLIS_DATA"]) / (folder or name)
        if shared.is_dir():
            return {part: find(file, shared) for part, file in files.items()}
        tried.append(f"{shared} (no such folder)")
    else:
        tried.append("$TRELLIS_DATA (not set)")
    cache = Path(os.environ.get("TRELLIS_CACHE", Path.home() / ".cache" / "trellis")) / (folder or name)
    cached: dict[str, Source] = {
        part: stored
        for part, file in files.items()
        if isinstance(file, str) and (stored := variant(cache / file)) is not None
    }
    if len(cached) == len(files):
        return cached
    tried.append(f"{cache} (no such files)")
    if not download:
        raise InputError(f"data={name} not found; tried {', '.join(tried)}, and it has no download address")
    try:
        return {
            part: cached[part] if part in cached else fetch(cache / str(file), **download[part])
            for part, file in files.items()
        }
    except OSError as error:
        tried.append(f"{next(iter(download.values()))['url']} ({_reason(error)})")
        raise InputError(f"data={name} not found; tried {', '.join(tried)}") from None


def check_names(key: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Check that every name is a known one.

    Args:
        key: the key of the configuration that has the names.

    Raises:
        InputError: one is not; with the nearest that is.
    """
    for name in names:
        if name not in known:
            raise InputError(f"{key}: there is no {name!r}; did you mean {nearest(name, known)}?")


def in_folder(folder: Path, files: Mapping[str, Names]) -> dict[str, Source]:
    """Return the file of each part in a folder: by its name, else the only file whose name says that it is that part.

    Raises:
        InputError: there is none, or several; the message says what the folder holds and what would read it.
    """
    return {part: _in_folder(folder, part, names) for part, names in files.items()}


def _in_folder(folder: Path, part: str, names: Names) -> Source:
    if not isinstance(names, str) or is_pattern(folder / names):
        return find(names, folder)
    return variant(folder / names) or _by_usual_name(folder, part, names)


def _by_usual_name(folder: Path, part: str, expected: str) -> Path:
    candidates = parts_in(folder, suffix_of(expected)).get(part, [])
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = ", ".join(file.name for file in candidates)
        raise InputError(f"{folder}: several files for the {part} part ({names}); choose: data.path={{{part}: …}}")
    raise InputError(f"{folder / expected}: no such file; {contents(folder)}")


def as_list(names: Names) -> list[str]:
    """Return names as a list."""
    return [names] if isinstance(names, str) else list(names)


def parts_in(folder: Path, suffix: str = "") -> dict[str, list[Path]]:
    """Return the files of a folder whose names say which part they are, `{part: files}`.

    Args:
        suffix: files that end like this are preferred to others.
    """
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        words = set(re.split(r"[^a-z]+", file.name.lower()))
        parts = [part for part, names in USUAL_NAMES.items() if words & names]
        if len(parts) == 1 and file.is_file() and not words & NO_DATA:
            found.setdefault(parts[0], []).append(file)
    for part, files in found.items():
        for better in (
            [file for file in files if suffix and suffix in file.suffixes],
            [file for file in files if file.name.split(".")[0].lower() in USUAL_NAMES[part]],
        ):
            found[part] = better if better and len(found[part]) > 1 else found[part]
    return found


def _reason(error: OSError) -> str:
    """Return the most specific part of a network error."""
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return error.strerror or str(error)


def fetch(target: Path, url: str, sha256: str | None = None, git_blob: str | None = None) -> Path:
    """Download a file, verify its hash and write it atomically; compress it if the target ends in `.gz`.

    Args:
        target: the file to write.
        url: the address; what it has is uncompressed if it ends in `.gz`.
        sha256: the expected hash of the uncompressed content; None skips the check.
        git_blob: the expected name of the content in a git repository, its SHA-1 hash as a blob; None skips the check.

    Returns:
        `target`.

    Raises:
        InputError: the content has another hash.
        OSError: the address cannot be reached.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    content, done = hashlib.sha256(), 0
    with atomic_write(target, shared=True) as part:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, open(part, "wb") as raw:
            total = int(response.headers.get("Content-Length") or 0)
            source = gzip.GzipFile(fileobj=response) if url.endswith(".gz") else response
            output = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) if target.suffix == ".gz" else raw
            while block := source.read(1 << 16):
                content.update(block)
                output.write(block)
                done += len(block)
                if sys.stderr.isatty():
                    share = f"{done / total:4.0%}" if total and source is response else f"{done >> 10} KiB"
                    print(f"\rfetching {target.name} {share}", end="", file=sys.stderr, flush=True)
            if output is not raw:
                output.close()
        if sys.stderr.isatty():
            print(file=sys.stderr)
        if sha256 and content.hexdigest() != sha256:
            raise InputError(f"{url}: sha256 is {content.hexdigest()}, expected {sha256}; nothing was stored")
        if git_blob and (found := _git_blob(part, done, target.suffix == ".gz")) != git_blob:
            raise InputError(f"{url}: its blob in git is {found}, expected {git_blob}; nothing was stored")
    return target


def _git_blob(path: Path, size: int, compressed: bool) -> str:
    """Return the name that git gives to a file of some size."""
    content = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with gzip.open(path) if compressed else open(path, "rb") as file:
        while block := file.read(1 << 16):
            content.update(block)
    return content.hexdigest()


def digest(parts: Mapping[str, Source]) -> str:
    """Return the sha256 hash of the files of a dataset, over their parts in alphabetical order."""
    total = hashlib.sha256()
    for part in sorted(parts):
        if all(is_url(file) or Path(file).is_file() for file in files_of(parts[part])):
            total.update(part.encode())
            total.update(sources.digest(parts[part]))
    return total.hexdigest()
