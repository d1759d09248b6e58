"""What a run prints at its end: its scores, where things are, and what to type next."""

import os
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.markup import escape
from rich.table import Table

from trellis.components.layers.stored_weights import Compressed
from trellis.pipelines.task import Metrics, Package
from trellis.pipelines.terminal import OutputConsole
from trellis.pipelines.tracking.tracker import Tracker


def show(
    config: DictConfig,
    metrics: Metrics,
    folder: Path,
    tracker: Tracker,
    export: Path | None,
    package: Package,
    headline: Sequence[str] = (),
    weights: Compressed | None = None,
) -> None:
    """Print the summary of a finished run.

    Args:
        headline: the scores to show, without their part; all of them if it is empty.
        weights: those of the export where they are stored in fewer bits.
    """
    console = OutputConsole(highlight=False)
    part = next((each for each in ("test", "dev") if any(key.startswith(f"{each}/") for key in metrics)), "train")
    scores = {key: value for key, value in metrics.items() if key.startswith(f"{part}/") and key.count("/") == 1}
    if headline:
        scores = {f"{part}/{name}": scores[f"{part}/{name}"] for name in headline if f"{part}/{name}" in scores}
    title = f"{config.model.name} on {config.data.name}, {part}"
    table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False)
    for key in scores:
        table.add_column(key.removeprefix(f"{part}/"), justify="right")
    table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in scores.values()))
    console.print()
    console.print(table)
    console.print()
    epochs, best = int(metrics["train/epochs"]), metrics.get("dev/best_epoch")
    speed = f"{epochs} epoch{'s' * (epochs != 1)}, {metrics['train/tokens_per_second']:,.0f} tokens/s"
    rows = [
        ("training", speed + (f", best in epoch {int(best)}" if best is not None else "")),
        ("run", _relative(folder)),
        ("checkpoint", _relative(folder / "checkpoints" / "best.keras")),
    ]
    if export:
        rows.append(("export", _relative(export)))
    if weights:
        key = next(iter(scores))
        change = f"{key.removeprefix(f'{part}/')} {metrics[key]:.4f} → {metrics[f'export/{key}']:.4f}"
        before, after = (size / 1e6 for size in weights.sizes)
        rows.append(("weights", f"{config.export.weights}: {change}, {before:.1f} → {after:.1f} MB"))
    tracked, command, page = tracker.description(), tracker.command(), tracker.page()
    if tracked:
        rows.append(("tracked", tracked))
    for name, value in rows:
        console.print(f"{name:<11}{value}", soft_wrap=True, markup=False)
    if page or export:
        console.print("\nnext", style="bold")
    for name, text in (("compare", command), ("open" if command else "compare", page)):
        if text:
            console.print(f"  {name:<8} {text}", soft_wrap=True, markup=False)
    if export:
        ask = f"trellis {package.command} {_relative(export.parent)} {_quoted(package.example)}"
        console.print(f"  {package.command:<8} {ask}", soft_wrap=True, markup=False)
        console.print(f"  serve    trellis serve {_relative(export.parents[1])}", soft_wrap=True, markup=False)


def _quoted(text: str) -> str:
    """Quote a text for a shell, with tabs written as `\\t`: an interactive shell reads a tab as a key."""
    if "\t" not in text:
        return f'"{text}"'
    return "$'" + text.translate({92: "\\\\", 39: "\\'", 9: "\\t"}) + "'"


def _relative(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
