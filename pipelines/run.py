"""Training from Python: `trellis.train("model=bilstm_crf", "data=conll", "data.path=FOLDER")`."""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    from trellis.pipelines.configuration import Tree
    from trellis.pipelines.reading import check_first_lines
    from trellis.pipelines.settings import validate
    from trellis.pipelines.terminal import Terminal, headline
except ModuleNotFoundError as error:
    raise ImportError(
        f"trellis.train needs {error.name}, which is not installed: pip install 'trellis-sequence[train]'"
    ) from error

from trellis.components import cluster
from trellis.components.quiet import captured_stderr

if TYPE_CHECKING:
    from trellis.pipelines.pipeline import Result


def train(*overrides: str, config_dirs: Iterable[str | Path] = (), folder: str | Path | None = None) -> "Result":
    """Train, track and export a model, as `trellis train` does.

    Args:
        overrides: what the command takes: `"model=bilstm_crf"`, `"trainer.epochs=5"`.
        config_dirs: folders of configurations of your own, as `--config-dir`.
        folder: where the run goes; by default `outputs/DATE/TIME`.

    Returns:
        The metrics, the folder of the run, the export and the Keras model.

    Raises:
        InputError: something in the configuration or the data cannot be used; the message is one line.
    """
    tree = Tree(config_dirs)
    tree.make_importable()
    opened = tree.opened(overrides)
    tree.check(opened)
    settings = tree.compose(opened)
    validate(settings)
    check_first_lines(settings)
    config = tree.compose(opened, hydra=True)
    index = 0 if settings.trainer.strategy == "none" else cluster.from_environment().index
    place = Path(cluster.folder_of_worker(str(folder or config.hydra.run.dir), index))
    (place / ".hydra").mkdir(parents=True, exist_ok=True)
    with open_dict(config):
        config.hydra.runtime.output_dir = str(place.absolute())
    HydraConfig.instance().set_config(config)
    hydra = config.hydra
    with open_dict(config):
        del config["hydra"]
    OmegaConf.save(config, place / ".hydra" / "config.yaml")
    OmegaConf.save(hydra, place / ".hydra" / "hydra.yaml")
    OmegaConf.save(OmegaConf.create(list(overrides)), place / ".hydra" / "overrides.yaml")
    with _logged(place / "train.log"), Terminal() as terminal:
        terminal.line(headline(config, place))
        terminal.phase("loading libraries")
        with captured_stderr():
            from trellis.pipelines import pipeline
        return pipeline.run(config, place, terminal)


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Write what Trellis logs to a file."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("trellis")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
