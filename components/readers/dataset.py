"""Where the files of a dataset are: a path, $TRELLIS_DATA, the cache, or the network."""

import gzip
import hashlib
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from trellis.components.errors import InputError
from trellis.components.files import atomic_write

PARTS = ("train", "dev", "test")
PACKAGE = "package://"
TIMEOUT = 30  # seconds without a byte


def locate(name, files, path=None, download=None, folder=None):
    """The file of each part of a dataset.

    Looked for in this order: `path` (a folder, `{part: file}`, or `package://FOLDER` for one in this package), the
    folder `$TRELLIS_DATA/NAME`, the cache (`$TRELLIS_CACHE`, by default `~/.cache/trellis`), the network. A file counts
    with or without `.gz`. The folder may have another name, `folder`.

    Args:
        files: `{part: file name}`.
        download: `{part: {"url", "sha256"}}`, of the uncompressed file, or None if it cannot be fetched.

    Returns:
        `{part: Path}`.

    Raises:
        InputError: none of the places has the files; the message names them all.
    """
    if path is not None:
        if not isinstance(path, str | os.PathLike):
            return {part: _existing(Path(file)) for part, file in path.items()}
        if str(path).startswith(PACKAGE):
            path = Path(__file__).parents[2] / str(path).removeprefix(PACKAGE)
        if not Path(path).is_dir():
            raise InputError(f"data.path: {path} is not a folder")
        return {part: _existing(Path(path) / file) for part, file in files.items()}

    tried = ["data.path (not given)"]
    if "TRELLIS_DATA" in os.environ:
        place = Path(os.environ["TRELLIS_DATA"]) / (folder or name)
        if place.is_dir():
            return {part: _existing(place / file) for part, file in files.items()}
        tried.append(f"{place} (no such folder)")
    else:
        tried.append("$TRELLIS_DATA (not set)")
    cache = Path(os.environ.get("TRELLIS_CACHE", Path.home() / ".cache" / "trellis")) / (folder or name)
    found = {part: _variant(cache / file) for part, file in files.items()}
    if all(found.values()):
        return found
    tried.append(f"{cache} (no such files)")
    if not download:
        raise InputError(f"data={name} not found; tried {', '.join(tried)}, and it has no address to fetch it from")
    try:
        return {
            part: found[part] or fetch(download[part]["url"], cache / file, download[part].get("sha256"))
            for part, file in files.items()
        }
    except OSError as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        tried.append(f"{next(iter(download.values()))['url']} ({reason})")
        raise InputError(f"data={name} not found; tried {', '.join(tried)}") from None


def fetch(url, target, sha256=None):
    """Downloads a file, checks it, and puts it in place whole; compressed if the target ends in `.gz`.

    Raises:
        InputError: the content is not the expected one.
        OSError: the address cannot be reached.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, done = hashlib.sha256(), 0
    with atomic_write(target, shared=True) as part:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, open(part, "wb") as raw:
            total = int(response.headers.get("Content-Length") or 0)
            output = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) if target.suffix == ".gz" else raw
            while block := response.read(1 << 16):
                digest.update(block)
                output.write(block)
                done += len(block)
                if sys.stderr.isatty():
                    share = f"{done / total:4.0%}" if total else f"{done >> 10} KiB"
                    print(f"\rfetching {target.name} {share}", end="", file=sys.stderr, flush=True)
            if output is not raw:
                output.close()
        if sys.stderr.isatty():
            print(file=sys.stderr)
        if sha256 and digest.hexdigest() != sha256:
            raise InputError(f"{url}: sha256 is {digest.hexdigest()}, expected {sha256}; nothing was kept")
    return target


def digest(paths):
    """sha256 over the files of a dataset, in the order of their parts."""
    total = hashlib.sha256()
    for part in sorted(paths):
        total.update(part.encode())
        with open(paths[part], "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _variant(file):
    """The file as named, or with `.gz` added or taken away, whichever is there."""
    for candidate in (file, file.with_name(file.name + ".gz"), file.with_suffix("") if file.suffix == ".gz" else file):
        if candidate.is_file():
            return candidate
    return None


def _existing(file):
    found = _variant(file)
    if found is None:
        raise InputError(f"{file}: no such file")
    return found
