"""Check every local link of the built site, and that it loads nothing from elsewhere, without the network.

Sphinx itself checks links between Markdown pages; this check reads the HTML, so it covers raw HTML, pictures,
downloads, scripts and styles too.
"""

import functools
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}


class _Page(HTMLParser):
    """The ids, links and loaded resources of an HTML file."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.ids.add(value)
            if name in ("href", "src"):
                (self.loaded if (tag, name) in LOADED else self.links).append(value)


@functools.cache
def _read(file: Path) -> _Page:
    page = _Page()
    page.feed(file.read_text(encoding="utf-8"))
    return page


def broken_links(site: Path) -> list[str]:
    """Return one line for each link or resource of a built site that leads nowhere, or loads from elsewhere."""
    _read.cache_clear()
    problems = []
    for file in sorted(site.rglob("*.html")):
        page, shown = _read(file), file.relative_to(site)
        for target in page.loaded + page.links:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.loaded and parts.scheme != "data":
                    problems.append(f"{shown}: loads {target}")
                continue
            path = file.parent / unquote(parts.path) if parts.path else file
            if path.is_dir():
                path /= "index.html"
            if not path.exists():
                problems.append(f"{shown}: no such page: {target}")
            elif parts.fragment and path.suffix == ".html" and unquote(parts.fragment) not in _read(path).ids:
                problems.append(f"{shown}: no such place in the page: {target}")
    return problems


def _check(app: Sphinx, exception: Exception | None) -> None:
    if not exception and app.builder.name == "html":
        for problem in broken_links(Path(app.outdir)):
            log.warning("%s", problem)


def setup(app: Sphinx) -> dict[str, bool]:
    """Check when the build is done."""
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
