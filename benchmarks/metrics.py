"""What automatic metrics see of what people see: the figures of docs/explanation/what_bleu_does_not_see.md.

python -m benchmarks.metrics [--data FOLDER]

FOLDER is where the corpora are; by default $TRELLIS_DATA. The E2E challenge has the outputs of eleven systems and
ratings of their quality and naturalness; MLQE-PE has a thousand Estonian-English translations with two references and
direct assessments. It takes a minute of one core.
"""

import argparse
import csv
import gzip
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from scipy import stats

from trellis.components.metrics.attribute_coverage import attribute_coverage
from trellis.components.metrics.correlation import correlations
from trellis.components.metrics.significance import paired_randomization
from trellis.components.metrics.translation import segment_scores, translation_metric
from trellis.components.readers.lines import read_lines

SYSTEMS = ("slug", "tgen", "zhang", "harv", "tr1", "sheff1", "dangnt", "chen", "tuda", "adapt", "tr2")
METRICS = ("bleu_13a_lc", "chrf_lc", "chrf")
SEGMENT_METRICS = ("bleu_13a", "chrf", "chrfpp", "ter", "meteor")
JUDGEMENTS = ("quality", "naturalness")


def lines(path: Path) -> list[str]:
    """Return the lines of a file."""
    return [line for _, line in read_lines(path)]


def e2e_references(folder: Path) -> dict[str, list[str]]:
    """Return the references of each meaning representation of the test part, in order of first occurrence."""
    references: dict[str, list[str]] = {}
    with gzip.open(folder / "e2e" / "test.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            references.setdefault(row["mr"], []).append(row["ref"])
    return references


def attributes(representation: str) -> dict[str, str]:
    """Return the attributes of a meaning representation such as `name[Zizzi], area[riverside]`."""
    return {name.strip(): value for name, value in re.findall(r"([^,\[]+)\[([^\]]*)\]", representation)}


def wins(folder: Path, judgement: str) -> dict[str, float]:
    """Return the percentage of comparisons that each system wins.

    People rated the outputs of about five systems for a meaning representation side by side, by magnitudes of their own
    (one gave 111,111): only the order of such a group is comparable. A tie is half a win.
    """
    groups: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    with gzip.open(folder / "e2e" / "ratings.tsv.gz", "rt", encoding="utf-8", newline="\n") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["kind"] == judgement:
                groups[row["rater"], row["mr"]][row["system"]] = float(row["score"])
    won: dict[str, list[float]] = defaultdict(list)
    for scores in groups.values():
        for system, score in scores.items():
            won[system] += [
                100 * ((score > other) + (score == other) / 2) for name, other in scores.items() if name != system
            ]
    return {system: sum(each) / len(each) for system, each in won.items()}


def e2e(folder: Path) -> None:
    """Print the scores of the systems, their correlations with ratings, and which neighbours differ significantly."""
    texts = e2e_references(folder)
    count = max(map(len, texts.values()))
    references = [[each[index] if index < len(each) else None for each in texts.values()] for index in range(count)]
    metrics = {name: translation_metric(name, tokenized=False) for name in METRICS}
    share = {judgement: wins(folder, judgement) for judgement in JUDGEMENTS}
    columns = [*METRICS, "coverage"]
    table: dict[str, dict[str, float]] = {}
    statistics = {}
    print("E2E: systems\n")
    print_table(["system", *columns, *JUDGEMENTS], [])
    for system in SYSTEMS:
        outputs = lines(folder / "e2e" / "systems" / f"{system}.txt.gz")
        row = {}
        for name, metric in metrics.items():
            rows = metric.statistics(outputs, references)
            row[name] = metric.score(rows.sum(axis=0))
            if name == METRICS[0]:
                statistics[system] = rows
        row["coverage"] = 100 * attribute_coverage(zip(map(attributes, texts), outputs, strict=True))
        table[system] = row | {judgement: share[judgement][system] for judgement in JUDGEMENTS}
        print_row([system, *map("{:.2f}".format, table[system].values())])
    print("\nE2E: Pearson correlation over systems with its 95 % interval, and Spearman's\n")
    print_table(
        ["score", *JUDGEMENTS], ([name, *(agreement(table, name, each) for each in JUDGEMENTS)] for name in columns)
    )
    print(f"\nE2E: p-values of a difference in {METRICS[0]} by approximate randomization\n")
    metric = metrics[METRICS[0]]
    neighbours = zip(SYSTEMS[1:], SYSTEMS, strict=False)
    print_table(
        ["systems", "difference", "p"],
        (
            [
                f"{better}, {worse}",
                f"{table[better][METRICS[0]] - table[worse][METRICS[0]]:.2f}",
                f"{paired_randomization(metric.score, statistics[worse], statistics[better]):.4f}",
            ]
            for worse, better in neighbours
        ),
    )


def agreement(table: Mapping[str, Mapping[str, float]], name: str, judgement: str) -> str:
    """Return the correlations of two columns."""
    scores, judgements = ([row[column] for row in table.values()] for column in (name, judgement))
    low, high = stats.pearsonr(scores, judgements).confidence_interval()
    both = correlations(scores, judgements)
    return f"{both['pearson']:.3f} ({low:.2f} to {high:.2f}), {both['spearman']:.3f}"


def mlqe(folder: Path) -> None:
    """Print how scores of segments correlate with direct assessments."""
    place = folder / "mlqe_et_en_multiref"
    hypotheses, first, second = (lines(place / f"{name}.en.gz") for name in ("mt", "ref1", "ref2"))
    judgements = [float(line) for line in lines(place / "da_z.txt.gz")]
    rows = []
    for name in SEGMENT_METRICS:
        cells = []
        for references in ([first], [second], [first, second]):
            scores = segment_scores(hypotheses, references, tokenized=False, names=[name], language="en")[name]
            cells.append(f"{correlations(scores, judgements)['pearson']:.3f}")
        rows.append([name, *cells])
    print("\nMLQE-PE Estonian-English: Pearson correlation of the scores of segments with direct assessments\n")
    print_table(["score", "reference 1", "reference 2", "both"], rows)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    for row in (header, ["---"] * len(header), *rows):
        print_row(row)


def print_row(cells: Sequence[str]) -> None:
    """Print a row of a table, at once: the next one may take a minute."""
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("TRELLIS_DATA"), help="folder of the corpora")
    folder = parser.parse_args().data
    if folder is None:
        parser.error("--data FOLDER is required without TRELLIS_DATA")
    e2e(folder)
    mlqe(folder)


if __name__ == "__main__":
    main()
