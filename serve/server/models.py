"""The models that are served: find versions, load them, warm them up, serve them, and unload old ones."""

import contextlib
import gc
import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trellis.components.errors import first_line
from trellis.components.saved_model.package import WARM_UP
from trellis.components.saved_model.versions import EXTRA, read_metadata, version_folders
from trellis.components.types import FilePath
from trellis.serve.server.batches import Batches, Settings
from trellis.serve.server.computation import stoppable
from trellis.serve.server.huge_requests import HugeRequests
from trellis.serve.server.limits import Cost, Limits, Options
from trellis.serve.server.loading import load
from trellis.serve.server.requests import Arrays, Refused, Signature, brief, refuse

log = logging.getLogger("serve.local")

NAME = re.compile(r"[A-Za-z0-9_.+-]+")
WARM_UP_SECONDS = 600  # for one request of the warm-up
DRAIN = 30  # seconds to wait for the last requests to a version

Files = tuple[tuple[str, int, int], ...]  # the path, size and time of modification of each file
Labels = Mapping[str, Mapping[str, int]]  # {model: {label: version}}


class Version:
    """A loaded version of a model.

    Args:
        name: the name of the model.
        number: the version.
        folder: the folder of the version.
        settings: how requests are batched.
        options: limits that replace the default ones.
        huge: computes huge requests; None: they are computed in this process.

    Attributes:
        signatures: the inputs and outputs of each signature.
        limits: the limits of each signature.
        batches: the queue of each signature; empty after `close`.
        examples: the largest warm-up request to each signature, after `warm_up`.
        busy: the number of requests that use this version; guarded by the lock of `Models`.
    """

    def __init__(
        self,
        name: str,
        number: int,
        folder: Path,
        settings: Settings,
        options: Options | None = None,
        huge: HugeRequests | None = None,
    ) -> None:
        self.name, self.number, self.folder, self._huge = name, number, folder, huge
        loaded = load(folder)
        self.signatures = {key: signature for key, (signature, _) in loaded.items()}
        metadata, options = read_metadata(folder), options or Options()
        self.limits = {
            key: Limits.of(signature, options.of(name, key), metadata) for key, signature in self.signatures.items()
        }
        self.batches = {
            key: Batches(
                stoppable(run),
                *_batching(signature),
                settings,
                huge.computing(folder, key) if huge is not None else None,
            )
            for key, (signature, run) in loaded.items()
        }
        self.examples: dict[str, Arrays] = {}
        self.busy = 0

    def signature(self, name: str) -> Signature:
        """Return the inputs and outputs of a signature.

        Raises:
            Refused: there is no such signature.
        """
        if name not in self.signatures:
            names = ", ".join(sorted(self.signatures))
            refuse(f"Serving signature name: {brief(name)!r} not found in signature def; it has {names}")
        return self.signatures[name]

    def check(self, signature: str, inputs: Arrays) -> Cost:
        """Check the inputs of a request to a signature, which have its names and types; return how much it asks for.

        Raises:
            Refused: the inputs differ in their rows, or ask for more than the limits of the signature allow.
        """
        rows = {len(array) for array in inputs.values() if np.ndim(array)}
        if len(rows) > 1:
            refuse(f"inputs differ in their first axis: {' and '.join(map(str, sorted(rows)))}")
        return self.limits[signature].cost(inputs)

    def requests(self) -> Iterator[tuple[str, Arrays]]:
        """Yield the warm-up requests stored with the version: `(signature, inputs)`."""
        import tensorflow as tf
        from tensorflow_serving.apis import prediction_log_pb2

        path = self.folder / EXTRA / WARM_UP
        for record in tf.data.TFRecordDataset(str(path)) if path.is_file() else ():
            request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
            inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
            yield request.model_spec.signature_name or "serving_default", inputs

    def warm_up(self) -> None:
        """Answer the warm-up requests through the queues, so that their threads are warm too."""
        for signature, inputs in self.requests():
            self.batches[signature].submit(inputs, time.monotonic() + WARM_UP_SECONDS).result()
            self.examples[signature] = inputs  # in the order of their rows

    def close(self) -> None:
        """Answer the waiting requests and release the model."""
        for batches in self.batches.values():
            batches.close()
        # The queues hold the last references to the model.
        self.batches = {}
        if self._huge is not None:
            self._huge.unload(self.folder)


