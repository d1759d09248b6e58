"""A client of TensorFlow Serving and of `trellis serve`, over REST and gRPC.

    client = Client("http://127.0.0.1:8501", "bilstm_crf")            # or grpc://127.0.0.1:8500
    client.predict("from_text", text=["Mary Smith flew from Oslo to Lima."])["tags"]

The client repeats requests that the server could not accept (no connection, 429, 503), with increasing delays, until
the deadline.
"""

import abc
import asyncio
import base64
import contextlib
import http.client
import itertools
import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote, urlsplit

import numpy as np

from trellis.components.types import JSON, FilePath
from trellis.serve.timed_http import SecureTimedConnection, TimedConnection, tls_context

RETRIED = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
}
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
        url: the address of the server: `http://…`, `https://…`, `grpc://…`, or `grpcs://…` for gRPC over TLS.
        model: the name of the model on the server.
        version: the version of the model; by default the newest one.
        label: the label of a version, instead of `version`.
        timeout: seconds for a call, over all attempts.
        attempts: the maximum number of attempts.
        certificate: path of a certificate authority to trust instead of those of the system; with it, gRPC uses TLS.

    Raises:
        ValueError: the address has another scheme, or the certificate cannot be read.
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
        if scheme not in ("http", "https", "grpc", "grpcs"):
            raise ValueError(f"{url}: must begin with http://, https://, grpc:// or grpcs://")
        if scheme == "http" and certificate is not None:
            raise ValueError(f"{url}: certificate is for https://, grpc:// and grpcs://")
        self.timeout, self.attempts = timeout, attempts
        spec = ModelSpec(model, version, label)
        transport = _Grpc if scheme.startswith("grpc") else _Rest
        self._transport: _Transport = transport(url, spec, certificate)

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
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError(f"{url}: has no host")
        self._url, self._model = url, spec
        self._host, self._port, self._root = parts.hostname, parts.port, parts.path.rstrip("/")
        self._context = tls_context(certificate) if parts.scheme == "https" else None
        self._idle: deque[TimedConnection] = deque()  # open connections that no thread uses

    @property
    def _path(self) -> str:
        path = f"/v1/models/{quote(self._model.name, safe='')}"
        if self._model.version is not None:
            return f"{path}/versions/{self._model.version}"
        return path if self._model.label is None else f"{path}/labels/{quote(self._model.label, safe='')}"

    def predict(self, signature: str, inputs: dict[str, Any], timeout: float) -> dict[str, np.ndarray]:
        deadline = time.monotonic() + timeout
        try:
            values = {name: as_json(value) for name, value in inputs.items()}
            body = json.dumps({"signature_name": signature, "inputs": values}).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ServingError("INVALID_ARGUMENT", f"the inputs cannot be sent as JSON ({error})") from None
        answer = self._send("POST", f"{self._path}:predict", deadline, body)
        with _reading_answer():
            outputs = answer["outputs"]
            if not isinstance(outputs, dict):
                # The server leaves out the name of a single output.
                described = self._describe(deadline - time.monotonic())
                outputs = {next(iter(described[signature]["outputs"])): outputs}
            return {name: _as_array(value) for name, value in outputs.items()}

    def signatures(self, timeout: float) -> dict[str, list[str]]:
        with _reading_answer():
            return {name: list(signature["inputs"]) for name, signature in self._describe(timeout).items()}

    def _describe(self, timeout: float) -> JSON:
        """Return the inputs and outputs of each signature."""
        answer = self._send("GET", f"{self._path}/metadata", time.monotonic() + timeout)
        with _reading_answer():
            signatures = answer["metadata"]["signature_def"]["signature_def"]
            return {name: signature for name, signature in signatures.items() if not name.startswith("__")}

    def versions(self, timeout: float) -> dict[int, str]:
        path = f"/v1/models/{quote(self._model.name, safe='')}"
        answer = self._send("GET", path, time.monotonic() + timeout, also="model_version_status")
        with _reading_answer():
            return {int(version["version"]): version["state"] for version in answer["model_version_status"]}

    def _send(
        self, method: str, path: str, deadline: float, body: bytes | None = None, also: str | None = None
    ) -> JSON:
        """Return the answer to a request.

        Args:
            method: the method.
            path: the path, below that of the address.
            deadline: the time of `time.monotonic` until which the whole answer must be there.
            body: the body.
            also: a key; an answer that has it is one even if the server reports an error.

        Raises:
            ServingError: there is no such answer.
        """
        try:
            status, reason, content = self._exchange(method, self._root + path, deadline, body)
        except TimeoutError:
            raise ServingError("DEADLINE_EXCEEDED", "no answer in time") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServingError("UNAVAILABLE", f"{self._url}: {str(error) or type(error).__name__}") from None
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if (status == 200 and isinstance(answer, dict)) or (also and isinstance(answer, dict) and also in answer):
            return answer
        if 300 <= status < 400:
            raise ServingError("UNKNOWN", f"{self._url} redirects to another address, which is not followed")
        if status == 200:
            raise ServingError("INTERNAL", _NO_ANSWER)
        message = answer.get("error") if isinstance(answer, dict) else None
        raise ServingError(CODES.get(status, "UNKNOWN"), str(message or f"{status} {reason}"))

    def _exchange(self, method: str, path: str, deadline: float, body: bytes | None) -> tuple[int, str, bytes]:
        """Send a request over an open connection, or over a new one; return status, reason and body of the answer."""
        while True:
            try:
                connection, is_new = self._idle.pop(), False
            except IndexError:
                connection, is_new = self._connection(), True
            connection.deadline = deadline
            try:
                connection.request(method, path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                content = response.read()
            except (ConnectionError, http.client.RemoteDisconnected):
                connection.close()
                if is_new:
                    raise
                continue  # the server has closed the connection meanwhile
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)
            return response.status, response.reason, content

    def _connection(self) -> TimedConnection:
        if self._context is None:
            return TimedConnection(self._host, self._port)
        return SecureTimedConnection(self._host, self._port, context=self._context)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


