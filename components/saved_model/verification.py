"""Verify an export: load it as a server does, repeat its golden requests, and compare the answers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trellis.components import termination
from trellis.components.errors import InputError
from trellis.components.saved_model.c_api import decode_array
from trellis.components.saved_model.versions import EXTRA
from trellis.components.types import FilePath

FOREIGN = (b"PyFunc", b"XlaLaunch")  # operations that TensorFlow Serving cannot run
TOLERANCE = 1e-3


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
    """Repeat the golden requests of a version of an export, in a separate process, through TensorFlow's C API.

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
    script = Path(__file__).with_name("c_api.py")
    # The golden answers were computed without TensorFloat-32, too.
    environment = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = _completed([sys.executable, str(script), str(version)], environment)
    if process.returncode:
        raise InputError(f"{version}: TensorFlow cannot run this export ({_reason(process)})")
    loading, *answers = map(json.loads, process.stdout.splitlines())
    differences: dict[str, list[float]] = {}
    milliseconds: dict[str, list[float]] = {}
    for request, answer in zip(golden, answers, strict=True):
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
        SignatureCheck(name, len(times), max(differences[name]), float(np.median(times)))
        for name, times in milliseconds.items()
    ]
    return Verification(loading["loading"], checks)


def _completed(command: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a command; kill it if this process has to end meanwhile."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, env=environment, stdout=pipe, stderr=pipe) as process:
        try:
            while True:
                try:
                    stdout, stderr = process.communicate(timeout=0.5)
                    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
                except subprocess.TimeoutExpired:
                    termination.check()
        except BaseException:
            process.kill()
            raise


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
