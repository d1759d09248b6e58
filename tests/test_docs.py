"""What the documents say can be typed can be typed."""

import ast
import inspect
import re
import shlex

import pytest

import trellis
from tests.pipelines.runs import ROOT
from trellis.pipelines import reference
from trellis.pipelines.configuration import Tree

TUTORIALS = [path for path in sorted((ROOT / "docs" / "tutorials").glob("*.md")) if path.stem != "index"]
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


def test_every_picture_is_shown_on_a_page_that_names_its_command():
    """Pictures of tutorials are made when these run."""
    for picture in sorted((ROOT / "docs").rglob("*.png")):
        (page,) = (page for page in PAGES if f"{picture.parent.name}/{picture.name})" in page.read_text())
        before = " ".join(page.read_text().partition(f"{picture.name})")[0].split())
        assert f"`reports/{picture.name}` of `python train.py " in before[-400:]


def test_the_page_of_settings_is_the_one_that_the_schemas_make():
    assert (ROOT / "docs" / "reference" / "settings.md").read_text() == reference.page(Tree())


# Tutorials: the names, arguments and settings that they use are there. `make docs` runs them all, CI two of them.


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda page: page.stem)
def test_what_a_tutorial_uses_is_there(tutorial):
    code = "\n".join(re.findall(r"^```\{code-cell\}\n(?::[^\n]*\n)*(.*?)^```", tutorial.read_text(), re.S | re.M))
    nodes = list(ast.walk(ast.parse(code)))
    assert nodes[1:]
    names = {}
    exec("\n".join(ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)), names)

    def resolved(node):
        """What `trellis.lattice.viterbi` is; None for what a cell makes."""
        if isinstance(node, ast.Attribute) and (owner := resolved(node.value)) is not None:
            return getattr(owner, node.attr)
        return names.get(node.id) if isinstance(node, ast.Name) else None

    tuples = {
        node.targets[0].id: [each.value for each in node.value.elts if isinstance(each, ast.Constant)]
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Tuple)
    }
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        function = resolved(call.func)
        if not (getattr(function, "__module__", None) or "").startswith("trellis."):
            continue
        parameters = inspect.signature(function).parameters
        if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            assert {keyword.arg for keyword in call.keywords if keyword.arg} <= set(parameters), ast.unparse(call)
        if function is trellis.train:
            written = [each.value for each in call.args if isinstance(each, ast.Constant)]
            named = [each.value.id for each in call.args if isinstance(each, ast.Starred)]
            Tree().check([*written, *(override for name in named for override in tuples.get(name, ()))])
