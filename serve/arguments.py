"""Arguments that several commands share."""

import argparse
import sys
from collections.abc import Iterator, Sequence

from trellis.components.saved_model.versions import latest
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


def read_texts(arguments: Sequence[str]) -> Iterator[bytes]:
    """Return the texts on a command line, or the lines of standard input if the only argument is `-`."""
    if list(arguments) == ["-"]:
        # Binary mode: a line may hold characters that Python treats as line ends, or bytes that are not UTF-8.
        return (line.rstrip(b"\r\n") for line in sys.stdin.buffer)
    return (text.encode("utf-8", "surrogateescape") for text in arguments)


def batch_size(arguments: Sequence[str]) -> int:
    """Return how many texts to ask about at once: one if a person types them, who waits for each answer."""
    return 1 if list(arguments) == ["-"] and sys.stdin.isatty() else BATCH
