"""The configuration tree: find its files, compose them, and explain in one line what does not compose."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, OverrideType
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trellis.components.errors import InputError
from trellis.pipelines import hints

CONF = Path(__file__).parents[1] / "conf"
PLUGINS = "trellis.conf"  # entry points of packages that bring configurations


class Tree:
    """The configuration tree of this package, of plug-ins, and of folders of the user's own.

    Args:
        folders: with groups such as `model/` and `data/`, searched before the package's own.

    Raises:
        InputError: a folder does not exist.
    """

    def __init__(self, folders: Iterable[str | Path] = ()) -> None:
        self.folders = [Path(folder).absolute() for folder in folders]
        for folder in self.folders:
            if not folder.is_dir():
                raise InputError(f"--config-dir {folder}: no such folder")
        plugins = sorted(entry_points(group=PLUGINS), key=lambda entry: entry.name)
        self.sources = [*(f"file://{folder}" for folder in self.folders), *(f"pkg://{p.value}" for p in plugins)]

    @property
    def overrides(self) -> list[str]:
        """Overrides that make Hydra search the whole tree."""
        quoted = ["'" + source.replace("\\", "\\\\").replace("'", "\\'") + "'" for source in self.sources]
        return [f"hydra.searchpath=[{','.join(quoted)}]"] if quoted else []

    def make_importable(self) -> None:
        """Let `_target_`s name modules next to the user's configurations, or in the current folder."""
        for folder in (*(str(folder.parent) for folder in self.folders), str(Path.cwd())):
            if folder not in sys.path:
                sys.path.append(folder)

    @contextmanager
    def _open(self) -> Iterator[None]:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF), job_name="train"):
            yield

    def compose(self, overrides: Sequence[str] = (), hydra: bool = False) -> DictConfig:
        """Return the configuration that overrides compose.

        Args:
            hydra: keep Hydra's own part, with the folder of the run.

        Raises:
            InputError: they do not compose; the message names the nearest valid choice or key.
        """
        with self._open():
            return self._compose([*overrides, *self.overrides], hydra)

    def opened(self, overrides: Sequence[str]) -> list[str]:
        """Return overrides with those that set several keys at once, `data.files={dev: …}`, allowed to add keys.

        Hydra only lets them change keys that exist. Here the schemas decide which keys may exist.

        Raises:
            InputError: an override cannot be read.
        """

        def adds(override: Override) -> bool:
            if override.type is not OverrideType.CHANGE or override.is_sweep_override():
                return False
            return override.key_or_group not in self.groups and isinstance(override.value(), dict)

        return [f"{'++' * adds(each)}{each.input_line}" for each in parse(overrides, lambda: self.keys)]

    def check(self, overrides: Sequence[str], multirun: bool = False) -> None:
        """Compose the configuration (for a sweep, with every choice of it).

        Raises:
            InputError: it cannot be composed.
        """
        for chosen in self.combinations(overrides, multirun):
            self.compose(chosen)

    def combinations(self, overrides: Sequence[str], multirun: bool = False) -> list[list[str]]:
        """Return overrides without sweeps: each choice of each sweep once, with the first choices of the others.

        Raises:
            InputError: an override cannot be read, or is a sweep where `multirun` is false.
        """
        plain: list[str] = []
        sweeps: list[list[str]] = []
        for override in parse(overrides, lambda: self.keys):
            if override.is_sweep_override():
                if not multirun:
                    written = str(override.input_line)
                    raise InputError(f"{written}: to try several values, add -m; to give one with a comma, quote it")
                sweeps.append([f"{override.get_key_element()}={value}" for value in values_of(override)])
            else:
                self._check_choice(override)
                plain.append(str(override.input_line))
        chosen = [[*plain, *(choices[0] for choices in sweeps)]]
        for index, choices in enumerate(sweeps):
            others = [c[0] for i, c in enumerate(sweeps) if i != index]
            chosen += [[*plain, *others, choice] for choice in choices[1:]]
        return chosen

    def _check_choice(self, override: Override) -> None:
        """Raise InputError if a group is deleted, added, or set to something that cannot be the name of a choice."""
        group = override.key_or_group
        if group not in self.groups:
            return
        written = str(override.input_line)
        if override.type is OverrideType.DEL:
            raise InputError(f"{written}: there must be a choice of {group}; {group}=… makes another")
        if override.type is OverrideType.ADD:
            raise InputError(f"{written}: there is a choice of {group} already; write {written.removeprefix('+')}")
        value = override.value()
        if isinstance(value, bool | int | float):
            raise InputError(hints.for_choice(group, written.partition("=")[2], sorted(self.files(group))))

    @cached_property
    def keys(self) -> list[str]:
        """The keys of the default configuration, and the groups."""
        return [*self.groups, *flatten(self.compose())]

    def for_sweep(self, overrides: Sequence[str]) -> list[str]:
        """Return overrides as Hydra takes them in a sweep over models.

        Hydra composes the default model once before those of the sweep, and stops at a key that the default model does
        not have, unless the key may be added. By then the key has been checked for the models asked for.
        """
        with self._open():
            base = self._compose(self.overrides)

        def rewritten(override: Override) -> str:
            key = override.key_or_group
            plain = override.type is OverrideType.CHANGE and not override.is_sweep_override() and key not in self.groups
            if not plain or re.match(r"hydra[./]", key) or OmegaConf.select(base, key) is not None:
                return str(override.input_line)
            return str(override.input_line) if key in flatten(base) else f"++{override.input_line}"

        return [rewritten(override) for override in parse(overrides)]

    def _compose(self, overrides: Sequence[str], hydra: bool = False) -> DictConfig:
        try:
            return compose("config", overrides=list(overrides), return_hydra_config=hydra)
        except MissingConfigException as error:
            missing = (error.missing_cfg_file or "").removesuffix(".yaml")
            group, _, choice = missing.rpartition("/")
            if not error.options:
                raise InputError(self._unknown_key(overrides, group or missing)) from None
            raise InputError(hints.for_choice(group, choice, sorted(error.options))) from None
        except ConfigCompositionException as error:
            text = f"{error} {error.__cause__ or ''}"
            for override in parse(overrides):
                if f"'{override.key_or_group}'" in text and re.search(
                    "Could not override|not in struct|No match", text
                ):
                    raise InputError(self._unknown_key(overrides, override.key_or_group)) from None
            raise InputError(first_line(error)) from None
        except (HydraException, OmegaConfBaseException) as error:
            raise InputError(first_line(error)) from None

    def _unknown_key(self, overrides: Sequence[str], wrong: str) -> str:
        kept = ("model", "data", "pipeline", "experiment", "hydra.searchpath")
        groups = [o for o in overrides if o.split("=")[0] in kept and o.split("=")[0] != wrong]
        try:
            config = compose("config", overrides=groups)
        except HydraException:
            config = compose("config")
        return hints.for_key(wrong, [*flatten(config), *self.groups])

    @property
    def groups(self) -> list[str]:
        """The groups from which a choice is made."""
        folders = [CONF, *self.folders]
        return sorted({path.name for folder in folders for path in folder.iterdir() if path.is_dir()} - {"hydra"})

    def files(self, group: str) -> dict[str, Path]:
        """Return the file of each choice of a group; the user's own come before the package's."""
        folders = [CONF, *reversed(self.folders)]
        return {path.stem: path for folder in folders for path in sorted((folder / group).glob("*.yaml"))}


