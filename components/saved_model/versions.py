"""Version directories of an export: `exports/NAME/1`, `exports/NAME/2`, …; each appears whole or not at all."""

import os
import shutil
import tempfile
from pathlib import Path

from trellis.components.errors import InputError

EXTRA = "assets.extra"  # folder in a version for files that belong to no graph


def versions(folder):
    """The versions of an export folder, ascending."""
    folder = Path(folder)
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.is_dir() and entry.name.isdigit())


def check_writable(folder):
    """Raises InputError at once where writing an export would fail later; leaves nothing behind."""
    folder = Path(folder)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is not a folder")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise InputError(f"export.dir={folder}: cannot be written to ({error.strerror or error})") from None


def write_version(folder, write):
    """Calls `write(path)` on a folder aside, then renames that to the next version number.

    Returns:
        the path of the new version.

    Raises:
        InputError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    folder = Path(folder)
    aside = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
        write(aside)
        aside.chmod(0o755)
        version = max(versions(folder), default=0) + 1
        while True:
            try:
                os.rename(aside, folder / str(version))
                return folder / str(version)
            except FileExistsError:
                version += 1
            except OSError:
                if not (folder / str(version)).exists():
                    raise
                version += 1
    except OSError as error:
        raise InputError(f"export.dir={folder}: cannot be written ({error.strerror or error})") from None
    except Exception as error:
        # TensorFlow reports a full disk with errors of its own.
        if type(error).__module__.startswith("tensorflow") and "space" in str(error):
            raise InputError(f"export.dir={folder}: cannot be written (no space left on device)") from None
        raise
    finally:
        if aside is not None and aside.exists():
            shutil.rmtree(aside, ignore_errors=True)


def latest(folder):
    """The newest version of an export folder, or the folder itself if it is a version.

    Raises:
        InputError: there is no SavedModel there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such export; python train.py writes one under exports/")
    if (folder / "saved_model.pb").is_file():
        return folder
    found = versions(folder)
    if not found:
        raise InputError(f"{folder}: no SavedModel here, neither saved_model.pb nor a version directory")
    return folder / str(found[-1])
