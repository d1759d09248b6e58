"""Install the wheel into an environment of its own and use it from an empty folder: `make wheel`.

Prints every command that it runs, and fails with the reason. The environment is outside of the clone, so files that
the wheel lacks cannot be found here.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]
GENERATED = (".*", "__pycache__", "*.egg-info", "build", "exports", "mlartifacts", "mlruns", "multirun", "outputs")
IMPORT_SECONDS = 0.3

# Top-level modules of the extras that TensorFlow and Keras do not need themselves.
EXTRAS = ("hydra", "matplotlib", "mlflow", "omegaconf", "pandas", "pydantic", "scipy", "tensorflow_serving", "uvicorn")
HIDE_EXTRAS = f"""\
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""

TRAIN_A_LAYER = """\
import keras
import numpy as np
from trellis import CRF, NegativeLogLikelihood

words = keras.Input((None,), dtype="int32")
x = keras.layers.Embedding(50, 8, mask_zero=True)(words)
model = keras.Model(words, CRF()(keras.layers.Dense(5)(x)))
model.compile("adam", loss=NegativeLogLikelihood())
rng = np.random.default_rng(0)
model.fit(rng.integers(1, 50, (24, 7)), rng.integers(0, 5, (24, 7)), batch_size=8, verbose=0)  # three steps
model.save("crf.keras")
"""

LOAD_THE_LAYER = """\
import keras
import numpy as np
import trellis.layers

tags = keras.saving.load_model("crf.keras").predict(np.ones((1, 4), np.int32), verbose=0)
assert np.shape(tags)[:2] == (1, 4), np.shape(tags)
"""

USE_THE_CORE = """\
from trellis import CRF, load
CRF()
assert load("exports/bilstm_crf").tag("Mary flew to Lima.").tokens[-1] == "."
"""

IMPORT_TIME = """\
import sys, time
began = time.perf_counter()
import trellis
print(time.perf_counter() - began, *sorted({"tensorflow", "keras"} & {name.split(".")[0] for name in sys.modules}))
"""


def main() -> None:
    """Build, inspect, install and use the wheel."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="trellis-wheel-") as folder:
        wheel = build(Path(folder))
        inspect(wheel)
        installation = Installation(Path(folder))
        installation.install(wheel)
        use_commands(installation)
        use_python(installation)
        use_without_extras(installation)
    print(f"the wheel works ({time.perf_counter() - began:.0f} s)")


def fail(reason: str) -> NoReturn:
    """Exit with a message."""
    raise SystemExit(f"tests/wheel.py: error: {reason}")


def run(
    command: Sequence[str | Path], folder: Path, status: int = 0, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Print a command and run it; fail if it does not end with the expected exit status."""
    words = (f"'{word.splitlines()[0]} …'" if "\n" in word else word for word in map(str, command))
    print("$", " ".join(words), end="", flush=True)
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    print(f"  ({time.perf_counter() - began:.1f} s)", flush=True)
    if done.returncode != status:
        print(done.stdout + done.stderr, file=sys.stderr)
        fail(f"the command ended with status {done.returncode}, expected {status}")
    return done


def build(folder: Path) -> Path:
    """Build the wheel from a copy of the clone, where no earlier build leaves files; return its path."""
    source, output = folder / "source", folder / "dist"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*GENERATED))
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", output, source], folder)
    shutil.rmtree(source)
    wheels = list(output.glob("*.whl"))
    if len(wheels) != 1:
        fail(f"expected one wheel, got {[wheel.name for wheel in wheels]}")
    return wheels[0]


def inspect(wheel: Path) -> None:
    """Check which files the wheel holds."""
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = {name.split("/")[0] for name in names}
    others = {
        name for name in folders if name != "trellis" and not re.fullmatch(r"trellis_sequence-.*\.dist-info", name)
    }
    if "trellis" not in folders or others:
        fail(f"the wheel installs {', '.join(sorted(folders))}; expected trellis and its dist-info alone")
    drawing = [file for file in ROOT.glob("components/drawing/*") if file.suffix in (".css", ".js")]
    data = [*ROOT.glob("conf/**/*.yaml"), *ROOT.glob("samples/*/*"), *drawing, *ROOT.glob("serve/page/*")]
    sources = [*ROOT.glob("components/**/*.py"), *ROOT.glob("pipelines/**/*.py"), *ROOT.glob("serve/**/*.py")]
    missing = sorted(
        str(file.relative_to(ROOT))
        for file in (*data, ROOT / "py.typed", *sources)
        if file.is_file() and "__pycache__" not in file.parts and f"trellis/{file.relative_to(ROOT)}" not in names
    )
    if missing:
        fail(f"the wheel lacks {', '.join(missing)}; see [tool.setuptools] in pyproject.toml")
    for folder in ("benchmarks", "docs", "tests"):
        if any(name.startswith(f"trellis/{folder}/") for name in names):
            fail(f"the wheel holds {folder}/")
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 2**20:.1f} MiB")


