"""Verify an export: load it as a server does, repeat its golden requests, and compare the answers."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trellis.components import termination
from trellis.components.errors import InputError
from trellis.components.saved_model.c_api import decode_array
from trellis.components.saved_model.versions import EXTRA
from trellis.components.types import FilePath

FOREIGN = (b"PyFunc", b"XlaLaunch")  # operations that TensorFlow Serving cannot run
TOLERANCE = 1e-3
LARGE = 2**30  # bytes of weights from which one process loads them


class SignatureCheck(NamedTuple):
    """The answers of a signature, all of them within the tolerance.

    Attributes:
        signature: its name.
        requests: the number of requests.
        difference: the largest difference to the golden answers.
        milliseconds: the median time of a request.
    """

    signature: str
    requests: int
    difference: float
    milliseconds: float


class Verification(NamedTuple):
    """A successful verification.

    Attributes:
        loading: the seconds it took to load the export.
        signatures: the checks of all signatures.
    """

    loading: float
    signatures: list[SignatureCheck]


def verify(version: FilePath) -> Verification:
    """Repeat the golden requests of a version of an export, in separate processes, through TensorFlow's C API.

    What takes time is the first request to each signature; where there are cores for it, two processes share them.

    Raises:
        InputError: it cannot be loaded, an answer differs, or the graph needs more than TensorFlow itself.
    """
    version = Path(version)
    try:
        golden = json.loads((version / EXTRA / "golden.json").read_text())
        graph = (version / "saved_model.pb").read_bytes()
    except OSError as error:
        raise InputError(f"{version}: cannot be verified ({Path(error.filename).name}: {error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{version}: cannot be verified ({error})") from None
    for operation in FOREIGN:
        if operation in graph:
            raise InputError(f"{version}: the graph needs {operation.decode()}, which TensorFlow Serving cannot run")
    names = list(dict.fromkeys(request["signature"] for request in golden))
    weights = sum(file.stat().st_size for file in version.glob("variables/*"))
    several = (os.cpu_count() or 1) > 1 and weights < LARGE
    shares = [share for share in (names[::2], names[1::2]) if share and several] or [names]
    answers = _answers(version, shares)
    differences: dict[str, list[float]] = {}
    milliseconds: dict[str, list[float]] = {}
    for share, (_, of_share) in zip(shares, answers, strict=True):
        requests = [request for request in golden if request["signature"] in share]
        for request, answer in zip(requests, of_share, strict=True):
            name = request["signature"]
            milliseconds.setdefault(name, []).append(answer["milliseconds"])
            for key, stored in request["outputs"].items():
                difference = _difference(decode_array(stored), decode_array(answer["outputs"][key]))
                if difference is None or difference > TOLERANCE:
                    raise InputError(
                        f"{version}: signature {name}: {key} differs from the golden answer; train and export again"
                    )
                differences.setdefault(name, []).append(difference)
    checks = [
        SignatureCheck(name, len(milliseconds[name]), max(differences[name]), float(np.median(milliseconds[name])))
        for name in names
    ]
    return Verification(max(loading for loading, _ in answers), checks)


def _answers(version: Path, shares: list[list[str]]) -> list[tuple[float, list[dict[str, Any]]]]:
    """Return the seconds of loading an export, and its answers to the golden requests to each share of signatures."""
    command = [sys.executable, str(Path(__file__).with_name("c_api.py")), str(version)]
    # The golden answers were computed without TensorFloat-32, too.
    environment = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
    answers = []
    for process in _completed([[*command, *share] for share in shares], environment):
        if process.returncode:
            raise InputError(f"{version}: TensorFlow cannot run this export ({_reason(process)})")
        loading, *of_share = map(json.loads, process.stdout.splitlines())
        answers.append((loading["loading"], of_share))
    return answers


def _completed(commands: list[list[str]], environment: dict[str, str]) -> "list[subprocess.CompletedProcess[str]]":
    """Run commands side by side; kill them if this process has to end meanwhile."""
    with contextlib.ExitStack() as stack:
        # Files: a process would wait for the other one to be read from its pipe.
        outputs = [[stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2)] for _ in commands]
        processes = [
            stack.enter_context(subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr))
            for command, (stdout, stderr) in zip(commands, outputs, strict=True)
        ]
        try:
            for process in processes:
                while process.poll() is None:
                    termination.check()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.5)
        except BaseException:
            for process in processes:
                process.kill()
            raise
        for output in itertools.chain(*outputs):
            output.seek(0)
        return [
            subprocess.CompletedProcess(process.args, process.returncode, stdout.read(), stderr.read())
            for process, (stdout, stderr) in zip(processes, outputs, strict=True)
        ]


def _reason(process: "subprocess.CompletedProcess[str]") -> str:
    """Return why a process failed."""
    if process.returncode < 0:
        return f"its process was killed by {signal.Signals(-process.returncode).name}"
    return (process.stderr.strip() or f"its process ended with status {process.returncode}").splitlines()[-1][:300]


def _difference(expected: np.ndarray, actual: np.ndarray) -> float | None:
    """Return the largest difference of two arrays, relative for numbers above 1; None if they cannot be compared."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return None
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, actual) else None
    if not expected.size:
        return 0.0
    difference = np.abs(expected - actual) / np.maximum(np.abs(expected), 1.0)
    return None if np.isnan(difference).any() else float(difference.max())
