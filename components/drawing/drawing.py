"""Interactive drawings as self-contained HTML: no server, no script or style from elsewhere."""

import hashlib
import html
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from trellis.components.files import atomic_write
from trellis.components.types import FilePath


class Drawing:
    """HTML that a notebook displays, and that can be saved as a page.

    Attributes:
        html: the drawing, one `<div>` with its style, its numbers and its script.
        title: what it shows.
    """

    def __init__(self, content: str, title: str, script: str | None = None, numbers: Any = None) -> None:
        self.title = title
        parts = [f"<style>{_asset('drawing.css')}</style>", content]
        if numbers is not None:
            # A "</script>" in a token must not end the element.
            encoded = json.dumps(numbers, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
            parts.append(f'<script type="application/json">{encoded}</script>')
        body = "".join(parts)
        key = "drawing-" + hashlib.sha256((body + title).encode()).hexdigest()[:12]
        if script:
            body += f"<script>{_asset(script).replace('DRAWING', key)}</script>"
        self.html = (
            f'<div class="trellis-drawing" data-drawing="{key}" role="group" aria-label="{html.escape(title)}">'
            f"{body}</div>"
        )

    def _repr_html_(self) -> str:
        """Return what Jupyter displays."""
        return self.html

    def __repr__(self) -> str:
        return f"Drawing({self.title!r}); display it in a notebook, or save(path) it as a page"

    def save(self, path: FilePath) -> None:
        """Write the drawing as an HTML page.

        Args:
            path: the file to write.
        """
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>{html.escape(self.title)}</title><style>:root {{ color-scheme: light dark }} "
            f"body {{ margin: 1rem; font-family: system-ui, sans-serif }}</style></head><body>{self.html}</body></html>"
        )
        with atomic_write(Path(path)) as part:
            part.write_text(page, encoding="utf-8")


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8").strip()


def grid(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    corner: str = "",
    marked: np.ndarray | None = None,
    digits: int = 3,
) -> str:
    """Return a table of numbers, the larger the darker.

    Args:
        values: `(rows, columns)`; NaN leaves a cell empty.
        rows, columns: the names on the axes.
        corner: what the axes are.
        marked: booleans `(rows, columns)`: cells with a frame.
        digits: after the decimal point.
    """
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    largest = max(1.0, float(np.nanmax(values, initial=0.0)))
    lines = [f'<table><tr><td class="corner">{html.escape(corner)}</td>{head}</tr>']
    for index, name in enumerate(rows):
        cells = []
        for column, value in enumerate(values[index].tolist()):
            if np.isnan(value):
                cells.append("<td></td>")
                continue
            frame = ' class="marked"' if marked is not None and marked[index, column] else ""
            cells.append(f'<td{frame} style="--heat:{value / largest:.3f}">{value:.{digits}f}</td>')
        lines.append(f'<tr><th scope="row">{html.escape(name)}</th>{"".join(cells)}</tr>')
    return "".join([*lines, "</table>"])


def steps(sections: Sequence[tuple[str, str]], label: str) -> str:
    """Return sections of which a slider shows one at a time; without scripts, all of them.

    Args:
        sections: `(heading, content)` of each.
        label: what the slider chooses.
    """
    control = (
        f'<label class="steps" hidden>{html.escape(label)} <input type="range" min="1" max="{len(sections)}" '
        'value="1"> <output></output></label>'
    )
    shown = (
        f'<section data-step="{index}"><p class="heading">{html.escape(heading)}</p>{content}</section>'
        for index, (heading, content) in enumerate(sections, 1)
    )
    return control + "".join(shown)
