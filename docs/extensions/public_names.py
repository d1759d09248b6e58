"""Warn of public names that the API reference lacks; with `sphinx-build -W` the build fails."""

import importlib

from sphinx.application import Sphinx
from sphinx.util import logging

MODULES = ("trellis", "trellis.layers", "trellis.lattice", "trellis.tensorflow_addons")
log = logging.getLogger(__name__)


def _check(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    documented = set(app.env.domains["py"].objects)  # type: ignore[attr-defined]
    modules = {name: importlib.import_module(name) for name in MODULES}
    for module_name, module in modules.items():
        for name in module.__all__:
            if name.startswith("__"):
                continue
            subject = getattr(module, name)
            addresses = [f"{other}.{name}" for other, it in modules.items() if getattr(it, name, None) is subject]
            if not documented.intersection([getattr(subject, "__name__", name), *addresses]):
                log.warning("%s.%s is public, but the API reference does not document it", module_name, name)
            elif not getattr(subject, "__doc__", None):
                log.warning("%s.%s is public, but has no docstring", module_name, name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Check when the build is done."""
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
