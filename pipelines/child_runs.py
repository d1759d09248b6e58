"""Runs of a tagger that a command starts, each in a process and a folder of its own, and does not repeat."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from trellis.components.errors import InputError
from trellis.pipelines.configuration import Tree, plain
from trellis.pipelines.reading import check_first_lines
from trellis.pipelines.settings import validate
from trellis.pipelines.tagged_files import tagged_parts

Metrics = dict[str, float]


class TaggerRuns(NamedTuple):
    """What several runs of a tagger have in common.

    Attributes:
        overrides: arguments of `trellis train`.
        config: what they compose.
        sentences: the number of sentences or texts of the training part.
        digest: of the data: runs on other data are not the same.
    """

    overrides: Sequence[str]
    config: DictConfig
    sentences: int
    digest: str


def checked(overrides: Sequence[str], purpose: str, reserved: Mapping[str, str]) -> TaggerRuns:
    """Check arguments as `trellis train` does, and read the data.

    Args:
        overrides: the arguments.
        purpose: what is for taggers alone, for the message.
        reserved: keys that the command itself sets, and for each what to use instead.

    Raises:
        InputError: an argument cannot be, the model is no tagger, or the data cannot be read.
    """
    tree = Tree()
    opened = tree.opened(overrides)
    tree.check(opened)
    config = tree.compose(opened)
    validate(config)
    if config.data.task not in ("ner", "pos"):
        raise InputError(f"model={config.model.name}: is no tagger; {purpose} is for taggers")
    for key, instead in reserved.items():
        section, _, name = key.partition(".")
        if config[section].get(name) is not None:
            raise InputError(f"{key}: not here; {instead}")
    check_first_lines(config)
    _, parts = tagged_parts(plain(config.data))
    digest = hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()
    return TaggerRuns(overrides, config, len(parts.get("train", ())), digest)


def train(runs: TaggerRuns, own: Sequence[str], folder: Path) -> Metrics:
    """Train in a process of its own, unless the folder has the metrics of the same command and data.

    Args:
        runs: what the run has in common with others.
        own: its further arguments.
        folder: of the run.

    Returns:
        its metrics.

    Raises:
        InputError: the run failed.
    """
    overrides = [*runs.overrides, *own]
    command, expected = folder / "command.json", {"overrides": overrides, "data": runs.digest}
    if not (folder / "metrics.json").is_file() or json.loads(command.read_text()) != expected:
        log = folder / "output.log"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").unlink(missing_ok=True)
        command.write_text(json.dumps(expected))
        with open(log, "w", encoding="utf-8") as output:
            arguments = [sys.executable, "-m", "trellis", "train", *overrides, f'hydra.run.dir="{folder}"']
            done = subprocess.run(arguments, stdout=output, stderr=subprocess.STDOUT, check=False)
        if done.returncode or not (folder / "metrics.json").is_file():
            last = (log.read_text(encoding="utf-8").strip().splitlines() or ["no output"])[-1]
            raise InputError(f"{folder}: the run failed: {last}")
    metrics: Metrics = json.loads((folder / "metrics.json").read_text())
    return metrics
