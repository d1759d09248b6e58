"""The models that are served: versions found, loaded, warmed up, put in place, drained and let go."""

import contextlib
import gc
import logging
import re
import threading
import time
from pathlib import Path

import numpy as np

from trellis.components.errors import InputError, one_line
from trellis.components.saved_model.package import WARM_UP
from trellis.components.saved_model.versions import EXTRA, versions
from trellis.serve.server.batches import Batches
from trellis.serve.server.requests import Refused, check_names, refuse

log = logging.getLogger("serve.local")

NAME = re.compile(r"[A-Za-z0-9_.+-]+")
WARM_UP_SECONDS = 600  # for one request of the warm-up
DRAIN = 30  # seconds that a version's last requests are waited for


class Version:
    """One loaded version.

    Attributes:
        signatures: `{name: {"inputs": {name: (dtype, shape)}, "outputs": …}}`.
    """

    def __init__(self, name, number, folder, settings):
        import tensorflow as tf

        self.name, self.number, self.folder = name, number, folder
        self.model = tf.saved_model.load(str(folder))
        self.signatures = {
            key: {
                "inputs": {
                    each: (spec.dtype.name, tuple(-1 if size is None else size for size in spec.shape))
                    for each, spec in function.structured_input_signature[1].items()
                },
                "outputs": {
                    each: (spec.dtype.name, None if spec.shape.rank is None else tuple(
                        -1 if size is None else size for size in spec.shape
                    ))
                    for each, spec in function.structured_outputs.items()
                },
            }
            for key, function in self.model.signatures.items()
        }  # fmt: skip
        self.batches = {key: Batches(self._runner(key), *self._joins(key), settings) for key in self.signatures}
        self.busy = 0

    def _runner(self, signature):
        import tensorflow as tf

        function = self.model.signatures[signature]
        types = {name: tf.as_dtype(dtype) for name, (dtype, _) in self.signatures[signature]["inputs"].items()}

        def run(inputs):
            try:
                found = function(**{name: tf.constant(array, types[name]) for name, array in inputs.items()})
                return {name: value.numpy() for name, value in found.items()}
            except (tf.errors.InvalidArgumentError, ValueError) as error:
                raise Refused("INVALID_ARGUMENT", one_line(error)) from None
            except tf.errors.ResourceExhaustedError as error:
                raise Refused("RESOURCE_EXHAUSTED", one_line(error)) from None

        return run

    def _joins(self, signature):
        """Whether requests may be joined, and the outputs that are as wide as the longest text of a batch.

        They may if all inputs have rows, and what one lacks in width can be padded and taken off again.
        """
        inputs, outputs = (self.signatures[signature][side] for side in ("inputs", "outputs"))
        wide = [
            name for name, (_, shape) in outputs.items() if shape is not None and len(shape) == 2 and shape[1] == -1
        ]
        joins = all(
            shape and shape[0] == -1 and (len(shape) == 1 or dtype == "string") for dtype, shape in inputs.values()
        )
        takes_off = all(shape and -1 not in shape[2:] for _, shape in outputs.values())
        texts = any(len(shape) == 2 for _, shape in inputs.values()) or any(outputs[n][0] == "string" for n in wide)
        return joins and takes_off and (not wide or texts), wide

    def requests(self):
        """What lies beside the graph to be asked at first: `(signature, inputs)` each."""
        import tensorflow as tf
        from tensorflow_serving.apis import prediction_log_pb2

        path = self.folder / EXTRA / WARM_UP
        for record in tf.data.TFRecordDataset(str(path)) if path.is_file() else ():
            request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
            inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
            yield request.model_spec.signature_name or "serving_default", inputs

    def warm_up(self):
        """Answers these requests, through the queues, so that their threads are warm as well."""
        for signature, inputs in self.requests():
            self.batches[signature].submit(inputs, time.monotonic() + WARM_UP_SECONDS).result()

    def close(self):
        for batches in self.batches.values():
            batches.close()


