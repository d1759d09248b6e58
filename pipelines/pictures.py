"""Pictures that several pipelines draw."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SHOWN = 20  # classes in the picture of confusions


def learning_curve(path: Path, history: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Draw loss and dev scores over the epochs.

    Args:
        history: `{metric: [(epoch, value), …]}`.
    """
    from matplotlib.ticker import MaxNLocator

    shown = {name: points for name, points in history.items() if name.startswith(("train/loss", "dev/"))}
    losses = {name: points for name, points in shown.items() if name.endswith("loss")}
    scores = {name: points for name, points in shown.items() if name not in losses}
    panels = [(title, curves) for title, curves in (("loss, nats", losses), ("dev scores", scores)) if curves]
    if not panels:
        return
    picture, axes = figure(1, len(panels), (4.5 * len(panels), 3.2))
    for axis, (title, curves) in zip([axes] if len(panels) == 1 else axes, panels, strict=True):
        for name, points in curves.items():
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    picture.savefig(path, dpi=130)


def confusions(path: Path, pairs: Mapping[tuple[str, str], int], meaning: str) -> None:
    """Draw how often each class was predicted as each other one.

    Args:
        pairs: `{(gold, predicted): count}`, 0 for pairs that it lacks.
        meaning: of the color, in words.
    """
    totals: dict[str, int] = {}
    for (tag, _), count in pairs.items():
        totals[tag] = totals.get(tag, 0) + count
    tags = sorted({tag for pair in pairs for tag in pair}, key=lambda tag: -totals.get(tag, 0))[:SHOWN]
    size = 2.2 + 0.5 * len(tags)
    picture, axis = figure(1, 1, (size + 0.6, size))
    shares = [[pairs[gold, predicted] / max(totals.get(gold, 0), 1) for predicted in tags] for gold in tags]
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, gold in enumerate(tags):
        for column, predicted in enumerate(tags):
            count = pairs[gold, predicted]
            if count:
                color = "white" if shares[row][column] > 0.5 else "black"
                axis.text(column, row, str(count), ha="center", va="center", fontsize=7, color=color)
    axis.set_xticks(range(len(tags)), tags, rotation=60, fontsize=8)
    axis.set_yticks(range(len(tags)), tags, fontsize=8)
    axis.set_xlabel("predicted")
    axis.set_ylabel("gold")
    picture.colorbar(image, label=meaning, shrink=0.8)
    picture.savefig(path, dpi=130)


def figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """Return an empty figure of `size` inches, and its axes."""
    # Drawn without pyplot, which would look for a screen and keep every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(picture)
    return picture, picture.subplots(rows, columns)
