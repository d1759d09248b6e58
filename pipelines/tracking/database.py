"""MLflow's database where it is a file: one process creates it, atomically."""

import glob
import sys
from pathlib import Path

from trellis.components.files import atomic_write

PREFIX = "sqlite:///"


def make(uri: str) -> None:
    """Create the database that a URI names if it is a file that does not exist yet.

    MLflow creates its tables in many steps, which take seconds. A process that ends in between would leave a database
    that no run can use, and two processes would interfere with each other.
    """
    if not uri.startswith(PREFIX) or "?" in uri or sys.platform == "win32":
        return
    import fcntl

    path = Path(uri.removeprefix(PREFIX))
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists() and path.stat().st_size:
            return
        import mlflow

        with atomic_write(path) as part:
            for left in path.parent.glob(f"{glob.escape(part.name)}*"):  # by a process that was killed
                left.unlink()
            mlflow.MlflowClient(f"{PREFIX}{part}").search_experiments()
