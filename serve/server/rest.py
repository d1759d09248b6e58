"""TensorFlow Serving's REST interface as an ASGI application."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple, TypeAlias

from trellis.components.types import JSON
from trellis.serve.server.models import NAME, Models, Version
from trellis.serve.server.prometheus import Metrics
from trellis.serve.server.requests import HTTP, Refused, Spec, answer, parse, tensors

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/([^/:]+)|/labels/([^/:]+))?(?:(/metadata)|(:[a-z]+))?")


class _Target(NamedTuple):
    """What a path refers to: a model, maybe one of its versions, and what is asked about it."""

    name: str
    number: int | None
    label: str | None
    metadata: bool
    verb: str | None


class Application:
    """`/v1/models/NAME[/versions/N|/labels/L][/metadata|:predict]` and `/monitoring/prometheus/metrics`.

    Args:
        models: the models.
        metrics: where to record requests.
        deadline: the maximum seconds for a request.
        body: the maximum bytes of a request.
    """

    def __init__(self, models: Models, metrics: Metrics, deadline: float = 60.0, body: int = 16 << 20) -> None:
        self._models, self._metrics, self._deadline, self._body = models, metrics, deadline, body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        began, model, status, content_type = time.monotonic(), "", "OK", b"application/json"
        code = 200
        try:
            if scope["path"] == "/monitoring/prometheus/metrics":
                content, content_type = self._metrics.text(self._models).encode(), b"text/plain; version=0.0.4"
            else:
                body = await self._read(scope, receive)
                target = _parse_path(scope["method"], scope["path"])
                model = target.name
                content = _encode(await self._answer(target, body, began + self._deadline))
        except _BodyTooLarge:
            status, code, content = "INVALID_ARGUMENT", 413, _error(f"the body is over {self._body} bytes")
        except Refused as error:
            status, code, content = error.code, HTTP[error.code], _error(error.message)
        except Exception as error:
            status, code, content = "INTERNAL", 500, _error(f"{type(error).__name__}: {error}"[:500])
        if self._models.has(model):
            self._metrics.record(model, "REST", status, time.monotonic() - began)
        headers = [(b"content-type", content_type), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """Return the body of a request.

        Raises:
            _BodyTooLarge: it is larger than allowed.
        """
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self._body:
                raise _BodyTooLarge
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            part = message.get("body", b"")
            size += len(part)
            if size > self._body:
                raise _BodyTooLarge
            parts.append(part)
            more = message.get("more_body", False)
        return b"".join(parts)

    async def _answer(self, target: _Target, body: bytes, deadline: float) -> JSON:
        if target.verb is not None:
            return await self._predict(target, body, deadline)
        if target.metadata:
            return _metadata(self._models.find(target.name, target.number, target.label))
        states = self._models.status(target.name, target.number, target.label)
        return {
            "model_version_status": [
                {"version": str(number), "state": state, "status": {"error_code": "OK", "error_message": ""}}
                for number, state in sorted(states.items(), reverse=True)
            ]
        }

    async def _predict(self, target: _Target, body: bytes, deadline: float) -> JSON:
        request = parse(body)
        with self._models.using(target.name, target.number, target.label) as version:
            signature = version.signatures.get(request.signature)
            inputs = tensors(request.values, request.in_rows, signature.inputs) if signature else {}
            future = self._models.predict(version, request.signature, inputs, deadline)
            try:
                outputs = await asyncio.wait_for(asyncio.wrap_future(future), max(deadline - time.monotonic(), 0))
            except TimeoutError:
                raise Refused("DEADLINE_EXCEEDED", f"no answer within {self._deadline:g} s") from None
            return answer(outputs, request.in_rows)


def _parse_path(method: str, path: str) -> _Target:
    """Return what a request refers to.

    Raises:
        Refused: there is no such path, or it takes another method.
    """
    match = _PATH.fullmatch(path)
    if not match or not NAME.fullmatch(match[1]):
        raise Refused("INVALID_ARGUMENT", f"Malformed request: {method} {path[:200]}")
    name, number, label, metadata, verb = match.groups()
    if number is not None and not (number.isascii() and number.isdigit() and len(number) <= 18):
        raise Refused("INVALID_ARGUMENT", f"Malformed request: version {number[:40]!r} is not a number")
    if (verb, method) not in ((None, "GET"), (":predict", "POST")):
        raise Refused("INVALID_ARGUMENT", f"Malformed request: {method} {path[:200]}")
    return _Target(name, None if number is None else int(number), label, metadata is not None, verb)


def _metadata(version: Version) -> JSON:
    """Return the signatures of a version."""
    signatures = {
        name: {
            "inputs": _describe(signature.inputs),
            "outputs": _describe(signature.outputs),
            "method_name": "tensorflow/serving/predict",
        }
        for name, signature in version.signatures.items()
    }
    return {
        "model_spec": {"name": version.name, "signature_name": "", "version": str(version.number)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _describe(specs: Mapping[str, Spec]) -> JSON:
    return {
        name: {
            "dtype": f"DT_{dtype.upper().removesuffix('32') if dtype in ('float32', 'int32') else dtype.upper()}",
            "tensor_shape": {
                "dim": [{"size": str(size), "name": ""} for size in shape or ()],
                "unknown_rank": shape is None,
            },
            "name": "",
        }
        for name, (dtype, shape) in specs.items()
    }


class _BodyTooLarge(Exception):
    """The body of a request is larger than allowed."""


def _encode(content: JSON) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")


def _error(message: str) -> bytes:
    return _encode({"error": message})


async def _lifespan(receive: Receive, send: Send) -> None:
    """Acknowledge the start and the shutdown of the server."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
