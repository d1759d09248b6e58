"""The directive `command-help`: what `trellis COMMAND --help` prints, for every command."""

import os
import subprocess
import sys

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from trellis.__main__ import COMMANDS
from trellis.label import ACTIONS


class CommandHelp(Directive):
    """Write a section for each command of `trellis`."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        sections: list[nodes.Node] = []
        for name, command in COMMANDS.items():
            section = nodes.section(ids=[f"trellis-{name}"])
            section += nodes.title("", f"trellis {name}")
            pages = [[name], *([name, action] for action in (ACTIONS if name == "label" else ()))]
            text = "\n\n\n".join(_help(*page, "--help") for page in pages)
            section += nodes.literal_block(text, text, language="text")
            extra = f" It needs the extra {command.extra}." if command.extra else ""
            section.insert(1, nodes.paragraph("", f"{command.help[0].upper()}{command.help[1:]}.{extra}"))
            sections.append(section)
        return sections


def _help(*arguments: str) -> str:
    """Return what a command prints on 100 columns."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "trellis", *arguments], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout.rstrip()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
