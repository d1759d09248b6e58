"""Compare finished runs: scores with their spread over seeds, and paired tests on the same test set.

trellis compare RUN RUN …
trellis compare multirun/2026-11-21/10-30-00 --breakdown --html comparison.html --mlflow

Runs that differ only in their seed are one configuration; the first configuration is the baseline. Both
`p bootstrap` and `p randomization` ask whether these trained models would differ on other texts, and
`p seeds` whether the configurations would differ with other texts and other seeds. It needs two runs of each.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from trellis.components.command import CommandParser, run_command
from trellis.components.errors import InputError
from trellis.components.files import atomic_write
from trellis.pipelines import comparison, comparison_page, seeds
from trellis.pipelines.comparison import Comparison, Difference
from trellis.pipelines.comparison_page import p_value
from trellis.pipelines.seeds import Group
from trellis.pipelines.terminal import OutputConsole
from trellis.pipelines.tracking.comparison_run import log_comparison

COLUMNS = ("difference", "95 % interval", "p bootstrap", "p randomization", "p seeds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis compare", __doc__)
    parser.add_argument("runs", nargs="+", help="folders of runs or of sweeps")
    parser.add_argument(
        "--breakdown", action="store_true", help="show scores by type, length, seen and unseen words, …"
    )
    parser.add_argument("--html", metavar="FILE", help="write a page with all of it")
    parser.add_argument("--mlflow", action="store_true", help="record the outcome as a run in MLflow")
    return run_command(parser, _compare, parser.parse_args(arguments))


def _compare(options: argparse.Namespace) -> None:
    if options.html and not Path(options.html).absolute().parent.is_dir():
        raise InputError(f"--html: there is no folder {Path(options.html).parent}")
    groups = seeds.collect(options.runs)
    seeds.show(groups, seeds.title(groups))
    asked = next((f"--{name}" for name in ("breakdown", "html", "mlflow") if getattr(options, name)), None)
    if len(groups) < 2:
        if asked:
            raise InputError(f"{asked}: all runs have the same settings; give two configurations to compare")
        return
    try:
        compared = comparison.compare([group.folders for group in groups])
    except InputError:
        # A sweep may be one over datasets; runs that are named one by one are meant to be compared.
        if len(options.runs) > 1 or asked:
            raise
        return
    common, labels = seeds.label_differences(groups)
    _show(compared, labels)
    if options.breakdown:
        _show_breakdown(compared, labels)
    if not (options.html or options.mlflow):
        return
    page, written = comparison_page.render(compared, labels, common), []
    with contextlib.ExitStack() as stack:
        if options.html:
            part = stack.enter_context(atomic_write(Path(options.html)))
            part.write_text(page, encoding="utf-8")
            written.append(f"page     {options.html}")
        if options.mlflow:
            written.append(f"tracked  {_log(groups, compared, labels, page)}")
    print("", *written, sep="\n")


def row(difference: Difference) -> list[str]:
    """Return the cells of a difference, under `COLUMNS`."""
    bootstrap, randomization, of_seeds = difference
    return [
        f"{bootstrap.difference:+.4f}",
        f"{bootstrap.low:+.4f} to {bootstrap.high:+.4f}",
        p_value(bootstrap.p_value),
        p_value(randomization),
        "–" if of_seeds is None else p_value(of_seeds.p_value),
    ]


def _show(compared: Comparison, labels: Sequence[str]) -> None:
    """Print the difference of each configuration to the baseline."""
    columns = [column.replace("p ", "p\n").replace("random", "random-\n") for column in COLUMNS]  # to save width
    table = _table(f"{compared.name}, difference from {labels[0]}, {compared.units}:", columns)
    for label, difference in zip(labels[1:], compared.differences, strict=True):
        table.add_row(escape(label), *row(difference))
    _print(table)


def _show_breakdown(compared: Comparison, labels: Sequence[str]) -> None:
    """Print a table for each dimension, with a star where the interval of a difference excludes zero."""
    for dimension in dict.fromkeys(group.dimension for group in compared.groups):
        table = _table(f"{compared.name} by {dimension}:", ("size", *labels))
        for group in compared.groups:
            if group.dimension == dimension:
                stars = ["", *("*" if each.low > 0 or each.high < 0 else " " for each in group.differences)]
                scores = (f"{score:.4f}{star}" for score, star in zip(group.scores, stars, strict=True))
                table.add_row(escape(group.name), f"{group.size:,}", *scores)
        _print(table)
    for dimension in compared.undivided:
        print(f"\nno scores by {dimension}: it differs between the runs")
    if compared.groups:
        print(f"\n* the 95 % interval of the difference from {labels[0]} excludes zero")


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    for column in columns:
        table.add_column(escape(column), justify="right", no_wrap="95" in column)
    return table


def _print(table: Table) -> None:
    console = OutputConsole(highlight=False)
    console.print()
    console.print(table)


def _log(groups: Sequence[Group], compared: Comparison, labels: Sequence[str], page: str) -> str:
    """Record a comparison in MLflow; return where it is."""
    metrics: dict[str, float] = {}
    for label, (bootstrap, randomization, of_seeds) in zip(labels[1:], compared.differences, strict=True):
        values = {"difference": bootstrap.difference, "low": bootstrap.low, "high": bootstrap.high}
        values |= {"p_bootstrap": bootstrap.p_value, "p_randomization": randomization}
        if of_seeds is not None:
            values["p_seeds"] = of_seeds.p_value
        metrics |= {f"{compared.name}/{name}/{label}": value for name, value in values.items()}
    rows = [[label, *row(each)] for label, each in zip(labels[1:], compared.differences, strict=True)]
    description = "\n\n".join(
        (
            f"{compared.name}, difference from {labels[0]}, {compared.units}",
            seeds.markdown_table(["settings", *COLUMNS], rows),
        )
    )
    folders = [folder for group in groups for folder in group.folders]
    return log_comparison(f"comparison · {' · '.join(labels)}", description, metrics, page, folders)


if __name__ == "__main__":
    sys.exit(main())
