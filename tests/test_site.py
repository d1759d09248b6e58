"""The checks of the documentation site (`docs/extensions`); `make docs` builds the site itself."""

import importlib.util

import pytest

from tests.pipelines.runs import ROOT


@pytest.fixture(scope="module")
def extension():
    pytest.importorskip("sphinx")

    def load(name):
        spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "extensions" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_a_link_that_leads_nowhere_is_found(extension, tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html">b</a> <a href="b.html#there">there</a> <a href="#here">here</a> <p id="here"></p>'
        '<a href="https://example.org/">not fetched</a> <img src="data:image/png;base64,AA==">'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p>')
    broken_links = extension("local_links").broken_links
    assert broken_links(tmp_path) == []
    (tmp_path / "b.html").write_text(
        '<a href="c.html">c</a> <a href="a.html#nowhere">a</a> <script src="https://example.org/x.js"></script>'
    )
    assert broken_links(tmp_path) == [
        "a.html: no such place in the page: b.html#there",
        "b.html: loads https://example.org/x.js",
        "b.html: no such page: c.html",
        "b.html: no such place in the page: a.html#nowhere",
    ]


def test_examples_in_docstrings_become_code_and_arguments_stay(extension):
    lines = ["Do it.", "", "Example:", "", "    do(1)", "", "Args:", "    x: what", "", "Like this:", "", "    do(2)"]
    assert extension("docstrings").literal_blocks(lines) == [
        "Do it.",
        "",
        ".. rubric:: Example",
        "",
        ".. code-block:: python",
        "",
        "    do(1)",
        "",
        "Args:",
        "    x: what",
        "",
        "Like this:",
        "",
        ".. code-block:: python",
        "",
        "    do(2)",
    ]
