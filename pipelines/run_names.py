"""What a run is called wherever people compare runs: in MLflow and on the pages among its reports."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

# These are in the rest of the name, or in the tags and files of the run.
_LEFT_OUT = ("model", "data", "seed", "experiment", "resume", "tracking", "export", "hydra", "trainer.threads")


def run_name(config: DictConfig, overrides: Sequence[str]) -> str:
    """Return `bilstm_crf · conll2003 · units=200 · seed 1`.

    Args:
        overrides: what the user set, as typed.
    """
    differences = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if not is_below(key, _LEFT_OUT) or key.startswith("model."):
            differences.append(f"{key.rpartition('.')[2]}={value}")
    return " · ".join([config.model.name, config.data.name, *differences, f"seed {config.seed}"])


def typed_overrides(folder: Path) -> list[str]:
    """Return what the user set for the run in a folder, as typed."""
    path = folder / ".hydra" / "overrides.yaml"
    return [str(override) for override in OmegaConf.load(path)] if path.is_file() else []


def is_below(key: str, sections: Sequence[str]) -> bool:
    """Return whether a key of the configuration is one of these sections, or in one of them."""
    return any(key == section or key.startswith(f"{section}.") for section in sections)
