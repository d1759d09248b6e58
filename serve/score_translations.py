"""Score translations: `trellis score-translations output.de reference.de`

Files are plain or gzip text with one segment per line. Several references may follow; an empty line in one of them
means that the segment has no such reference. Each score is printed with its signature, which says how it was
computed. Text is raw unless `--tokenized` says that it is tokens separated by spaces. Metrics:

{metrics}
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from trellis.components.command import CommandParser, run_command
from trellis.components.errors import InputError, quoted
from trellis.components.metrics.correlation import correlations
from trellis.components.metrics.significance import paired_bootstrap, paired_randomization
from trellis.components.metrics.translation import DEFINITIONS, default_names, translation_metric
from trellis.components.metrics.translation_metric import References, Statistics, TranslationMetric
from trellis.components.readers.lines import read_lines

SAMPLES, TRIALS = 1000, 10_000


class _Evaluation(NamedTuple):
    """What is to be scored, and how."""

    options: argparse.Namespace
    metrics: Mapping[str, TranslationMetric]
    references: References
    hypotheses: Sequence[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    width = max(map(len, DEFINITIONS))
    metrics = "\n".join(f"  {name:<{width}}  {each.meaning}" for name, each in DEFINITIONS.items())
    parser = CommandParser("trellis score-translations", (__doc__ or "").format(metrics=metrics))
    parser.add_argument("hypotheses", help="file of translations")
    parser.add_argument("references", nargs="+", help="file of reference translations")
    parser.add_argument("--tokenized", action="store_true", help="the files are tokens separated by spaces")
    parser.add_argument(
        "--metric",
        metavar="NAME,…",
        help="the metrics, such as bleu_13a,chrf (by default all BLEU that suits the text, chrF, chrF++ and TER)",
    )
    parser.add_argument("--language", metavar="CODE", help="language of the texts, such as en; adds METEOR")
    outputs = parser.add_mutually_exclusive_group()
    outputs.add_argument(
        "--segments", action="store_true", help="print the scores of each segment, one line per segment"
    )
    outputs.add_argument(
        "--compare",
        metavar="FILE",
        help="file of translations by a baseline: test whether the difference is significant",
    )
    outputs.add_argument(
        "--human", metavar="FILE", help="file of human scores, one per segment: print how scores of segments correlate"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with --segments one object per segment")
    return run_command(parser, _score, parser.parse_args(arguments))


def _score(options: argparse.Namespace) -> None:
    metrics = _metrics(options)
    hypotheses = _read(options.hypotheses)
    if not options.tokenized:
        _note_tokenized(options.hypotheses, hypotheses)
    references = _references(options, hypotheses)
    if options.compare is not None:
        report = _compared
    elif options.human is not None:
        report = _correlated
    else:
        report = _segments if options.segments else _corpus
    for line in report(_Evaluation(options, metrics, references, hypotheses)):
        print(line)


def _metrics(options: argparse.Namespace) -> dict[str, TranslationMetric]:
    """Return the metrics to compute.

    Raises:
        InputError: there is no such metric, or it does not suit the text, the references or the language.
    """
    if options.metric is None:
        names = [*default_names(options.tokenized), *(["meteor"] if options.language else [])]
    else:
        names = [name for name in options.metric.split(",") if name]
        if not names:
            raise InputError("--metric: names no metric; such as bleu_13a,chrf")
    metrics = {}
    for name in names:
        try:
            metrics[name] = translation_metric(name, tokenized=options.tokenized, language=options.language)
        except ValueError as error:
            option = "--language" if name == "meteor" and options.language else "--metric"
            raise InputError(f"{option}: {error}") from None
    if options.language and "meteor" not in metrics:
        raise InputError(f"--language {options.language}: has no effect without METEOR; add meteor to --metric")
    if "hter" in metrics and len(options.references) > 1:
        raise InputError(f"--metric hter: {len(options.references)} references; a translation has one post-edit")
    return metrics


def _read(path: str) -> list[str]:
    """Return the lines of a file.

    Raises:
        InputError: the file is missing, unreadable, empty, or not UTF-8.
    """
    lines = [line for _, line in read_lines(path)]
    if not lines:
        raise InputError(f"{path}: empty")
    return lines


def _aligned(path: str, options: argparse.Namespace, hypotheses: Sequence[str]) -> list[str]:
    """Return the lines of a file that has as many as the hypotheses.

    Raises:
        InputError: it has another number.
    """
    lines = _read(path)
    if len(lines) != len(hypotheses):
        raise InputError(f"{path} has {len(lines):,} lines, {options.hypotheses} has {len(hypotheses):,}")
    return lines


def _references(options: argparse.Namespace, hypotheses: Sequence[str]) -> References:
    """Return one list per file; None for empty lines.

    Raises:
        InputError: a file has another number of lines, or a segment has no reference.
    """
    files = [_aligned(path, options, hypotheses) for path in options.references]
    for row, texts in enumerate(zip(*files, strict=True), 1):
        if not any(text.strip() for text in texts):
            others = " or any other reference" if len(files) > 1 else ""
            raise InputError(f"{options.references[0]}:{row}: empty{others}; every segment needs a reference")
    return [[text if text.strip() else None for text in lines] for lines in files]


def _note_tokenized(path: str, hypotheses: Sequence[str]) -> None:
    """Tell the user if raw text looks tokenized."""
    count = sum(line.rstrip().endswith((" .", " ?", " !")) for line in hypotheses)
    if count > len(hypotheses) / 2:
        print(
            f"note: {path}: {count:,} of {len(hypotheses):,} lines end in a space and a full stop; "
            "use --tokenized for tokenized text",
            file=sys.stderr,
        )


def _corpus(evaluation: _Evaluation) -> Iterator[str]:
    options, metrics, references, hypotheses = evaluation
    scores = {
        name: metric.score(metric.statistics(hypotheses, references).sum(axis=0)) for name, metric in metrics.items()
    }
    signatures = {name: metric.signature(references) for name, metric in metrics.items()}
    if options.json:
        yield _json(segments=len(hypotheses), scores=scores, signatures=signatures)
        return
    width = max(map(len, metrics))
    for name, score in scores.items():
        yield f"{name:<{width}}  {score:6.2f}  {signatures[name]}"


def _segments(evaluation: _Evaluation) -> Iterator[str]:
    options, metrics, references, hypotheses = evaluation
    scores = _segment_scores(metrics, references, hypotheses)
    if not options.json:
        yield "\t".join(scores)
    for row in zip(*scores.values(), strict=True):
        yield _json(**dict(zip(scores, row, strict=True))) if options.json else "\t".join(f"{each:.4f}" for each in row)


def _compared(evaluation: _Evaluation) -> Iterator[str]:
    options, metrics, references, hypotheses = evaluation
    others = _aligned(options.compare, options, hypotheses)
    rows = {}
    for name, metric in metrics.items():
        baseline, system = (metric.statistics(texts, references) for texts in (others, hypotheses))
        rows[name] = _difference(metric, baseline, system)
    signatures = {name: metric.signature(references) for name, metric in metrics.items()}
    if options.json:
        yield _json(segments=len(hypotheses), compared=rows, signatures=signatures)
        return
    width = max(map(len, metrics))
    columns = ("score", "baseline", "difference", "95 % interval", "p, bootstrap", "p, randomization")
    yield "  ".join([f"{'':<{width}}", *(f"{column:>{max(8, len(column))}}" for column in columns)])
    for name, row in rows.items():
        yield (
            f"{name:<{width}}  {row['score']:8.2f}  {row['baseline']:8.2f}  {row['difference']:+10.2f}  "
            f"{row['low']:+6.2f} {row['high']:+6.2f}  {row['p_bootstrap']:12.4f}  {row['p_randomization']:16.4f}"
        )
    yield ""
    yield (
        f"{options.hypotheses} against {options.compare}; {SAMPLES:,} resampled corpora (Koehn 2004), "
        f"{TRIALS:,} random exchanges (Riezler and Maxwell 2005)"
    )
    for name, signature in signatures.items():
        yield f"{name:<{width}}  {signature}"


def _difference(metric: TranslationMetric, baseline: Statistics, system: Statistics) -> dict[str, float]:
    """Return the scores of both systems, their difference and its confidence interval, and two p-values."""
    bootstrap = paired_bootstrap(metric.score, baseline, system, SAMPLES)
    return {
        "score": metric.score(system.sum(axis=0)),
        "baseline": metric.score(baseline.sum(axis=0)),
        "difference": bootstrap.difference,
        "low": bootstrap.low,
        "high": bootstrap.high,
        "p_bootstrap": bootstrap.p_value,
        "p_randomization": paired_randomization(metric.score, baseline, system, TRIALS),
    }


def _correlated(evaluation: _Evaluation) -> Iterator[str]:
    options, metrics, references, hypotheses = evaluation
    lines = _aligned(options.human, options, hypotheses)
    judgements = [_number(line, f"{options.human}:{row}") for row, line in enumerate(lines, 1)]
    rows = {}
    for name, scores in _segment_scores(metrics, references, hypotheses).items():
        try:
            rows[name] = correlations(scores, judgements)
        except ValueError as error:
            raise InputError(f"{name} and {options.human}: {error}") from None
    signatures = {name: metric.signature(references, segments=True) for name, metric in metrics.items()}
    if options.json:
        yield _json(segments=len(hypotheses), correlations=rows, signatures=signatures)
        return
    width = max(map(len, metrics))
    yield f"{'':<{width}}  pearson  spearman  kendall"
    for name, row in rows.items():
        figures = f"{row['pearson']:7.3f}  {row['spearman']:8.3f}  {row['kendall']:7.3f}"
        yield f"{name:<{width}}  {figures}  {signatures[name]}"


def _segment_scores(
    metrics: Mapping[str, TranslationMetric], references: References, hypotheses: Sequence[str]
) -> dict[str, list[float]]:
    return {
        name: [metric.segment_score(row) for row in metric.statistics(hypotheses, references)]
        for name, metric in metrics.items()
    }


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{where}: {quoted(text)} is not a number")
    return number


def _json(**values: Any) -> str:
    return json.dumps(values, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
