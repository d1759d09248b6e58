"""A client of TensorFlow Serving and of `trellis serve`, over REST and gRPC.

    client = Client("http://127.0.0.1:8501", "bilstm_crf")            # or grpc://127.0.0.1:8500
    client.predict(text=["Mary Smith flew from Oslo to Lima."], signature="from_text")["tags"]

Requests that could not be taken (no connection, 429, 503) are sent again, later and later, until the deadline.
"""

import asyncio
import base64
import itertools
import random
import time
from urllib.parse import urlsplit

import numpy as np

AGAIN = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED"}
CODES |= {500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}


class ServingError(Exception):
    """A request that was refused or not answered; `code` is a gRPC status by name."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Client:
    """Asks one model.

    Args:
        url: `http://…`, `https://…` or `grpc://…`.
        model: its name there.
        version, label: one of the two, or neither for the newest version.
        timeout: seconds for a call, all attempts together.
        attempts: how often a call is sent at most.
        certificate: path of a certificate authority to trust, for https.
    """

    def __init__(self, url, model, version=None, label=None, timeout=10.0, attempts=5, certificate=None):
        scheme = urlsplit(url).scheme
        if scheme not in ("http", "https", "grpc"):
            raise ValueError(f"{url}: must begin with http://, https:// or grpc://")
        self.model, self.version, self.label = model, version, label
        self.timeout, self.attempts = timeout, attempts
        transport = _Grpc if scheme == "grpc" else _Rest
        self._transport = transport(url, certificate)

    def predict(self, signature="serving_default", timeout=None, **inputs):
        """The outputs by name, NumPy arrays; strings are `str` in arrays of objects.

        Args:
            signature: of the model.
            timeout: seconds, instead of the client's.
            **inputs: by name: lists, strings or arrays.

        Raises:
            ServingError: refused, or no answer in time.
        """
        return self._call(lambda left: self._transport.predict(self, signature, inputs, left), timeout)

    async def predict_async(self, signature="serving_default", timeout=None, **inputs):
        """`predict` for asyncio: other tasks run while this one waits."""
        return await asyncio.to_thread(self.predict, signature, timeout, **inputs)

    def predict_many(self, texts, size=64, signature="serving_default", name="text", **inputs):
        """Yields `(text, {output: value})` of any number of texts, `size` in a request."""
        texts = iter(texts)
        while batch := list(itertools.islice(texts, size)):
            outputs = self.predict(signature, **{name: batch}, **inputs)
            for row, text in enumerate(batch):
                yield text, {key: values[row] for key, values in outputs.items()}

    def versions(self, timeout=None):
        """`{version: state}`, states such as `AVAILABLE`."""
        return self._call(lambda left: self._transport.versions(self, left), timeout)

    def signatures(self, timeout=None):
        """`{signature: names of its inputs}`."""
        return self._call(lambda left: self._transport.signatures(self, left), timeout)

    def close(self):
        self._transport.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _call(self, send, timeout):
        until = time.monotonic() + (self.timeout if timeout is None else timeout)
        for attempt in itertools.count(1):
            left = until - time.monotonic()
            if left <= 0:
                raise ServingError("DEADLINE_EXCEEDED", "no answer in time")
            try:
                return send(left)
            except ServingError as error:
                # Twice as long each time, and never all clients at once.
                wait = 0.05 * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
                if error.code not in AGAIN or attempt >= self.attempts or time.monotonic() + wait > until:
                    raise
                time.sleep(wait)


class _Rest:
    def __init__(self, url, certificate):
        import requests

        self._requests, self._url = requests, url.rstrip("/")
        self._session = requests.Session()
        # With each request: what the environment says would win over the session's.
        self._verify = {"verify": str(certificate)} if certificate else {}

    def predict(self, client, signature, inputs, timeout):
        body = {"signature_name": signature, "inputs": {name: as_json(value) for name, value in inputs.items()}}
        answer = self._send("POST", f"{_path(client)}:predict", timeout, json=body)["outputs"]
        if not isinstance(answer, dict):
            # One output comes without its name.
            answer = {next(iter(self._described(client, timeout)[signature]["outputs"])): answer}
        return {name: _array(value) for name, value in answer.items()}

    def signatures(self, client, timeout):
        return {name: list(each["inputs"]) for name, each in self._described(client, timeout).items()}

    def _described(self, client, timeout):
        answer = self._send("GET", f"{_path(client)}/metadata", timeout)
        found = answer["metadata"]["signature_def"]["signature_def"]
        return {name: each for name, each in found.items() if not name.startswith("__")}

    def versions(self, client, timeout):
        found = self._send("GET", f"/v1/models/{client.model}", timeout)["model_version_status"]
        return {int(each["version"]): each["state"] for each in found}

    def _send(self, method, path, timeout, **body):
        try:
            response = self._session.request(method, self._url + path, timeout=timeout, **body, **self._verify)
            answer = response.json()
        except self._requests.Timeout:
            raise ServingError("DEADLINE_EXCEEDED", "no answer in time") from None
        except ValueError:
            raise ServingError("INTERNAL", f"an answer that is no JSON ({response.status_code})") from None
        except self._requests.RequestException as error:
            raise ServingError("UNAVAILABLE", f"{self._url}: {error}") from None
        if response.status_code != 200:
            raise ServingError(CODES.get(response.status_code, "UNKNOWN"), answer.get("error", response.reason))
        return answer

    def close(self):
        self._session.close()


class _Grpc:
    def __init__(self, url, certificate):
        del certificate
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self._grpc = grpc
        options = [("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(urlsplit(url).netloc, options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, client, signature, inputs, timeout):
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        self._spec(client, request.model_spec)
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        response = self._send(self._predictions.Predict, request, timeout)
        return {name: _array(tf.make_ndarray(proto)) for name, proto in response.outputs.items()}

    def signatures(self, client, timeout):
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._spec(client, request.model_spec)
        response = self._send(self._predictions.GetModelMetadata, request, timeout)
        found = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(found)
        return {n: list(each.inputs) for n, each in found.signature_def.items() if not n.startswith("__")}

    def versions(self, client, timeout):
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = client.model
        response = self._send(self._models.GetModelStatus, request, timeout)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {each.version: name(each.state) for each in response.model_version_status}

    def _spec(self, client, spec):
        spec.name = client.model
        if client.version is not None:
            spec.version.value = client.version
        elif client.label is not None:
            spec.version_label = client.label

    def _send(self, method, request, timeout):
        try:
            return method(request, timeout=timeout)
        except self._grpc.RpcError as error:
            raise ServingError(error.code().name, error.details()) from None

    def close(self):
        self._channel.close()


def _path(client):
    path = f"/v1/models/{client.model}"
    if client.version is not None:
        return f"{path}/versions/{client.version}"
    return path if client.label is None else f"{path}/labels/{client.label}"


def as_json(value):
    """What JSON can hold; bytes as TensorFlow Serving wants them."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray | np.generic):
        return as_json(value.tolist())
    return [as_json(each) for each in value] if isinstance(value, list | tuple) else value


def _array(value):
    array = np.asarray(value)
    if array.dtype.kind in "US" or array.dtype == object:
        texts = np.empty(array.size, object)
        texts[:] = [_text(each) for each in array.ravel()]
        return texts.reshape(array.shape)
    return array


def _text(value):
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value