def values_of(override: Override) -> list[str]:
    """Return the values of a sweep as Hydra writes them; the bounds of an interval."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    return list(override.sweep_string_iterator())


def tree_of_run() -> Tree:
    """Return the tree that the present run was composed from."""
    if not HydraConfig.initialized():
        return Tree()
    sources = HydraConfig.get().runtime.config_sources
    return Tree(source.path for source in sources if source.schema == "file" and Path(source.path) != CONF)


def parse(overrides: Sequence[str], keys: Callable[[], Sequence[str]] = tuple) -> list[Override]:
    """Return overrides as Hydra reads them.

    Args:
        keys: returns the keys and groups that exist, for hints.

    Raises:
        InputError: one of them cannot be read.
    """
    parsed = []
    for index, override in enumerate(overrides):
        try:
            parsed.append(OverridesParser.create().parse_override(override))
        except HydraException:
            split = index > 0 and overrides[index - 1].endswith("=") and "=" not in override
            start = index - 1 if split else index
            raise InputError(hints.for_argument(overrides[start], overrides[start + 1 :], keys())) from None
    return parsed


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return re.sub(r"\s+", " ", str(error).strip().split("\n\n")[0])


def plain(config: Any, resolve: bool = True) -> dict[str, Any]:
    """Return a section of a configuration as plain data.

    Args:
        resolve: replace interpolations by what they stand for.
    """
    container = OmegaConf.to_container(config, resolve=resolve)
    if not isinstance(container, dict):
        raise TypeError(f"expected a section of keys, not {container!r}")
    return {str(key): value for key, value in container.items()}


def flatten(config: DictConfig) -> dict[str, Any]:
    """Return `{"trainer.epochs": 30, …}` of a configuration, unresolved."""

    def leaves(section: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in section.items():
            if isinstance(value, dict) and value:
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    return dict(leaves(plain(config, resolve=False), ""))


def comparable(config: DictConfig | ListConfig) -> dict[str, Any]:
    """Return a configuration as plain data, without what may differ between a run and its continuation."""
    return {key: value for key, value in plain(config, resolve=False).items() if key != "resume"}
