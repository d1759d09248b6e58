"""The description of a run in MLflow: its parameters, and a table of its scores."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from trellis.components.metrics.direction import HEADLINES
from trellis.pipelines.configuration import comparable, flatten, plain
from trellis.pipelines.run_names import is_below
from trellis.pipelines.settings import unused_keys

BEST = ("best", "best_epoch")  # the score that chose the epoch is also logged under its own name
# Recorded elsewhere: in the run's name, its dataset, its tags or its files.
NOT_PARAMETERS = (
    *("tracking", "export", "pipeline", "batching.folder"),
    *("data.files", "data.path", "data.download", "data.licence"),
)


def parameters(config: DictConfig) -> dict[str, Any]:
    """Return the settings that the model uses, resolved; without paths, classes and what is recorded elsewhere.

    A null setting is one that is not used.
    """
    settings = flatten(OmegaConf.create(plain(OmegaConf.create(comparable(config)))))
    unused = (*NOT_PARAMETERS, *unused_keys(config))
    return {
        key: value
        for key, value in settings.items()
        if value is not None and not is_below(key, unused) and not key.rpartition(".")[2].startswith("_")
    }


def scores_table(config: DictConfig, metrics: Mapping[str, float]) -> str:
    """Return the final scores as Markdown, with a column for each part of the data.

    Scores that tables of runs show come first: MLflow shows the first rows of a long table only.
    """
    parts = [part for part in ("dev", "test") if any(name.startswith(f"{part}/") for name in metrics)]
    present = [key.partition("/")[2] for key in metrics if key.partition("/")[0] in parts]
    names = dict.fromkeys(name for name in (*HEADLINES, *present) if name in present and name not in BEST)
    epoch = metrics.get("dev/best_epoch")
    lines = [
        f"{config.model.name} on {config.data.name}" + ("" if epoch is None else f", best in epoch {epoch:.0f}"),
        "",
        f"| score | {' | '.join(parts)} |",
        "|:---|" + "---:|" * len(parts),
    ]
    for name in names:
        values = [metrics.get(f"{part}/{name}") for part in parts]
        lines.append(f"| {name} | {' | '.join('' if value is None else f'{value:.4f}' for value in values)} |")
    return "\n".join(lines)


def view_of_runs(metric_names: Collection[str]) -> str:
    """Return the state of MLflow's page of runs in which its table shows the scores and what a run set.

    Args:
        metric_names: those that the runs of the experiment have.
    """
    scores = [name for name in HEADLINES if any(f"{part}/{name}" in metric_names for part in ("test", "dev"))]
    shown = [f"{part}/{name}" for name in scores[:2] for part in ("test", "dev")]
    metrics = [f"metrics.`{name}`" for name in (*shown, "train/tokens_per_second") if name in metric_names]
    columns = ["attributes.`Duration`", *metrics, "tags.`trellis.overrides`"]
    order = ["attributes.`Run Name`", *metrics, "tags.`trellis.overrides`", "attributes.`Duration`"]
    # Wide enough for `bilstm_crf · conll2003 · units=200 · seed 1` below the run of a sweep, and for names of metrics.
    widths = {"attributes.`Run Name`": 380, "metrics.`train/tokens_per_second`": 180, "tags.`trellis.overrides`": 320}
    return json.dumps({"selectedColumns": columns, "columnOrder": order, "columnWidths": widths})
