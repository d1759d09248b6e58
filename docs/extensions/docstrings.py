"""Read the docstrings of Trellis, which mark code as Markdown does, as reStructuredText.

Examples and other indented blocks become literal blocks, and a layer's signature is that of its `__init__`.
"""

import inspect
import re
from collections.abc import Sequence
from typing import Any

from sphinx.application import Sphinx

SECTION = re.compile(r"^(Args|Arguments|Attributes|Returns|Yields|Raises|Call arguments):$")
EXAMPLE = re.compile(r"^(Examples?):$")


def literal_blocks(lines: Sequence[str]) -> list[str]:
    """Return the lines of a docstring with its indented blocks outside of sections as code blocks."""
    written: list[str] = []
    in_section = in_block = False
    for line in lines:
        indented = line.startswith("    ")
        if line and not indented:
            in_section, in_block = bool(SECTION.match(line)), False
            heading = EXAMPLE.match(line)
            written += [f".. rubric:: {heading[1]}"] if heading else [line]
            continue
        if indented and not in_section and not in_block and (not written or not written[-1]):
            written += [".. code-block:: python" if _is_python(lines) else "::", ""]
            in_block = True
        written.append(line)
    return written


def _is_python(lines: Sequence[str]) -> bool:
    return any(re.search(r"^    .*(\w\(|import )", line) for line in lines)


def _process_docstring(app: Sphinx, kind: str, name: str, subject: Any, options: Any, lines: list[str]) -> None:
    lines[:] = literal_blocks(lines)


def _process_signature(
    app: Sphinx, kind: str, name: str, subject: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Keras defines `__new__(*args, **kwargs)`, which Sphinx would show."""
    if kind != "class" or signature not in ("(*args, **kwargs)", "(*args: Any, **kwargs: Any)"):
        return signature, returned
    if "__init__" not in vars(subject) and not any("__init__" in vars(base) for base in _own(subject)):
        return "", returned
    parameters = list(inspect.signature(subject.__init__).parameters.values())[1:]
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(bare)), returned


def _own(subject: type) -> list[type]:
    return [base for base in subject.__mro__ if base.__module__.startswith("trellis.")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to autodoc, before napoleon."""
    app.connect("autodoc-process-docstring", _process_docstring, priority=100)
    app.connect("autodoc-process-signature", _process_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
