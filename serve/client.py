"""A client of TensorFlow Serving and of `trellis serve`, over REST and gRPC.

    client = Client("http://127.0.0.1:8501", "bilstm_crf")            # or grpc://127.0.0.1:8500
    client.predict("from_text", text=["Mary Smith flew from Oslo to Lima."])["tags"]

The client repeats requests that the server could not accept (no connection, 429, 503), with increasing delays, until
the deadline.
"""

import abc
import asyncio
import base64
import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import numpy as np

from trellis.components.types import JSON, FilePath

RETRIED = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED"}
CODES |= {500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}

Answer = TypeVar("Answer")


class ServingError(Exception):
    """A request that the server rejected or did not answer.

    Attributes:
        code: the name of a gRPC status.
        message: the reason.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class ModelSpec(NamedTuple):
    """A model on a server: its name, and a version, a label of a version, or neither for the newest version."""

    name: str
    version: int | None = None
    label: str | None = None


class Client:
    """A client of one model.

    Args:
        url: the address of the server: `http://…`, `https://…` or `grpc://…`.
        model: the name of the model on the server.
        version: the version of the model; by default the newest one.
        label: the label of a version, instead of `version`.
        timeout: seconds for a call, over all attempts.
        attempts: the maximum number of attempts.
        certificate: path of a certificate authority to trust, for https.

    Raises:
        ValueError: the address has another scheme.
    """

    def __init__(
        self,
        url: str,
        model: str,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 10.0,
        attempts: int = 5,
        certificate: FilePath | None = None,
    ) -> None:
        scheme = urlsplit(url).scheme
        if scheme not in ("http", "https", "grpc"):
            raise ValueError(f"{url}: must begin with http://, https:// or grpc://")
        self.timeout, self.attempts = timeout, attempts
        spec = ModelSpec(model, version, label)
        self._transport: _Transport = _Grpc(url, spec) if scheme == "grpc" else _Rest(url, spec, certificate)

    def predict(
        self, signature: str = "serving_default", timeout: float | None = None, **inputs: Any
    ) -> dict[str, np.ndarray]:
        """Return the outputs of a signature by name; strings are `str` in arrays of objects.

        Args:
            signature: the name of the signature.
            timeout: seconds, instead of those of the client.
            **inputs: the inputs by name: lists, strings or arrays.

        Raises:
            ServingError: the server rejected the request, or did not answer in time.
        """
        return self._call(lambda seconds: self._transport.predict(signature, inputs, seconds), timeout)

    async def predict_async(
        self, signature: str = "serving_default", timeout: float | None = None, **inputs: Any
    ) -> dict[str, np.ndarray]:
        """Call `predict` without blocking the event loop."""
        return await asyncio.to_thread(self.predict, signature, timeout, **inputs)

    def predict_many(
        self,
        texts: Iterable[str],
        size: int = 64,
        signature: str = "serving_default",
        name: str = "text",
        **inputs: Any,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield `(text, {output: value})` for any number of texts.

        Args:
            texts: the texts.
            size: the number of texts of a request.
            signature: the name of the signature.
            name: the name of the input that takes the texts.
            **inputs: further inputs, the same for all requests.
        """
        texts = iter(texts)
        while batch := list(itertools.islice(texts, size)):
            outputs = self.predict(signature, None, **{**inputs, name: batch})
            for row, text in enumerate(batch):
                yield text, {key: values[row] for key, values in outputs.items()}

    def versions(self, timeout: float | None = None) -> dict[int, str]:
        """Return `{version: state}`, with states such as `AVAILABLE`."""
        return self._call(self._transport.versions, timeout)

    def signatures(self, timeout: float | None = None) -> dict[str, list[str]]:
        """Return the names of the inputs of each signature."""
        return self._call(self._transport.signatures, timeout)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, send: Callable[[float], Answer], timeout: float | None) -> Answer:
        """Send a request until the server accepts it.

        Args:
            send: sends the request, with a timeout in seconds.
            timeout: seconds for all attempts.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        for attempt in itertools.count(1):
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                break
            try:
                return send(seconds)
            except ServingError as error:
                # Double the delay each time; random factors keep clients from retrying all at once.
                delay = 0.05 * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
                if error.code not in RETRIED or attempt >= self.attempts or time.monotonic() + delay > deadline:
                    raise
                time.sleep(delay)
        raise ServingError("DEADLINE_EXCEEDED", "no answer in time")


class _Transport(abc.ABC):
    """Sends requests about one model over a protocol; all methods raise `ServingError`."""

    @abc.abstractmethod
    def predict(self, signature: str, inputs: dict[str, Any], timeout: float) -> dict[str, np.ndarray]:
        """Return the outputs of a signature by name."""

    @abc.abstractmethod
    def signatures(self, timeout: float) -> dict[str, list[str]]:
        """Return the names of the inputs of each signature."""

    @abc.abstractmethod
    def versions(self, timeout: float) -> dict[int, str]:
        """Return the state of each version."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection."""


