"""Arguments that several commands share."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from trellis.components.errors import InputError
from trellis.components.saved_model.versions import latest, read_metadata, version_folders
from trellis.serve.export_model import ExportModel, LocalModel
from trellis.serve.inference import BATCH
from trellis.serve.remote import RemoteModel


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `export` and `--url`."""
    parser.add_argument("export", help="an export folder (its newest version), or one version; with --url, a name")
    parser.add_argument("--url", help="ask the model on a server, http://… or grpc://…, instead of loading an export")


def open_model(options: argparse.Namespace) -> ExportModel:
    """Return the model that `export` and `--url` refer to.

    Raises:
        InputError: there is no such export or model, or it cannot be loaded.
    """
    return RemoteModel(options.url, options.export) if options.url else LocalModel(latest(options.export))


def export_of(path: str) -> str:
    """Return the export that a run wrote, or the path itself if it is not the folder of a run.

    Raises:
        InputError: the export of the run is not where it was written, or it wrote none.
    """
    run = Path(path)
    if not (run / "metrics.json").is_file() or not (run / ".hydra" / "config.yaml").is_file():
        return path
    from omegaconf import OmegaConf

    folder = OmegaConf.load(run / ".hydra" / "config.yaml").export.dir
    if folder is None:
        raise InputError(f"{path}: this run wrote no export")
    described = run / ".hydra" / "hydra.yaml"  # has the folder that the command was typed in
    began = Path(OmegaConf.load(described).hydra.runtime.cwd) if described.is_file() else Path()
    metrics = json.loads((run / "metrics.json").read_bytes())
    versions = version_folders(began / folder) if (began / folder).is_dir() else {}
    for _, version in sorted(versions.items(), reverse=True):
        if read_metadata(version).get("metrics") == metrics:
            return str(version)
    raise InputError(f"{path}: the export of this run is not in {began / folder}; name an export")


def read_texts(arguments: Sequence[str]) -> Iterator[bytes]:
    """Return the texts on a command line, or the lines of standard input if the only argument is `-`."""
    if list(arguments) == ["-"]:
        # Binary mode: a line may hold characters that Python treats as line ends, or bytes that are not UTF-8.
        return (line.rstrip(b"\r\n") for line in sys.stdin.buffer)
    return (text.encode("utf-8", "surrogateescape") for text in arguments)


def batch_size(arguments: Sequence[str]) -> int:
    """Return how many texts to ask about at once: one if a person types them, who waits for each answer."""
    return 1 if list(arguments) == ["-"] and sys.stdin.isatty() else BATCH