def _batching(signature: Signature) -> tuple[bool, list[str]]:
    """Return whether requests may be batched, and the outputs that are as wide as the longest text of a batch.

    Requests may be batched if all inputs have rows, and if inputs of different widths can be padded and the padding can
    be removed from the outputs.
    """
    inputs, outputs = signature
    wide = [name for name, (_, shape) in outputs.items() if shape is not None and len(shape) == 2 and shape[1] == -1]
    can_concatenate = all(
        bool(shape) and shape[0] == -1 and (len(shape) == 1 or dtype == "string")
        for dtype, shape in inputs.values()
        if shape is not None
    )
    can_trim = all(bool(shape) and -1 not in shape[2:] for _, shape in outputs.values() if shape is not None)
    known_rank = all(shape is not None for _, shape in (*inputs.values(), *outputs.values()))
    texts_tell_width = any(len(shape or ()) == 2 for _, shape in inputs.values()) or any(
        outputs[name].dtype == "string" for name in wide
    )
    return known_rank and can_concatenate and can_trim and (not wide or texts_tell_width), wide


class _State(NamedTuple):
    """The outcome of loading a version.

    Attributes:
        name: a state of TensorFlow Serving, such as `AVAILABLE`.
        code: the name of a gRPC status; other than `OK` if the version could not be loaded.
        message: why it could not be loaded.
    """

    name: str
    code: str = "OK"
    message: str = ""


class _Failure(NamedTuple):
    """A version that could not be loaded.

    Attributes:
        files: the files it had then.
        seen: the files it had at the last scan.
    """

    files: Files
    seen: Files


