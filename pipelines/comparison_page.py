"""A comparison of configurations as one HTML page."""

import html
import statistics
from collections.abc import Iterable, Sequence

from trellis.components.metrics.direction import is_better
from trellis.components.metrics.significance import Bootstrap
from trellis.pipelines.comparison import Comparison, Difference
from trellis.pipelines.pages import page

_STYLE = (
    "body{max-width:80em}"
    "table{border-collapse:collapse;margin:.5em 0 1.5em}caption{text-align:left;color:#666}"
    "th{font-weight:normal;color:#666;text-align:right}th,td{padding:.15em .9em .15em 0;border-top:1px solid #ddd}"
    "td{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}"
    "td:first-child,th:first-child{text-align:left;white-space:normal}h2{margin:1.6em 0 .2em;font-size:20px}"
    ".g{background:#e2f2e4}.b{background:#fbdcd9}svg{vertical-align:middle}"
)
_WIDTH, _HEIGHT = 220, 18


def render(compared: Comparison, labels: Sequence[str], common: Sequence[str]) -> str:
    """Return the page.

    Args:
        labels: the settings of each configuration, the baseline first.
        common: the settings that all of them share.
    """
    baseline = html.escape(labels[0])
    introduction = (
        f"{html.escape(compared.name)} on {compared.units}. Differences are from the first configuration, "
        f"<i>{baseline}</i>. Green: better, red: worse, and the 95 % interval excludes zero."
    )
    return page("Comparison", " · ".join([compared.name, *common]), introduction, _sections(compared, labels), _STYLE)


def p_value(value: float) -> str:
    """Return a p-value with three decimals, or `<0.001`."""
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _sections(compared: Comparison, labels: Sequence[str]) -> Iterable[str]:
    yield "<h2>Scores of the seeds</h2>"
    low, high = min(map(min, compared.scores)), max(map(max, compared.scores))
    rows = []
    for label, scores in zip(labels, compared.scores, strict=True):
        spread = f"{statistics.stdev(scores):.4f}" if len(scores) > 1 else "–"
        rows.append(_row(label, f"{statistics.mean(scores):.4f}", spread, str(len(scores)), _dots(scores, low, high)))
    yield _table(("settings", "mean", "standard deviation", "runs", f"each run, {low:.4f} to {high:.4f}"), rows)
    yield "<h2>Differences</h2>"
    reach = max(
        (abs(end) for each in compared.differences for interval in _intervals(each) for end in interval), default=0.0
    )
    rows = []
    for label, difference in zip(labels[1:], compared.differences, strict=True):
        bootstrap, randomization, seeds = difference
        rows.append(
            _row(
                label,
                _mark(compared.name, bootstrap.difference, bootstrap.low, bootstrap.high),
                f"{bootstrap.low:+.4f} to {bootstrap.high:+.4f}",
                html.escape(p_value(bootstrap.p_value)),
                html.escape(p_value(randomization)),
                "–" if seeds is None else f"{seeds.low:+.4f} to {seeds.high:+.4f}",
                "–" if seeds is None else html.escape(p_value(seeds.p_value)),
                _lines(difference, reach),
            )
        )
    columns = ("difference", "95 % interval", "p bootstrap", "p randomization", "95 % interval, seeds", "p seeds")
    yield _table(("settings", *columns, f"±{reach:.4f}"), rows)
    yield (
        "<p>The first interval and the p-values after it are about these trained models on other texts. Those with "
        "seeds add the variance over seeds and are about the configurations. The p-values are not corrected for "
        "several comparisons. In the picture, the thick line is the first interval, the thin line the one with "
        "seeds.</p>"
    )
    yield from _breakdown(compared, labels)


def _breakdown(compared: Comparison, labels: Sequence[str]) -> Iterable[str]:
    """Yield a table for each dimension of the breakdown."""
    for dimension in dict.fromkeys(group.dimension for group in compared.groups):
        yield f"<h2>By {html.escape(dimension)}</h2>"
        rows = []
        for group in compared.groups:
            if group.dimension == dimension:
                marked = [
                    f"{score:.4f} {_mark(compared.name, each.difference, each.low, each.high)}"
                    for score, each in zip(group.scores[1:], group.differences, strict=True)
                ]
                rows.append(_row(group.name, f"{group.size:,}", f"{group.scores[0]:.4f}", *marked))
        yield _table((dimension, "size", *labels), rows)
    for dimension in compared.undivided:
        yield f"<p>No scores by {html.escape(dimension)}: it differs between the runs.</p>"


def _table(columns: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _row(label: str, *cells: str) -> str:
    """Return a row whose label is text and whose other cells are HTML."""
    return f"<tr><td>{html.escape(label)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _mark(metric: str, difference: float, low: float, high: float) -> str:
    """Return a difference, colored where its interval excludes zero."""
    text = f"{difference:+.4f}"
    if low <= 0 <= high:
        return text
    return f"<span class={'g' if is_better(difference, 0.0, metric) else 'b'}>{text}</span>"


def _intervals(difference: Difference) -> list[tuple[float, float]]:
    bootstrap: Bootstrap = difference.bootstrap
    intervals = [(bootstrap.low, bootstrap.high)]
    if difference.seeds is not None:
        intervals.append((difference.seeds.low, difference.seeds.high))
    return intervals


def _dots(scores: Sequence[float], low: float, high: float) -> str:
    """Return a picture of scores between the lowest and the highest of all configurations."""
    marks = "".join(
        f'<circle cx="{_place(score, low, high):.1f}" cy="{_HEIGHT / 2}" r="4" fill="#1c62b5" fill-opacity=".55">'
        f"<title>{score:.4f}</title></circle>"
        for score in scores
    )
    return _picture(f'<path d="M0 {_HEIGHT / 2}H{_WIDTH}" stroke="#ddd"/>{marks}')


def _lines(difference: Difference, reach: float) -> str:
    """Return a picture of the intervals of a difference around zero."""
    middle, lines = _HEIGHT / 2, []
    for (low, high), width in zip(_intervals(difference), (5, 1.5), strict=False):
        start, end = (_place(value, -reach, reach) for value in (low, high))
        lines.append(f'<path d="M{start:.1f} {middle}H{end:.1f}" stroke="#1c62b5" stroke-width="{width}"/>')
    at = _place(difference.bootstrap.difference, -reach, reach)
    zero = f'<path d="M{_WIDTH / 2} 0V{_HEIGHT}" stroke="#888" stroke-dasharray="2"/>'
    return _picture(f'{zero}{"".join(lines)}<circle cx="{at:.1f}" cy="{middle}" r="3.5" fill="#222"/>')


def _place(value: float, low: float, high: float) -> float:
    """Return where a value is in a picture, away from its edges."""
    share = (value - low) / (high - low) if high > low else 0.5
    return 6 + share * (_WIDTH - 12)


def _picture(content: str) -> str:
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img">{content}</svg>'