class Installation:
    """An environment of its own.

    Args:
        folder: where to put it.

    Attributes:
        work: an empty folder, in which commands run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._binaries = folder, folder / "venv" / "bin"
        self.work = folder / "work"
        self.work.mkdir()
        self._environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def install(self, wheel: Path) -> None:
        """Install the wheel, and the versions in requirements.lock of what it depends on."""
        run([sys.executable, "-m", "venv", self._folder / "venv"], self._folder)
        constraints = self._folder / "constraints.txt"
        pins = re.findall(
            r"^([\w.-]+==[^\s;\\]+)\s*(;[^\\\n]*)?", (ROOT / "requirements.lock").read_text(), re.MULTILINE
        )
        constraints.write_text("".join(f"{pin} {marker}\n" for pin, marker in pins))
        self.python(
            "-m", "pip", "install", "--quiet", "--no-compile", "--constraint", constraints, f"{wheel}[train,serve]"
        )

    def python(
        self, *arguments: str | Path, status: int = 0, path: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run Python; `path` is a folder to import from first."""
        extra = {"PYTHONPATH": str(path)} if path else {}
        return run([self._binaries / "python", *arguments], self.work, status, self._environment | extra)

    def trellis(self, *arguments: str, status: int = 0, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command `trellis`; `path` is a folder to import from first."""
        extra = {"PYTHONPATH": str(path)} if path else {}
        return run([self._binaries / "trellis", *arguments], self.work, status, self._environment | extra)


def use_commands(installation: Installation) -> None:
    """Train, export and ask a model."""
    version = re.search(r'__version__ = "(.+)"', (ROOT / "__init__.py").read_text())
    shown = installation.trellis("--version").stdout
    if version is None or shown != f"trellis {version[1]}\n":
        fail(f"trellis --version printed {shown!r}")
    if "predict" not in installation.trellis("--help").stdout:
        fail("trellis --help does not explain the commands")
    installation.trellis("train", "model=bilstm_crf", "trainer.epochs=2", "debug=limit")
    answer = installation.trellis("predict", "exports/bilstm_crf", "Mary Smith flew from Oslo to Lima.").stdout
    tokens = [line.split()[0] for line in answer.splitlines() if line]
    if tokens != ["Mary", "Smith", "flew", "from", "Oslo", "to", "Lima", "."]:
        fail(f"trellis predict printed {answer!r}")


def use_python(installation: Installation) -> None:
    """Use the layers in Python, and import the package quickly."""
    installation.python("-c", TRAIN_A_LAYER)
    installation.python("-c", LOAD_THE_LAYER)
    measured = [installation.python("-c", IMPORT_TIME).stdout.split() for _ in range(3)]
    libraries = measured[0][1:]
    if libraries:
        fail(f"import trellis also imports {', '.join(libraries)}")
    fastest = min(float(seconds) for seconds, *_ in measured)
    if fastest > IMPORT_SECONDS:
        fail(f"import trellis takes {fastest:.2f} s, expected at most {IMPORT_SECONDS}")


def use_without_extras(installation: Installation) -> None:
    """Use what needs no extra; commands that need one name it."""
    hidden = installation.work.parent / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(HIDE_EXTRAS)
    installation.python("-c", USE_THE_CORE, path=hidden)
    error = installation.trellis("train", "model=bilstm_crf", status=2, path=hidden).stderr
    if error.count("\n") != 1 or "pip install 'trellis-sequence[train]'" not in error:
        fail(f"trellis train without its extra printed {error!r}")


if __name__ == "__main__":
    main()
