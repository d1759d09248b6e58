"""The HTML pages among the reports of a run."""

import html
from collections.abc import Iterable

_STYLE = (
    "body{font:15px/1.7 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222;"
    "overflow-wrap:anywhere}"
    "h1{line-height:1.3}small{display:block;font-size:15px;font-weight:normal;color:#666}"
    ".n{color:#888;margin-right:.8em}"
    "table{display:block;overflow-x:auto}"  # on a narrow screen a wide table scrolls, not the page
)


def page(title: str, run: str, introduction: str, paragraphs: Iterable[str], style: str) -> str:
    """Return a page about a run.

    Args:
        title: what the page shows, as text.
        run: the name of the run.
        introduction: how to read the page, as HTML.
        paragraphs: the page itself, as HTML.
        style: CSS besides that of all pages.
    """
    title, run = html.escape(title), html.escape(run)
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}: {run}</title><style>{_STYLE}{style}</style>"
        f"<h1>{title} <small>{run}</small></h1><p>{introduction}</p>"
    )
    return "\n".join([head, *paragraphs]) + "\n"
