"""What the documents say can be typed can be typed."""

import re
import shlex

import pytest

from tests.pipelines.runs import ROOT
from trellis.pipelines import reference
from trellis.pipelines.configuration import Tree

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page):
    for line in re.findall(r"^(?:    |\$ )?(?:\w+=\S+ )*python train\.py (.*)$", page.read_text(), re.M):
        yield shlex.split(line.split("  #")[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_compose(page):
    for arguments in commands(page):
        overrides = [argument for argument in arguments if "=" in argument]
        Tree().check(overrides, multirun="-m" in arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_runs(page):
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
        exec(compile(code, page.name, "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
        assert (page.parent / target).exists(), target


def test_the_page_of_settings_is_the_one_that_the_schemas_make():
    assert (ROOT / "docs" / "reference" / "settings.md").read_text() == reference.page(Tree())
