"""What a run says at its end: its scores, where things are, and what to type next."""

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table


def show(config, metrics, folder, tracker, exported, task, weights=None):
    """Prints the summary of a finished run; `weights` are those of its export where they are stored in fewer bits."""
    console = Console(highlight=False)
    part = next((each for each in ("test", "dev") if any(key.startswith(f"{each}/") for key in metrics)), "train")
    shown = getattr(task, "headline", None)
    scores = {key: value for key, value in metrics.items() if key.startswith(f"{part}/") and key.count("/") == 1}
    if shown:
        scores = {f"{part}/{name}": scores[f"{part}/{name}"] for name in shown if f"{part}/{name}" in scores}
    table = Table(
        title=f"{config.model.name} on {config.data.name}, {part}", title_justify="left", box=None, pad_edge=False
    )
    for key in scores:
        table.add_column(key.removeprefix(f"{part}/"), justify="right")
    table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in scores.values()))
    console.print()
    console.print(table)
    console.print()
    rows = [
        (
            "training",
            f"{metrics['train/epochs']} epochs, {metrics['train/tokens_per_second']:,.0f} tokens/s"
            + (f", best in epoch {metrics['dev/best_epoch']}" if "dev/best_epoch" in metrics else ""),
        ),
        ("run", _relative(folder)),
        ("checkpoint", _relative(folder / "checkpoints" / "best.keras")),
    ]
    if exported:
        rows.append(("export", _relative(exported)))
    if weights:
        key = next(iter(scores))
        change = f"{key.removeprefix(f'{part}/')} {metrics[key]:.4f} → {metrics[f'export/{key}']:.4f}"
        before, after = (size / 1e6 for size in weights.sizes)
        rows.append(("weights", f"{config.export.weights}: {change}, {before:.1f} → {after:.1f} MB"))
    if tracker.described():
        rows.append(("tracked", tracker.described()))
    for name, value in rows:
        console.print(f"{name:<11}{value}", soft_wrap=True, markup=False)
    if tracker.interface() or exported:
        console.print("\nnext", style="bold")
    if tracker.interface():
        console.print(f"  compare  {tracker.interface()}", soft_wrap=True, markup=False)
    if exported:
        exports = _relative(Path(exported).parent)
        ask = getattr(task, "ask", "predict")
        example = f'"{task.example}"'
        if "\t" in task.example:  # which shells take for a key
            example = "$'" + task.example.translate({92: "\\\\", 39: "\\'", 9: "\\t"}) + "'"
        console.print(f"  {ask:<8} trellis {ask} {exports} {example}", soft_wrap=True, markup=False)
        console.print("  serve    docker compose -f serve/docker-compose.yaml up", soft_wrap=True, markup=False)


def _relative(path):
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
