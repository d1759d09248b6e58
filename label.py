"""What and how much to label, and which labels are wrong.

  trellis label suggest EXPORT TEXTS     ranks texts by how unsure a tagger is of them, for annotation tools
  trellis label forecast data=… …        estimates how many more sentences a target score needs
  trellis label errors data=… …          lists labels that models trained without them find improbable

trellis label suggest --help explains the first, and so on.
"""

import importlib
import sys
from collections.abc import Sequence

from trellis.components.command import output, report_error
from trellis.components.errors import nearest

ACTIONS = {
    "suggest": "trellis.serve.label",
    "forecast": "trellis.pipelines.forecast",
    "errors": "trellis.pipelines.label_errors",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an action; return its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        with output("trellis label"):
            print(__doc__, end="")
        return 0
    if name not in ACTIONS:
        unknown = f"{name}: no such action; did you mean {nearest(name, ACTIONS)}?"
        report_error("trellis label", unknown if name else "no action; use trellis label suggest, forecast or errors")
        return 2
    status: int = importlib.import_module(ACTIONS[name]).main(arguments[1:])
    return status


if __name__ == "__main__":
    sys.exit(main())