class Models:
    """The models of a folder, `exports/NAME/VERSION/`, each with its newest version that can be loaded.

    Args:
        folder: the folder of models.
        settings: how requests are batched.
        labels: versions that are served too, under a label.
        poll: seconds between scans of the folder.
        options: limits that replace the default ones.
        huge: computes huge requests; None: they are computed in this process.

    Attributes:
        served: `{model: {version number: version}}`.
        poll: seconds between scans of the folder.
        largest: the maximum cells of a request to any signature.
    """

    def __init__(
        self,
        folder: FilePath,
        settings: Settings,
        labels: Labels | None = None,
        poll: float = 1.0,
        options: Options | None = None,
        huge: HugeRequests | None = None,
    ) -> None:
        self._folder, self._settings, self._labels, self._huge = Path(folder), settings, labels or {}, huge
        self.poll = min(poll, threading.TIMEOUT_MAX)
        self._options = options or Options()
        self.served: dict[str, dict[int, Version]] = {}
        self.largest = 0
        self._states: dict[str, dict[int, _State]] = {}
        self._failed: dict[tuple[str, int], _Failure] = {}
        self._problems: dict[str, str] = {}  # what was logged last about the folder of a model
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watch")

    def start(self) -> None:
        """Load all models, then watch the folder in the background."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, and unload all versions after their last requests."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for name in list(self.served):
            for version in list(self.served[name].values()):
                self._unload(version)

    def _watch(self) -> None:
        while not self._stop.wait(self.poll):
            try:
                self.look()
            except Exception as error:
                self._report("", f"{self._folder}: cannot be scanned ({first_line(error, 300)})")

    def look(self) -> None:
        """Load new versions, and unload those that are no longer served."""
        for folder in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            if NAME.fullmatch(folder.name) and not folder.name.startswith(".") and folder.is_dir():
                try:
                    self._update(folder.name, folder)
                except Exception as error:
                    # Folders change while they are looked at; one model must not hold up the others.
                    self._report(folder.name, f"{folder.name}: cannot be scanned ({first_line(error, 300)})")
                else:
                    self._problems.pop(folder.name, None)

    def _report(self, name: str, problem: str) -> None:
        """Log a problem with the folder of a model, once until it is another."""
        if self._problems.get(name) != problem:
            self._problems[name] = problem
            log.error("%s", problem)

    def _update(self, name: str, folder: Path) -> None:
        """Load the newest version of a model and its labelled ones; unload the others."""
        present = version_folders(folder)
        loaded = self.served.get(name, {})
        labelled = [number for number in self._labels.get(name, {}).values() if number in present]
        newest = next(
            (
                number
                for number in sorted(present, reverse=True)
                if number in loaded or self._load(name, number, present[number])
            ),
            None,
        )
        for number in labelled:
            if number not in self.served.get(name, {}):
                self._load(name, number, present[number])
        if newest is None:
            # No version can be loaded any more; keep serving the one that was.
            return
        for number, version in list(self.served.get(name, {}).items()):
            if number not in (newest, *labelled):
                with self._lock:
                    self.served[name] = {n: v for n, v in self.served[name].items() if n != number}
                self._states[name][number] = _State("UNLOADING")
                threading.Thread(target=self._unload, args=(version,), daemon=True).start()

    def _load(self, name: str, number: int, folder: Path) -> bool:
        """Load and warm up a version; return whether it is served.

        A version that could not be loaded is tried again when its files have changed and then stayed the same between
        two scans: it may have been incomplete while it was copied into place.
        """
        files = _files(folder)
        failure = self._failed.get((name, number))
        if failure is not None and files in (failure.files, ()):
            return False
        if failure is not None and files != failure.seen:
            self._failed[name, number] = failure._replace(seen=files)
            return False
        states = self._states.setdefault(name, {})
        states[number] = _State("LOADING")
        began = time.perf_counter()
        version = None
        try:
            version = Version(name, number, folder, self._settings, self._options, self._huge)
            version.warm_up()
        except Exception as error:
            if version is not None:
                version.close()
            self._failed[name, number] = _Failure(files, files)
            reason = first_line(error, 300)
            states[number] = _State("END", "INVALID_ARGUMENT", f"cannot be loaded ({reason})")
            log.error("%s version %d: cannot be loaded, skipped (%s)", name, number, reason)
            return False
        self._failed.pop((name, number), None)
        self.largest = max(self.largest, *(limits.largest for limits in version.limits.values()))
        with self._lock:
            self.served[name] = {**self.served.get(name, {}), number: version}
        states[number] = _State("AVAILABLE")
        log.info("%s version %d: serving after %.1f s", name, number, time.perf_counter() - began)
        return True

    def _unload(self, version: Version) -> None:
        """Release a version after its last request."""
        deadline = time.monotonic() + DRAIN
        while version.busy and time.monotonic() < deadline:
            time.sleep(0.01)
        version.close()
        self._states[version.name][version.number] = _State("END")
        log.info("%s version %d: unloaded", version.name, version.number)
        collect_garbage()

    def names(self) -> list[str]:
        """Return the names of all models, loaded or not."""
        return list(self._states)

    def label(self, name: str) -> str:
        """Return a model's name for metrics, where all made-up names are `""`."""
        return name if name in self._states else ""

    def find(self, name: str, number: int | None = None, label: str | None = None) -> Version:
        """Return the version that a request refers to.

        Args:
            name: the name of the model.
            number: the version; by default the newest one.
            label: the label of a version, instead of its number.

        Raises:
            Refused: there is no such version.
        """
        loaded = self.served.get(name)
        if not loaded:
            raise Refused("NOT_FOUND", f"Servable not found for request: Latest({brief(name)})")
        if label is not None:
            number = self._labels.get(name, {}).get(label)
            if number is None:
                raise Refused("NOT_FOUND", f"Unrecognized servable version label: {brief(label)}")
        if number is None:
            return loaded[max(loaded)]
        if number not in loaded:
            raise Refused("NOT_FOUND", f"Servable not found for request: Specific({name}, {number})")
        return loaded[number]

    @contextlib.contextmanager
    def using(self, name: str, number: int | None = None, label: str | None = None) -> Iterator[Version]:
        """Yield the version that a request refers to (see `find`); it stays loaded during the block."""
        with self._lock:
            version = self.find(name, number, label)
            version.busy += 1
        try:
            yield version
        finally:
            with self._lock:
                version.busy -= 1

    def status(self, name: str, number: int | None = None, label: str | None = None) -> dict[int, _State]:
        """Return the state of each version of a model, or of one version.

        Args:
            name: the name of the model.
            number: only this version.
            label: only the version with this label.

        Raises:
            Refused: there is no such model or version.
        """
        if name not in self._states:
            raise Refused("NOT_FOUND", f"Could not find any versions of model {brief(name)}")
        states = dict(self._states[name])
        if number is None and label is None:
            return states
        if number is None:
            number = self.find(name, label=label).number
        if number not in states:
            raise Refused("NOT_FOUND", f"Could not find version {number} of model {name}")
        return {number: states[number]}


def collect_garbage() -> None:
    """Collect garbage, then freeze the rest: collecting it again would stall requests for 0.2 seconds."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _files(folder: Path) -> Files:
    """Return the files of a version; none if the folder is gone."""
    try:
        found = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    except OSError:
        return ()
    return tuple((str(path.relative_to(folder)), status.st_size, status.st_mtime_ns) for path, status in found)
