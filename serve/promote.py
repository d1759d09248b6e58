"""Promote a model from MLflow's registry to the folder that is served: `trellis promote ner@champion exports/`

Copies the export of a registered model to the next version of FOLDER/NAME, atomically; servers load it by themselves.
`--roll-back` removes the newest version, so that the previous one is served again.
"""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from trellis.components.command import CommandParser, run_command
from trellis.components.errors import InputError, first_line, nearest
from trellis.components.quiet import captured_stderr
from trellis.components.saved_model.verification import verify
from trellis.components.saved_model.versions import latest, versions, write_version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis promote", __doc__)
    parser.add_argument("model", help="NAME@ALIAS or NAME/VERSION in MLflow's registry; with --roll-back, NAME")
    parser.add_argument("folder", type=Path, help="the folder of the models that are served")
    parser.add_argument("--name", help="the name to serve the model under (its name in the registry)")
    parser.add_argument("--tracking-uri", help="the MLflow server or database (mlflow.db in the current folder)")
    parser.add_argument("--roll-back", action="store_true", help="remove the newest version")
    return run_command(parser, _promote, parser.parse_args(arguments))


def _promote(options: argparse.Namespace) -> None:
    name = options.name or options.model.split("@")[0].split("/")[0]
    if options.roll_back:
        if options.model != name:
            raise InputError(f"--roll-back: takes the name of a served model, such as {name}, not {options.model}")
        if options.tracking_uri:
            raise InputError("--tracking-uri: has no effect with --roll-back; use one of them")
        print(f"{roll_back(options.folder / name)} is served again")
    else:
        print(f"{promote(options.model, options.folder / name, options.tracking_uri)} is ready to be served")


def _database() -> str:
    """Return the database of runs in the current folder.

    Raises:
        InputError: there is none; MLflow would make an empty one.
    """
    path = Path.cwd() / "mlflow.db"
    if not path.is_file():
        raise InputError(f"{path}: no such database; run this where trellis train ran, or use --tracking-uri")
    return f"sqlite:///{path}"


def promote(model: str, folder: Path, tracking_uri: str | None = None) -> Path:
    """Copy the export of a registered model into a folder of versions; return the new version.

    Args:
        model: `NAME@ALIAS` or `NAME/VERSION`.
        folder: the folder of versions.
        tracking_uri: the MLflow server or database; by default `MLFLOW_TRACKING_URI`, or `mlflow.db` in this folder.

    Raises:
        InputError: there is no such model, or its export cannot be verified.
    """
    if not re.fullmatch(r"[^/@]+(@[^/@]+|/\d+)", model):
        raise InputError(
            f"{model}: must be NAME@ALIAS, such as {model.split('@')[0].split('/')[0]}@champion, or NAME/VERSION"
        )
    tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or _database()
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    try:
        with captured_stderr():
            artifacts = Path(mlflow.artifacts.download_artifacts(f"models:/{model}"))
    except mlflow.MlflowException as error:
        with captured_stderr():
            names = [known.name for known in mlflow.MlflowClient().search_registered_models()]
        name = re.split("[@/]", model)[0]
        if name not in names:
            hint = (
                f"did you mean {nearest(name, names)}?"
                if names
                else "none is registered; train with tracking.register=NAME"
            )
            raise InputError(f"{name}: no such registered model; {hint}") from None
        raise InputError(f"{model}: {first_line(error)}") from None
    with captured_stderr():  # TensorFlow's start-up messages
        from trellis.components.saved_model import package

    source = latest(artifacts / "artifacts")
    verify(source)
    version = write_version(folder, lambda path: shutil.copytree(source, path, dirs_exist_ok=True))
    package.publish_metadata(folder)
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
    package.publish_metadata(folder)
    return previous


if __name__ == "__main__":
    sys.exit(main())
