"""The first answer of an export: `trellis predict` beside TensorFlow's Python package, each in a process of its own.

python -m benchmarks.first_answer EXPORT TEXT [--rounds 5]

EXPORT is one that takes texts, such as a tagger. The peers import TensorFlow and nothing more; and import it, load the
export, and ask it the same. All are started in turn.
"""

import argparse
import importlib.metadata
import statistics
import subprocess
import sys
import time
from pathlib import Path

from trellis.components.saved_model.versions import latest, read_metadata

ROOT = Path(__file__).parents[1]
IMPORT = "import tensorflow"
LOADED = """
import sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
model.signatures[sys.argv[3]](text=tf.constant([sys.argv[2]]))
"""


def seconds(command: list[str]) -> float:
    """Return the time that a command takes, from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export")
    parser.add_argument("text")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    version = str(latest(options.export).resolve())
    signatures = read_metadata(version)["signatures"]
    signature = next(name for name, each in signatures.items() if list(each["inputs"]) == ["text"])
    python = [sys.executable, "-c"]
    commands = {
        "trellis predict": [sys.executable, "-m", "trellis", "predict", version, options.text],
        "import tensorflow": [*python, IMPORT],
        "tf.saved_model.load, and ask": [*python, LOADED, version, options.text, signature],
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            found[name].append(seconds(command))
    ours = statistics.median(found["trellis predict"])
    print(f"TensorFlow {importlib.metadata.version('tensorflow')}, medians of {options.rounds}")
    print(f"{'':30}{'seconds':>9}{'to ours':>9}")
    for name, times in found.items():
        print(f"{name:30}{statistics.median(times):9.2f}{statistics.median(times) / ours:9.2f}")


if __name__ == "__main__":
    main()