class Models:
    """The models of a folder, `exports/NAME/VERSION/`, each with its newest version that loads.

    Args:
        folder: of the models.
        settings: of `Batches`.
        labels: `{model: {label: version}}`; labelled versions are served as well.
        poll: seconds between looks at the folder.
    """

    def __init__(self, folder, settings, labels=None, poll=1.0):
        self.folder, self.settings, self.labels, self.poll = Path(folder), settings, labels or {}, poll
        self.served, self.states, self.failed = {}, {}, {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watch")

    def start(self):
        """Loads what is there, then goes on looking."""
        self.look()
        self._thread.start()

    def stop(self):
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for name in list(self.served):
            for version in list(self.served[name].values()):
                self._let_go(version)

    def _watch(self):
        while not self._stop.wait(self.poll):
            try:
                self.look()
            except Exception:
                log.exception("looking for new versions failed")

    def look(self):
        """Loads new versions, and lets go those that are wanted no more."""
        for place in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if place.is_dir() and NAME.fullmatch(place.name) and not place.name.startswith("."):
                self._look_at(place.name, place)

    def _look_at(self, name, place):
        present = versions(place)
        loaded = self.served.get(name, {})
        labelled = [each for each in self.labels.get(name, {}).values() if each in present]
        newest = None
        for number in sorted(present, reverse=True):
            if number in loaded or self._load(name, number, place / str(number)):
                newest = number
                break
        for number in labelled:
            if number not in self.served.get(name, {}):
                self._load(name, number, place / str(number))
        wanted = {newest, *labelled}
        if newest is None:
            # Nothing that loads is left; what is served goes on being served.
            return
        for number, version in list(self.served.get(name, {}).items()):
            if number not in wanted:
                with self._lock:
                    self.served[name] = {n: v for n, v in self.served[name].items() if n != number}
                self.states[name][number] = "UNLOADING"
                threading.Thread(target=self._let_go, args=(version,), daemon=True).start()

    def _load(self, name, number, folder):
        stamp = folder.stat().st_mtime_ns
        if self.failed.get((name, number)) == stamp:
            return False
        states = self.states.setdefault(name, {})
        states[number] = "LOADING"
        began = time.perf_counter()
        version = None
        try:
            version = Version(name, number, folder, self.settings)
            version.warm_up()
        except Exception as error:
            if version is not None:
                version.close()
            self.failed[name, number] = stamp
            states[number] = "END"
            log.error("%s version %d: cannot be loaded, skipped (%s)", name, number, str(error).splitlines()[0][:300])
            return False
        with self._lock:
            self.served[name] = {**self.served.get(name, {}), number: version}
        states[number] = "AVAILABLE"
        log.info("%s version %d: serving after %.1f s", name, number, time.perf_counter() - began)
        return True

    def _let_go(self, version):
        until = time.monotonic() + DRAIN
        while version.busy and time.monotonic() < until:
            time.sleep(0.01)
        version.close()
        self.states[version.name][version.number] = "END"
        log.info("%s version %d: let go", version.name, version.number)
        version.model = version.batches = None
        gc.collect()

    def find(self, name, number=None, label=None):
        """The version that a request asks for.

        Raises:
            Refused: NOT_FOUND.
        """
        loaded = self.served.get(name)
        if not loaded:
            raise Refused("NOT_FOUND", f"Servable not found for request: Latest({name})")
        if label is not None:
            number = self.labels.get(name, {}).get(label)
            if number is None:
                raise Refused("NOT_FOUND", f"Unrecognized servable version label: {label}")
        if number is None:
            return loaded[max(loaded)]
        if number not in loaded:
            raise Refused("NOT_FOUND", f"Servable not found for request: Specific({name}, {number})")
        return loaded[number]

    @contextlib.contextmanager
    def using(self, name, number=None, label=None):
        """The version of a request, which is not let go before the request is answered."""
        with self._lock:
            version = self.find(name, number, label)
            version.busy += 1
        try:
            yield version
        finally:
            with self._lock:
                version.busy -= 1

    def predict(self, version, signature, inputs, deadline):
        """A future of the outputs by name; `deadline` is of `time.monotonic`."""
        known = version.signatures.get(signature)
        if known is None:
            names = ", ".join(sorted(version.signatures))
            refuse(f"Serving signature name: {signature!r} not found in signature def; it has {names}")
        check_names(inputs, known["inputs"])
        rows = {len(array) for array in inputs.values() if np.ndim(array)}
        if len(rows) > 1:
            refuse(f"inputs differ in their first axis: {' and '.join(map(str, sorted(rows)))}")
        return version.batches[signature].submit(inputs, deadline)

    def status(self, name):
        """`{version: state}` of a model.

        Raises:
            Refused: NOT_FOUND.
        """
        if name not in self.states:
            raise Refused("NOT_FOUND", f"Could not find any versions of model {name}")
        return dict(self.states[name])


def labels_of(path):
    """`{model: {label: version}}` of a `models.config`, the protobuf text that TensorFlow Serving reads.

    Raises:
        InputError: it is no such file.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    try:
        config = text_format.Parse(Path(path).read_text(), model_server_config_pb2.ModelServerConfig())
    except (OSError, text_format.ParseError) as error:
        raise InputError(f"{path}: {error}") from None
    return {each.name: dict(each.version_labels) for each in config.model_config_list.config}
