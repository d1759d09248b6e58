"""Find the files of a dataset: at a path, in $TRELLIS_DATA, in the cache, or on the network."""

import gzip
import hashlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from trellis.components.errors import InputError
from trellis.components.files import atomic_write
from trellis.components.types import FilePath

PARTS = ("train", "dev", "test")
PACKAGE = "package://"
TIMEOUT = 30  # seconds without a byte


def locate(
    name: str,
    files: Mapping[str, str],
    path: FilePath | Mapping[str, FilePath] | None = None,
    download: Mapping[str, Mapping[str, str]] | None = None,
    folder: str | None = None,
) -> dict[str, Path]:
    """Find the file of each part of a dataset.

    Looks in this order: `path`, the folder `$TRELLIS_DATA/NAME`, the cache (`$TRELLIS_CACHE`, by default
    `~/.cache/trellis`), the network. Each file may be stored with or without `.gz`.

    Args:
        name: the name of the dataset.
        files: `{part: file name}`.
        path: a folder, `{part: file}`, or `package://FOLDER` for a folder of this package.
        download: `{part: {"url", "sha256"}}`, with the hash of the uncompressed file; None if it cannot be downloaded.
        folder: the folder in `$TRELLIS_DATA` and the cache, if it is not called `name`.

    Returns:
        `{part: Path}`.

    Raises:
        InputError: the files are in none of these places; the message lists them all.
    """
    if isinstance(path, Mapping):
        return {part: _existing(Path(file)) for part, file in path.items()}
    if path is not None:
        if str(path).startswith(PACKAGE):
            path = Path(__file__).parents[2] / str(path).removeprefix(PACKAGE)
        if not Path(path).is_dir():
            raise InputError(f"data.path: {path} is not a folder")
        return {part: _existing(Path(path) / file) for part, file in files.items()}

    tried = ["data.path (not set)"]
    if "TRELLIS_DATA" in os.environ:
        shared = Path(os.environ["TRELLIS_DATA"]) / (folder or name)
        if shared.is_dir():
            return {part: _existing(shared / file) for part, file in files.items()}
        tried.append(f"{shared} (no such folder)")
    else:
        tried.append("$TRELLIS_DATA (not set)")
    cache = Path(os.environ.get("TRELLIS_CACHE", Path.home() / ".cache" / "trellis")) / (folder or name)
    cached = {part: variant for part, file in files.items() if (variant := _variant(cache / file))}
    if len(cached) == len(files):
        return cached
    tried.append(f"{cache} (no such files)")
    if not download:
        raise InputError(f"data={name} not found; tried {', '.join(tried)}, and it has no download address")
    try:
        return {
            part: cached[part]
            if part in cached
            else fetch(download[part]["url"], cache / file, download[part].get("sha256"))
            for part, file in files.items()
        }
    except OSError as error:
        tried.append(f"{next(iter(download.values()))['url']} ({_reason(error)})")
        raise InputError(f"data={name} not found; tried {', '.join(tried)}") from None


def _reason(error: OSError) -> str:
    """Return the most specific part of a network error."""
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return error.strerror or str(error)


def fetch(url: str, target: Path, sha256: str | None = None) -> Path:
    """Download a file, verify its hash and write it atomically; compress it if the target ends in `.gz`.

    Args:
        url: the address.
        target: the file to write.
        sha256: the expected hash of the uncompressed content; None skips the check.

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
            output = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) if target.suffix == ".gz" else raw
            while block := response.read(1 << 16):
                content.update(block)
                output.write(block)
                done += len(block)
                if sys.stderr.isatty():
                    share = f"{done / total:4.0%}" if total else f"{done >> 10} KiB"
                    print(f"\rfetching {target.name} {share}", end="", file=sys.stderr, flush=True)
            if output is not raw:
                output.close()
        if sys.stderr.isatty():
            print(file=sys.stderr)
        if sha256 and content.hexdigest() != sha256:
            raise InputError(f"{url}: sha256 is {content.hexdigest()}, expected {sha256}; nothing was stored")
    return target


def digest(paths: Mapping[str, FilePath]) -> str:
    """Return the sha256 hash of the files of a dataset, over their parts in alphabetical order."""
    total = hashlib.sha256()
    for part in sorted(paths):
        total.update(part.encode())
        with open(paths[part], "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _variant(file: Path) -> Path | None:
    """Return the file as named, or with `.gz` added or removed, whichever exists."""
    for candidate in (file, file.with_name(file.name + ".gz"), file.with_suffix("") if file.suffix == ".gz" else file):
        if candidate.is_file():
            return candidate
    return None


def _existing(file: Path) -> Path:
    variant = _variant(file)
    if variant is None:
        raise InputError(f"{file}: no such file")
    return variant
