"""Promote a model from MLflow's registry to the folder that is served: `trellis promote ner@champion exports/`

Copies the export of a registered model to the next version of FOLDER/NAME, atomically; servers load it by themselves.
`--roll-back` removes the newest version, so that the previous one is served again.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from trellis.components.errors import InputError, first_line
from trellis.components.quiet import captured_stderr
from trellis.components.saved_model.verification import verify
from trellis.components.saved_model.versions import EXTRA, latest, versions, write_version
from trellis.serve.exit_status import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="trellis promote", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="NAME@ALIAS or NAME/VERSION in MLflow's registry; with --roll-back, NAME")
    parser.add_argument("folder", type=Path, help="the folder of the models that are served")
    parser.add_argument("--name", help="the name to serve the model under (its name in the registry)")
    parser.add_argument("--tracking-uri", help="the MLflow server or database (mlflow.db in the current folder)")
    parser.add_argument("--roll-back", action="store_true", help="remove the newest version")
    return run_command("trellis promote", _promote, parser.parse_args(arguments))


def _promote(options: argparse.Namespace) -> None:
    name = options.name or options.model.split("@")[0].split("/")[0]
    if options.roll_back:
        print(f"{roll_back(options.folder / name)} is served again")
    else:
        uri = options.tracking_uri or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
        print(f"{promote(options.model, options.folder / name, uri)} is ready to be served")


def promote(model: str, folder: Path, tracking_uri: str) -> Path:
    """Copy the export of a registered model into a folder of versions; return the new version.

    Args:
        model: `NAME@ALIAS` or `NAME/VERSION`.
        folder: the folder of versions.
        tracking_uri: the MLflow server or database.

    Raises:
        InputError: there is no such model, or its export cannot be verified.
    """
    import mlflow

    from trellis.components.saved_model import package

    mlflow.set_tracking_uri(tracking_uri)
    try:
        with captured_stderr():
            artifacts = Path(mlflow.artifacts.download_artifacts(f"models:/{model}"))
    except mlflow.MlflowException as error:
        raise InputError(f"{model}: {first_line(error)}") from None
    source = latest(artifacts / "artifacts")
    verify(source)
    version = write_version(folder, lambda path: shutil.copytree(source, path, dirs_exist_ok=True))
    package.publish_metadata(version)
    return version


def roll_back(folder: Path) -> Path:
    """Remove the newest version from a folder, keeping it as `.rolled-back-N`; return the previous one.

    Raises:
        InputError: there is no previous version.
    """
    from trellis.components.saved_model import package

    present = versions(folder) if folder.is_dir() else []
    if len(present) < 2:
        raise InputError(f"{folder}: no previous version to roll back to")
    newest, previous = folder / str(present[-1]), folder / str(present[-2])
    removed = folder / f".rolled-back-{present[-1]}"
    if removed.exists():
        shutil.rmtree(removed)
    os.rename(newest, removed)
    if (previous / EXTRA / package.METADATA).is_file():
        package.publish_metadata(previous)
    return previous


if __name__ == "__main__":
    sys.exit(main())
