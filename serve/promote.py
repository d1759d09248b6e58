"""From MLflow's registry into the folder that is served: `trellis promote ner@champion exports/`

Puts the export of a registered model as the next version of FOLDER/NAME, whole or not at all; servers take it up by
themselves. `--roll-back` takes the newest version out again, so that the one before serves.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from trellis.components.errors import InputError
from trellis.components.quiet import captured_stderr
from trellis.components.saved_model import package
from trellis.components.saved_model.verification import verify
from trellis.components.saved_model.versions import EXTRA, latest, versions, write_version


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="trellis promote", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="NAME@ALIAS or NAME/VERSION of MLflow's registry; with --roll-back, NAME")
    parser.add_argument("folder", type=Path, help="of the models that are served")
    parser.add_argument("--name", help="to serve it under; by default that of the registry")
    parser.add_argument("--tracking-uri", help="of MLflow; by default mlflow.db in the current folder")
    parser.add_argument("--roll-back", action="store_true", help="take the newest version out")
    options = parser.parse_args(arguments)
    name = options.name or options.model.split("@")[0].split("/")[0]
    try:
        if options.roll_back:
            print(f"{roll_back(options.folder / name)} serves again")
        else:
            uri = options.tracking_uri or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
            print(f"{promote(options.model, options.folder / name, uri)} is in place")
    except InputError as error:
        print(f"trellis promote: error: {error}", file=sys.stderr)
        return 2
    return 0


def promote(model, folder, tracking_uri):
    """Puts the export of a registered model into a folder of versions; returns the new version.

    Raises:
        InputError: no such model, or its export is not well.
    """
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    try:
        with captured_stderr():
            place = Path(mlflow.artifacts.download_artifacts(f"models:/{model}"))
    except mlflow.MlflowException as error:
        raise InputError(f"{model}: {str(error).splitlines()[0]}") from None
    source = latest(place / "artifacts")
    verify(source)
    version = write_version(folder, lambda path: shutil.copytree(source, path, dirs_exist_ok=True))
    package.put_beside(version)
    return version


def roll_back(folder):
    """Takes the newest version out of a folder, kept aside as `.rolled-back-N`; returns the one that serves then.

    Raises:
        InputError: there is none before it.
    """
    present = versions(folder) if folder.is_dir() else []
    if len(present) < 2:
        raise InputError(f"{folder}: no version to go back to")
    newest, before = folder / str(present[-1]), folder / str(present[-2])
    aside = folder / f".rolled-back-{present[-1]}"
    if aside.exists():
        shutil.rmtree(aside)
    os.rename(newest, aside)
    if (before / EXTRA / package.METADATA).is_file():
        package.put_beside(before)
    return before


if __name__ == "__main__":
    sys.exit(main())
