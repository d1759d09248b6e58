"""Whether an export still is what was written: loaded as a server loads it, asked what it was asked, answered alike."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trellis.components.errors import InputError
from trellis.components.saved_model.c_api import decoded
from trellis.components.saved_model.versions import EXTRA

FOREIGN = (b"PyFunc", b"XlaLaunch")  # what TensorFlow Serving cannot run
TOLERANCE = 1e-3


class Answer(NamedTuple):
    """Of one signature: how many requests, how far the numbers are off at most, median milliseconds."""

    signature: str
    requests: int
    difference: float
    milliseconds: float


def verify(version):
    """Asks a version of an export in a process of its own, through TensorFlow's C API.

    Returns:
        seconds of loading, and an `Answer` for each signature.

    Raises:
        InputError: it cannot be loaded, an answer differs, or the graph needs more than TensorFlow has.
    """
    version = Path(version)
    try:
        golden = json.loads((version / EXTRA / "golden.json").read_text())
        graph = (version / "saved_model.pb").read_bytes()
    except (OSError, ValueError) as error:
        reason = f"{Path(error.filename).name}: {error.strerror}" if isinstance(error, OSError) else error
        raise InputError(f"{version}: cannot be verified ({reason})") from None
    for operation in FOREIGN:
        if operation in graph:
            raise InputError(f"{version}: the graph needs {operation.decode()}, which TensorFlow Serving cannot run")
    script = Path(__file__).with_name("c_api.py")
    # The golden answers were computed without TensorFloat-32, too.
    environment = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0"}
    done = subprocess.run([sys.executable, str(script), str(version)], capture_output=True, text=True, env=environment)
    if done.returncode:
        reason = (done.stderr.strip() or f"its process ended with status {done.returncode}").splitlines()[-1]
        raise InputError(f"{version}: TensorFlow cannot run this export ({reason[:300]})")
    loading, *answers = map(json.loads, done.stdout.splitlines())
    by_signature = {}
    for request, answer in zip(golden, answers, strict=True):
        name = request["signature"]
        for key, stored in request["outputs"].items():
            wanted, found = decoded(stored), decoded(answer["outputs"][key])
            difference = _difference(wanted, found)
            if difference is None or difference > TOLERANCE:
                raise InputError(f"{version}: signature {name}: {key} is not what it was when this was exported")
            by_signature.setdefault(name, []).append((difference, answer["milliseconds"]))
    asked = [request["signature"] for request in golden]
    return loading["loading"], [
        Answer(name, asked.count(name), max(d for d, _ in each), float(np.median([m for _, m in each])))
        for name, each in by_signature.items()
    ]


def _difference(wanted, found):
    """The largest difference of two arrays, relative where numbers are above 1; None where they cannot be compared."""
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return None
    if wanted.dtype.kind != "f":
        return 0.0 if np.array_equal(wanted, found) else None
    if not wanted.size:
        return 0.0
    difference = np.abs(wanted - found) / np.maximum(np.abs(wanted), 1.0)
    return None if np.isnan(difference).any() else float(difference.max())
