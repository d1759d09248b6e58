"""Train a model from a clone: `python train.py --help` shows the choices. Elsewhere the command is `trellis train`."""

import importlib.util
import sys
from pathlib import Path


def use_clone() -> None:
    """Let `import trellis` find the code of this clone, whatever package is installed."""
    root = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        "trellis", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["trellis"] = module
    spec.loader.exec_module(module)


def main() -> int:
    """Run `trellis train` on this clone; return its exit status."""
    use_clone()
    try:
        from trellis.pipelines import command_line
    except ModuleNotFoundError as error:
        hint = "run `make train`, or: source .venv/bin/activate"
        print(f"train.py: error: {error.name} is not installed here; {hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return command_line.main(program="train.py")


if __name__ == "__main__":
    sys.exit(main())