class _Rest(_Transport):
    def __init__(self, url: str, spec: ModelSpec, certificate: FilePath | None) -> None:
        import requests

        self._requests, self._url, self._model = requests, url.rstrip("/"), spec
        self._session = requests.Session()
        # Passed with each request, because the environment would override the session.
        self._verify = str(certificate) if certificate else None

    @property
    def _path(self) -> str:
        path = f"/v1/models/{self._model.name}"
        if self._model.version is not None:
            return f"{path}/versions/{self._model.version}"
        return path if self._model.label is None else f"{path}/labels/{self._model.label}"

    def predict(self, signature: str, inputs: dict[str, Any], timeout: float) -> dict[str, np.ndarray]:
        body = {"signature_name": signature, "inputs": {name: as_json(value) for name, value in inputs.items()}}
        outputs = self._send("POST", f"{self._path}:predict", timeout, json=body)["outputs"]
        if not isinstance(outputs, dict):
            # The server leaves out the name of a single output.
            outputs = {next(iter(self._describe(timeout)[signature]["outputs"])): outputs}
        return {name: _as_array(value) for name, value in outputs.items()}

    def signatures(self, timeout: float) -> dict[str, list[str]]:
        return {name: list(signature["inputs"]) for name, signature in self._describe(timeout).items()}

    def _describe(self, timeout: float) -> JSON:
        """Return the inputs and outputs of each signature."""
        metadata = self._send("GET", f"{self._path}/metadata", timeout)["metadata"]
        signatures = metadata["signature_def"]["signature_def"]
        return {name: signature for name, signature in signatures.items() if not name.startswith("__")}

    def versions(self, timeout: float) -> dict[int, str]:
        status = self._send("GET", f"/v1/models/{self._model.name}", timeout)["model_version_status"]
        return {int(version["version"]): version["state"] for version in status}

    def _send(self, method: str, path: str, timeout: float, **body: Any) -> JSON:
        try:
            response = self._session.request(method, self._url + path, timeout=timeout, verify=self._verify, **body)
            answer: JSON = response.json()
        except self._requests.Timeout:
            raise ServingError("DEADLINE_EXCEEDED", "no answer in time") from None
        except ValueError:
            raise ServingError("INTERNAL", f"an answer that is not JSON ({response.status_code})") from None
        except self._requests.RequestException as error:
            raise ServingError("UNAVAILABLE", f"{self._url}: {error}") from None
        if response.status_code != 200:
            raise ServingError(CODES.get(response.status_code, "UNKNOWN"), answer.get("error", response.reason))
        return answer

    def close(self) -> None:
        self._session.close()


class _Grpc(_Transport):
    def __init__(self, url: str, spec: ModelSpec) -> None:
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self._grpc, self._model = grpc, spec
        options = [("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(urlsplit(url).netloc, options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, signature: str, inputs: dict[str, Any], timeout: float) -> dict[str, np.ndarray]:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        self._fill(request.model_spec)
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        response = self._send(self._predictions.Predict, request, timeout)
        return {name: _as_array(tf.make_ndarray(proto)) for name, proto in response.outputs.items()}

    def signatures(self, timeout: float) -> dict[str, list[str]]:
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill(request.model_spec)
        response = self._send(self._predictions.GetModelMetadata, request, timeout)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return {
            name: list(signature.inputs)
            for name, signature in signatures.signature_def.items()
            if not name.startswith("__")
        }

    def versions(self, timeout: float) -> dict[int, str]:
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._model.name
        response = self._send(self._models.GetModelStatus, request, timeout)
        state_name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {status.version: state_name(status.state) for status in response.model_version_status}

    def _fill(self, model_spec: Any) -> None:
        """Write the model into the protobuf message of a request."""
        model_spec.name = self._model.name
        if self._model.version is not None:
            model_spec.version.value = self._model.version
        elif self._model.label is not None:
            model_spec.version_label = self._model.label

    def _send(self, method: Callable[..., Any], request: Any, timeout: float) -> Any:
        try:
            return method(request, timeout=timeout)
        except self._grpc.RpcError as error:
            raise ServingError(error.code().name, error.details()) from None

    def close(self) -> None:
        self._channel.close()


def as_json(value: Any) -> Any:
    """Return a value in a form that JSON can hold; bytes in the form that TensorFlow Serving expects."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray | np.generic):
        return as_json(value.tolist())
    return [as_json(element) for element in value] if isinstance(value, list | tuple) else value


def _as_array(value: Any) -> np.ndarray:
    """Return an answer as an array; strings are `str` in arrays of objects, or bytes if they are not UTF-8."""
    array = np.asarray(value)
    if array.dtype.kind in "US" or array.dtype == object:
        texts = np.empty(array.size, object)
        texts[:] = [_as_text(element) for element in array.ravel()]
        return texts.reshape(array.shape)
    return array


def _as_text(value: Any) -> str | bytes:
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value
