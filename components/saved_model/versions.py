"""Version folders of an export: `exports/NAME/1`, `exports/NAME/2`, …; each appears atomically."""

import difflib
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from trellis.components.errors import InputError
from trellis.components.files import folder_aside, require_writable
from trellis.components.types import JSON, FilePath

LONGEST_NUMBER = 18  # digits of a version, which is an int64
ASIDE = ".writing-"  # prefix of folders that are being written; the machine and the process follow
FULL = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))  # messages for a full disk or file
EXTRA = "assets.extra"  # folder in a version for files that do not belong to the graph
METADATA = "metadata.json"  # one of them


def versions(folder: FilePath) -> list[int]:
    """Return the versions in an export folder, ascending."""
    return sorted(version_folders(folder))


def version_folders(folder: FilePath) -> dict[int, Path]:
    """Return the folder of each version in an export folder; `007` is version 7 unless there is a folder `7`."""
    entries = [
        entry
        for entry in Path(folder).iterdir()
        if entry.name.isascii() and entry.name.isdigit() and len(entry.name) <= LONGEST_NUMBER and entry.is_dir()
    ]
    # The shortest name comes last and wins.
    return {int(entry.name): entry for entry in sorted(entries, key=lambda entry: (-len(entry.name), entry.name))}


def read_metadata(version: FilePath) -> JSON:
    """Return the metadata of a version of an export; `{}` if it has none that can be read."""
    try:
        found = json.loads((Path(version) / EXTRA / METADATA).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def check_writable(folder: FilePath) -> None:
    """Check that an export can be written to a folder, which need not exist; leave nothing behind.

    Raises:
        InputError: the folder cannot be written to.
    """
    require_writable(Path(folder), "export.dir")


def write_version(folder: FilePath, write: Callable[[Path], object]) -> Path:
    """Write a new version to a temporary folder, then rename it to the next version number.

    Args:
        folder: the export folder.
        write: writes the files of the version into an empty folder.

    Returns:
        the path of the new version.

    Raises:
        InputError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    folder = Path(folder)
    aside = None
    try:
        aside = folder_aside(folder, ASIDE)
        write(aside)
        aside.chmod(0o755)
        version = max(versions(folder), default=0) + 1
        while True:
            target = folder / str(version)
            try:
                os.rename(aside, target)
                return target
            except OSError:
                # Another process has taken this version, unless the rename failed for another reason.
                if not target.exists():
                    raise
                version += 1
    except OSError as error:
        raise InputError(f"export.dir={folder}: cannot be written ({error.strerror or error})") from None
    except Exception as error:
        # TensorFlow reports a full disk with errors of its own.
        reason = next((each for each in FULL if each in str(error)), None)
        if reason and type(error).__module__.startswith("tensorflow"):
            raise InputError(f"export.dir={folder}: cannot be written ({reason})") from None
        raise
    finally:
        if aside is not None and aside.exists():
            shutil.rmtree(aside, ignore_errors=True)


def latest(folder: FilePath) -> Path:
    """Return the newest version in an export folder, or the folder itself if it is a version.

    Raises:
        InputError: there is no SavedModel.
    """
    folder = Path(folder)
    if not folder.is_dir():
        beside = folder.parent if folder.parent.is_dir() else None
        known = [path.name for path in beside.iterdir() if path.is_dir() and versions(path)] if beside else []
        meant = difflib.get_close_matches(folder.name, known, n=1)
        hint = f"did you mean {folder.parent / meant[0]}?" if meant else "trellis train writes exports under exports/"
        raise InputError(f"{folder}: no such export; {hint}")
    if (folder / "saved_model.pb").is_file():
        return folder
    present = version_folders(folder)
    if not present:
        models = sorted(inner.name for inner in folder.iterdir() if inner.is_dir() and versions(inner))
        if models:
            raise InputError(f"{folder}: a folder of exports; name one: {', '.join(str(folder / m) for m in models)}")
        raise InputError(f"{folder}: no SavedModel here, neither saved_model.pb nor a version folder")
    return present[max(present)]
