"""The command `trellis train`, and `python train.py`: arguments are checked before TensorFlow is imported.

An error is one line and exit status 2; HYDRA_FULL_ERROR=1 shows the traceback.
"""

import argparse
import contextlib
import functools
import logging
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from trellis.components import cluster, termination
from trellis.components.command import output, prepare_streams, report_error
from trellis.components.errors import InputError, nearest
from trellis.components.files import require_writable
from trellis.components.quiet import captured_stderr
from trellis.pipelines import hints, search, trial
from trellis.pipelines.configuration import CONF, Tree, comparable, parse, values_of
from trellis.pipelines.reading import check_first_lines
from trellis.pipelines.settings import explain, shown, validate
from trellis.pipelines.terminal import Terminal, headline

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None, program: str = "trellis train") -> int:
    """Check the arguments, then let Hydra run the pipeline, once or for a sweep.

    Args:
        arguments: those of the command line; by default those of the process.
        program: the name that errors begin with.
    """
    termination.end_at_once()
    prepare_streams()
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    stop = functools.partial(_stop, program, os.environ.get("HYDRA_FULL_ERROR") == "1")
    try:
        with output(program):
            sys.argv = [program, *checked(arguments)]
    except InputError as error:
        stop(error)

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def train(config: DictConfig) -> float:
        try:
            validate(config)
            folder = Path(HydraConfig.get().runtime.output_dir)
            with Terminal() as terminal:
                terminal.line(headline(config, folder))
                terminal.phase("loading libraries")
                # Importing TensorFlow takes seconds, so everything above is checked first.
                with captured_stderr():
                    from trellis.pipelines import pipeline

                return pipeline.run(config, folder, terminal).score
        except InputError as error:
            log.info("%s", error)
            if trial.is_searching():  # the search goes on with other settings
                report_error(program, error)
                return math.nan
            stop(error)
        except trial.Pruned:
            return math.nan

    search.register()
    try:
        with output(program, stop), _hydra_raises():
            train()
    except KeyboardInterrupt:
        return 130
    return 0


@contextlib.contextmanager
def _hydra_raises() -> Iterator[None]:
    """Let Hydra raise its errors, such as that of a full disk, instead of printing them with a traceback."""
    former = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if former is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = former


def _stop(program: str, shows_traceback: bool, error: InputError) -> NoReturn:
    if shows_traceback:
        raise error
    report_error(program, error)
    raise SystemExit(2)


def checked(arguments: list[str]) -> list[str]:
    """Return the arguments in the form that Hydra takes, after checking that they compose.

    Raises:
        InputError: they cannot be composed.
    """
    arguments, topic = _topic(arguments)
    options, rest = get_args_parser().parse_known_args(arguments)
    if options.hydra_help or options.info:
        return arguments
    if options.config_name or options.config_path:
        flag = "--config-name" if options.config_name else "--config-path"
        raise InputError(f"{flag}: there is one configuration; --config-dir FOLDER adds choices to it")
    _require_effect(options, topic)
    tree = Tree([options.config_dir] if options.config_dir else [])
    unknown = next((argument for argument in rest if argument.startswith("-")), None)
    if unknown is not None:
        following = arguments[arguments.index(unknown) + 1 :]
        raise InputError(hints.for_argument(unknown, following, tree.keys))
    tree.make_importable()
    flags = _without(arguments, options.overrides, options.config_dir)
    overrides = tree.opened(options.overrides)
    if options.help or options.shell_completion:
        return [*flags, *overrides, *tree.overrides]
    combinations = tree.combinations(overrides, options.multirun)
    shows = bool(options.cfg) or topic is not None
    for chosen in combinations:
        config = tree.compose(chosen)
        try:
            validate(config)
        except InputError as error:
            raise InputError(f"{error}{_whole_interval(overrides, error)}") from None
        if not shows:
            check_first_lines(config)
    if options.cfg and options.multirun:
        print(f"showing the first of {len(combinations)} or more jobs", file=sys.stderr)
        flags = [flag for flag in flags if flag not in ("-m", "--multirun")]
        return [*flags, *combinations[0], *tree.overrides]
    if topic is not None:
        _explain(tree.compose(overrides), topic)
        raise SystemExit(0)
    resumed: list[str] = []
    first = tree.compose(combinations[0])
    worker = 0 if options.cfg else _worker(first, options.multirun)
    if first.resume and not options.cfg and worker == 0:
        resumed = _where_it_stopped(overrides, tree, options.multirun)
    if not options.cfg:
        # Hydra creates the folder later, and would show a traceback if the disk is full.
        run = tree.compose(combinations[0], hydra=True).hydra
        key, folder = ("hydra.sweep.dir", run.sweep.dir) if options.multirun else ("hydra.run.dir", run.run.dir)
        if worker > 0:
            overrides = [each for each in overrides if not each.startswith(f"{key}=")]
            folder = cluster.folder_of_worker(folder, worker)
            resumed = [f"{key}={folder}"]
        require_writable(Path(folder), key)
        if options.multirun:
            _check_sweeper(tree, run, overrides)
    if options.multirun:
        overrides = tree.for_sweep(overrides)
    return [*flags, *overrides, *tree.overrides, *resumed]


def _worker(config: DictConfig, multirun: bool) -> int:
    """Return the index of this process among the workers that train together, 0 if it trains alone.

    Raises:
        InputError: `TF_CONFIG` is wrong, or the run is a sweep.
    """
    if config.trainer.strategy == "none":
        return 0
    if multirun:
        raise InputError(f"-m: not with trainer.strategy={config.trainer.strategy}; start one run after the other")
    return cluster.from_environment().index