_NO_ANSWER = "the answer is not one of TensorFlow Serving"


@contextlib.contextmanager
def _reading_answer() -> Iterator[None]:
    """Raise `ServingError` in place of the errors of an answer that has another form."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise ServingError("INTERNAL", f"{_NO_ANSWER} ({type(error).__name__})") from None


class _Grpc(_Transport):
    def __init__(self, url: str, spec: ModelSpec, certificate: FilePath | None) -> None:
        import grpc

        from trellis.serve import messages

        self._grpc, self._messages, self._model = grpc, messages, spec
        options, parts = [("grpc.max_receive_message_length", -1)], urlsplit(url)
        if parts.scheme == "grpcs" or certificate is not None:
            tls_context(certificate)  # gRPC would report a wrong file only as a server that does not answer
            trusted = None if certificate is None else Path(certificate).read_bytes()
            self._channel = grpc.secure_channel(parts.netloc, grpc.ssl_channel_credentials(trusted), options)
        else:
            self._channel = grpc.insecure_channel(parts.netloc, options)

    def predict(self, signature: str, inputs: dict[str, Any], timeout: float) -> dict[str, np.ndarray]:
        request = self._messages.MESSAGES["PredictRequest"]()
        self._fill(request.model_spec)
        request.model_spec.signature_name = signature
        try:
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(self._messages.as_tensor(value))
        except (TypeError, ValueError) as error:
            raise ServingError("INVALID_ARGUMENT", f"input {name!r} cannot be sent ({error})") from None
        response = self._send("Predict", request, timeout)
        with _reading_answer():
            return {name: _as_array(self._messages.from_tensor(proto)) for name, proto in response.outputs.items()}

    def signatures(self, timeout: float) -> dict[str, list[str]]:
        request = self._messages.MESSAGES["GetModelMetadataRequest"](metadata_field=["signature_def"])
        self._fill(request.model_spec)
        response = self._send("GetModelMetadata", request, timeout)
        with _reading_answer():
            signatures = self._messages.parse("SignatureDefMap", response.metadata["signature_def"].value).signature_def
        return {name: list(signature.inputs) for name, signature in signatures.items() if not name.startswith("__")}

    def versions(self, timeout: float) -> dict[int, str]:
        request = self._messages.MESSAGES["GetModelStatusRequest"]()
        request.model_spec.name = self._model.name
        response = self._send("GetModelStatus", request, timeout)
        states = self._messages.STATES
        return {status.version: states.get(status.state, "UNKNOWN") for status in response.model_version_status}

    def _fill(self, model_spec: Any) -> None:
        """Write the model into the protobuf message of a request."""
        model_spec.name = self._model.name
        if self._model.version is not None:
            model_spec.version.value = self._model.version
        elif self._model.label is not None:
            model_spec.version_label = self._model.label

    def _send(self, method: str, request: Any, timeout: float) -> Any:
        path, answer = self._messages.METHODS[method]
        try:
            call = self._channel.unary_unary(
                path,
                request_serializer=type(request).SerializeToString,
                response_deserializer=self._messages.MESSAGES[answer].FromString,
            )
            return call(request, timeout=timeout)
        except self._grpc.RpcError as error:
            raise ServingError(error.code().name, error.details()) from None
        except ValueError as error:  # the channel is closed
            raise ServingError("UNAVAILABLE", str(error)) from None

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
