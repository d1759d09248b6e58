"""Pictures of gradients through time, of several runs side by side.

trellis gradients outputs/…/rnn outputs/…/lstm outputs/…/gru --picture gradient_flow.png

Each run was made with diagnostics.gradient_flow=true.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from trellis.components.command import CommandParser, run_command
from trellis.components.errors import InputError
from trellis.components.training.gradient_flow import gradient_flow
from trellis.pipelines.pictures import figure

FILE = "gradient_flow.json"
GAIN = 2.0  # on recurrent weights, to see gradients explode

Flow = dict[str, list[float]]


def measure(model: keras.Model, tokens: np.ndarray, targets: np.ndarray, clip: float | None) -> Flow:
    """Measure the flow of gradients through a model as it is, and with larger recurrent weights, clipped and not.

    Args:
        model: a `RecurrentLanguageModel`.
        tokens, targets: `(rows, time)` ids.
        clip: the global norm that training clips at, or None.

    Returns:
        `{"flow", "larger", "clipped"}`: norms by time step.
    """
    norms, _ = gradient_flow(model, tokens, targets)
    larger, whole = gradient_flow(model, tokens, targets, GAIN)
    found = {"flow": norms.tolist(), "larger": larger.tolist()}
    if clip is not None:
        found["clipped"] = (larger * min(1.0, clip / max(whole, 1e-30))).tolist()
    return found


def draw(path: Path | str, runs: Mapping[str, Mapping[str, Flow]]) -> None:
    """Draw `{name: {"before": …, "after": …}}`, each as `measure` returns it, one panel per run."""
    picture, axes = figure(1, len(runs), (1 + 3.6 * len(runs), 3.9))
    for axis, (name, run) in zip([axes] if len(runs) == 1 else axes, runs.items(), strict=True):
        steps = range(-len(run["before"]["flow"]), 0)
        shown = [("before", "flow", "before training", "C0-"), ("after", "flow", "after training", "C1-")]
        shown += [
            ("before", "larger", f"before, recurrent weights × {GAIN:g}", "C3--"),
            ("before", "clipped", "the same, clipped as in training", "C2:"),
        ]
        for when, what, label, style in shown:
            if what in run[when]:
                axis.plot(steps, [max(value, 1e-12) for value in run[when][what]], style, label=label, linewidth=1.4)
        axis.set_yscale("log")
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("time step before the loss")
        axis.grid(alpha=0.3)
    first = axes if len(runs) == 1 else axes[0]
    first.set_ylabel("norm of the gradient of the states")
    lines = {line.get_label(): line for axis in ([axes] if len(runs) == 1 else axes) for line in axis.lines}
    picture.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=2, fontsize=8)
    if len(runs) > 1:
        low, high = min(axis.get_ylim()[0] for axis in axes), max(axis.get_ylim()[1] for axis in axes)
        for axis in axes:
            axis.set_ylim(low, high)
    picture.savefig(path, dpi=130)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `trellis gradients`; return its exit status."""
    parser = CommandParser("trellis gradients", __doc__)
    parser.add_argument("runs", nargs="+", help="folders of runs")
    parser.add_argument("--picture", default="gradient_flow.png", help="file to draw to")
    return run_command(parser, _draw_runs, parser.parse_args(arguments))


def _draw_runs(options: argparse.Namespace) -> None:
    found = {}
    for folder in options.runs:
        try:
            run = json.loads((Path(folder) / "reports" / FILE).read_text())
        except (OSError, ValueError):
            raise InputError(f"{folder}: no reports/{FILE}; run with diagnostics.gradient_flow=true") from None
        found[run["name"]] = run
    draw(options.picture, found)
    print(options.picture)


if __name__ == "__main__":
    sys.exit(main())
