"""Provenance of a run: the commit and the versions of libraries."""

import importlib.metadata
import subprocess
from pathlib import Path

PACKAGES = ("tensorflow", "keras", "numpy", "hydra-core", "mlflow")


def commit() -> str | None:
    """Return the commit of the clone that this code runs from; None outside a repository."""
    return git_tags().get("mlflow.source.git.commit")


def git_tags() -> dict[str, str]:
    """Return the commit and whether the working tree differs from it, as tags; empty outside a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != Path(__file__).resolve().parents[2]:
            return {}  # an installed package inside somebody else's repository
        dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
        return {"mlflow.source.git.commit": git("rev-parse", "HEAD"), "trellis.git.dirty": str(dirty).lower()}
    except (OSError, subprocess.SubprocessError):
        return {}


def version_tags() -> dict[str, str]:
    """Return the versions of the libraries that matter, as tags."""
    return {f"trellis.version.{name}": importlib.metadata.version(name) for name in PACKAGES}
