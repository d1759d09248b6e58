"""How much more to label: `trellis label forecast data=annotated data.path=labelled.json --target 0.85`

Trains a tagger on growing shares of the training part, with the other arguments as `trellis train` takes them, fits a
power law to the scores, and says with an interval (90 %) which scores more sentences give, and how many the target
needs. Scores are those of the test part, or of dev without one. Each run goes to a folder of its own below --folder;
the same command continues there, and does not repeat runs that are finished.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trellis.components.command import CommandParser, positive_int, probability, run_command
from trellis.components.errors import InputError
from trellis.components.files import atomic_write
from trellis.components.metrics.learning_curve import Interval, LearningCurve
from trellis.pipelines.child_runs import TaggerRuns, checked, train
from trellis.pipelines.pictures import figure

SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)
GROWTH = (1.5, 2.0, 4.0)  # of the training part, for scores without a target


class Run(NamedTuple):
    """A run on a share of the training part.

    Attributes:
        sentences: how many it was trained on.
        score: of the model.
    """

    sentences: int
    score: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis label forecast", __doc__)
    parser.add_argument("overrides", nargs="*", help="arguments of trellis train: model=…, data=…, key=value")
    parser.add_argument("--target", type=probability, help="the score to reach, such as 0.85")
    parser.add_argument(
        "--shares", type=_shares, default=SHARES, help="shares of the training part (0.1,0.2,0.4,0.7,1)"
    )
    parser.add_argument("--seeds", type=positive_int, default=1, help="runs of each share (1)")
    parser.add_argument("--folder", type=Path, default=Path("outputs/forecast"), help="(outputs/forecast)")
    return run_command(parser, _forecast, parser.parse_args(arguments))


def _shares(text: str) -> tuple[float, ...]:
    shares = tuple(sorted({probability(share) for share in text.split(",")}))
    if len(shares) < 3:
        raise argparse.ArgumentTypeError(f"{text!r} must be at least three shares")
    return shares


def _forecast(options: argparse.Namespace) -> None:
    if len(options.shares) * options.seeds < 4:
        raise InputError(f"--shares {len(options.shares)}, --seeds {options.seeds}: at least four runs are needed")
    share = "--shares says how much of the training part is used"
    common = checked(options.overrides, "a forecast", {"limit.train": share, "limit.sentences": share})
    sentences = common.sentences
    runs = measure(common, options.shares, options.seeds, options.folder)
    try:
        curve = LearningCurve([run.sentences for run in runs], [run.score for run in runs])
    except ValueError as error:
        raise InputError(f"{options.folder}: {error}; more --seeds or other --shares may show how they grow") from None
    _write(options.folder, runs, curve, sentences, options.target)
    for line in report(curve, sentences, options.target):
        print(line)
    print(f"{options.folder / 'forecast.png'} and forecast.json")


def measure(common: TaggerRuns, shares: Sequence[float], seeds: int, folder: Path) -> list[Run]:
    """Train on each share of the training part with each seed; return the scores, and print them.

    Args:
        common: what all runs have in common.
        shares: of the training part.
        seeds: how many runs each share has.
        folder: where runs go, each into a folder of its own.
    """
    runs = []
    for share in shares:
        for seed in range(1, seeds + 1):
            own = [f"limit.train={share:g}", f"seed={seed}", "tracking=off", "export=off"]
            metrics = train(common, own, folder / f"train={share:g},seed={seed}")
            name = next(
                (f"{part}/{score}" for part in ("test", "dev") for score in ("f1", "accuracy")
                 if f"{part}/{score}" in metrics), None
            )  # fmt: skip
            if name is None:
                raise InputError(f"{folder}: its runs have neither an F1 nor an accuracy")
            runs.append(Run(max(1, round(share * common.sentences)), metrics[name]))
            print(f"{runs[-1].sentences:>9,} sentences  {name} {runs[-1].score:.4f}", flush=True)
    return runs


def report(curve: LearningCurve, sentences: int, target: float | None) -> list[str]:
    """Return what a learning curve says about more sentences than there are, in lines."""
    lines = [
        f"{round(growth * sentences):>9,} sentences  {_shown(curve.score(growth * sentences), '.3f')}"
        for growth in GROWTH
    ]
    if target is None:
        return lines
    needed = curve.size(target)
    if needed.median <= sentences:
        return [*lines, f"{target:g} is reached by the {sentences:,} sentences that there are"]
    more = Interval(*(max(0.0, size - sentences) for size in needed))
    if more.median == float("inf"):
        return [*lines, f"{target:g} is out of reach for this model, however many sentences"]
    return [*lines, f"about {_shown(more, ',.2g')} more sentences to {target:g}"]


def _shown(interval: Interval, form: str) -> str:
    def number(value: float) -> str:
        if value == float("inf"):
            return "never"
        return f"{value:{form}}" if form == ".3f" else f"{float(f'{value:.2g}'):,.0f}"

    low, median, high = map(number, interval)
    return f"{median} ({low} to {high})"


def _write(folder: Path, runs: Sequence[Run], curve: LearningCurve, sentences: int, target: float | None) -> None:
    """Write the forecast as JSON, infinite sizes as null, and as a picture."""
    found: dict[str, Any] = {
        "runs": [run._asdict() for run in runs],
        "scores": [{"sentences": round(g * sentences), **curve.score(g * sentences)._asdict()} for g in GROWTH],
    }
    if target is not None:
        size = curve.size(target)._asdict()
        found["target"] = {"score": target, **{k: None if v == float("inf") else v for k, v in size.items()}}
    with atomic_write(folder / "forecast.json") as part:
        part.write_text(json.dumps(found, indent=1))
    smallest, largest = min(run.sentences for run in runs), GROWTH[-1] * sentences
    sizes = [smallest * (largest / smallest) ** (step / 60) for step in range(61)]
    low, median, high = zip(*(curve.score(size) for size in sizes), strict=True)
    picture, axis = figure(1, 1, (6.0, 3.6))
    axis.fill_between(sizes, low, high, alpha=0.2, label="90 % interval")
    axis.plot(sizes, median, label="power law")
    axis.plot(*zip(*runs, strict=True), "o", markersize=4, label="runs")
    if target is not None:
        axis.axhline(target, linestyle=":", color="gray", label=f"target {target:g}")
    axis.set_xscale("log")
    axis.set_xlabel("training sentences")
    axis.set_ylabel("score")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    picture.savefig(folder / "forecast.png", dpi=130)


if __name__ == "__main__":
    sys.exit(main())