def _whole_interval(overrides: Sequence[str], error: InputError) -> str:
    """Return the hint to write `int(interval(…))` if an error is about an interval of whole numbers."""
    for override in parse(overrides):
        written = str(override.input_line).partition("=")[2]
        if override.is_interval_sweep() and re.match(rf"{override.key_or_group}=[\d.]+: must be a whole", str(error)):
            return f"; write int({written})"
    return ""


def _check_sweeper(tree: Tree, config: DictConfig, overrides: Sequence[str]) -> None:
    """Check the settings and intervals of a sweep.

    Args:
        config: Hydra's part of the configuration.
    """
    if config.sweeper._target_ == search.TARGET:
        search.check(config, overrides)
        for chosen in tree.combinations([*overrides, *search.written(config.sweeper.params)], multirun=True):
            validate(tree.compose(chosen))
        return
    for override in parse(overrides):
        if override.is_interval_sweep():
            raise InputError(
                f"{override.input_line}: an interval is searched, not enumerated; add hydra/sweeper=optuna"
            )


def _require_effect(options: argparse.Namespace, topic: str | None) -> None:
    """Raise InputError for a flag that Hydra would ignore or answer with a traceback."""
    if options.experimental_rerun:
        raise InputError("--experimental-rerun: not supported; resume=true goes on with a run that was stopped")
    for flag, given in (("--package", options.package), ("--resolve", options.resolve)):
        if given and not options.cfg:
            raise InputError(f"{flag}: has no effect without --cfg job")
    modes = {"--explain": topic is not None, "--cfg": options.cfg, "--run": options.run, "--multirun": options.multirun}
    given_modes = [flag for flag, given in modes.items() if given]
    if len(given_modes) > 1 and ("--run" in given_modes or "--multirun" not in given_modes):
        raise InputError(f"{' and '.join(given_modes)}: use one of them")


def _topic(arguments: list[str]) -> tuple[list[str], str | None]:
    """Take `--explain [KEY]` out of the arguments; the key is empty for all keys, None without the flag."""
    for index, argument in enumerate(arguments):
        if argument.startswith("--explain="):
            return arguments[:index] + arguments[index + 1 :], argument.removeprefix("--explain=")
        if argument == "--explain":
            rest = arguments[index + 1 :]
            has_key = bool(rest) and "=" not in rest[0] and not rest[0].startswith("-")
            return arguments[:index] + rest[has_key:], rest[0] if has_key else ""
    return arguments, None


def _explain(config: DictConfig, topic: str) -> None:
    """Print a key, or every key of a section, with its value, what it may be and what it means.

    Raises:
        InputError: there is no such key.
    """
    keys = list(explain(config))
    chosen = [key for key in keys if not topic or key.path == topic or key.path.startswith(f"{topic}.")]
    if not chosen:
        same = [key.path for key in keys if key.path.rpartition(".")[2] == topic]
        known = ", ".join(same[:3]) if same else nearest(topic, [key.path for key in keys])
        raise InputError(f"--explain {topic}: no such key; did you mean {known}?")
    for key in chosen:
        print(f"{key.path}: {shown(key.value)}")
        print(f"    {key.meaning or 'not described'}")
        print(f"    may be: {key.expected or 'whatever its function takes'}")


def _without(arguments: list[str], overrides: list[str], config_dir: str | None) -> list[str]:
    """Return the flags of Hydra among the arguments, without `--config-dir`, which the tree replaces."""
    flags, left = [], list(overrides)
    for argument in arguments:
        if argument in left:
            left.remove(argument)
        elif argument not in ("--config-dir", "-cd", config_dir) and argument != f"--config-dir={config_dir}":
            flags.append(argument)
    return flags


def _without_resume(overrides: Sequence[str]) -> list[str]:
    """Return overrides in sorted, canonical form, without `resume` and those of Hydra."""

    def written(override: Override) -> str:
        values = values_of(override) if override.is_sweep_override() else [str(override.value())]
        return f"{override.get_key_element()}={','.join(map(str, values))}"

    own = (each for each in parse(overrides) if not re.match(r"resume$|hydra[./]", each.key_or_group))
    return sorted(written(override) for override in own)


def _where_it_stopped(overrides: Sequence[str], tree: Tree, multirun: bool) -> list[str]:
    """Return the override that makes Hydra continue in the folder of the newest unfinished run like this, if any."""
    if any(each.startswith(("hydra.run.dir=", "hydra.sweep.dir=")) for each in overrides):
        return []
    if multirun:
        wanted = _without_resume(tree.for_sweep(overrides))
        searches = tree.compose(tree.combinations(overrides, multirun)[0], hydra=True).hydra.sweeper._target_
        for past in sorted(Path("multirun").glob("*/*/multirun.yaml"), reverse=True):
            sweep = OmegaConf.load(past).hydra
            same = OmegaConf.select(sweep, "sweeper._target_", default=searches) == searches
            if same and _without_resume(list(sweep.overrides.task)) == wanted:
                return [f"hydra.sweep.dir={past.parent}"]
        return []
    config = comparable(tree.compose(overrides))
    for past in sorted(Path("outputs").glob("*/*/.hydra/config.yaml"), reverse=True):
        folder = past.parents[1]
        unfinished = not (folder / "metrics.json").exists() and (folder / "checkpoints" / "last.npz").exists()
        if unfinished and comparable(OmegaConf.load(past)) == config:
            return [f"hydra.run.dir={folder}"]
    print("resume=true: no unfinished run with this configuration under outputs/; starting anew", file=sys.stderr)
    return []
