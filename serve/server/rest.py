"""TensorFlow Serving's REST interface as an ASGI application."""

import asyncio
import json
import re
import time

from trellis.serve.server.models import NAME
from trellis.serve.server.requests import HTTP, Refused, answer, parse, tensors

_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/([^/:]+)|/labels/([^/:]+))?(?:(/metadata)|(:[a-z]+))?")


class Application:
    """`/v1/models/NAME[/versions/N|/labels/L][/metadata|:predict]` and `/monitoring/prometheus/metrics`.

    Args:
        models: a `Models`. metrics: a `Metrics`.
        deadline: seconds for one request. body: bytes of a request, at most.
    """

    def __init__(self, models, metrics, deadline=60.0, body=16 << 20):
        self.models, self.metrics, self.deadline, self.body = models, metrics, deadline, body

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        began, model, status, kind = time.monotonic(), "", "OK", b"application/json"
        try:
            if scope["path"] == "/monitoring/prometheus/metrics":
                code, content, kind = 200, self.metrics.text(self.models).encode(), b"text/plain; version=0.0.4"
            else:
                body = await self._read(scope, receive)
                model, found = await self._answer(scope["method"], scope["path"], body, began)
                code, content = 200, json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")
        except _TooLarge:
            status, code, content = "INVALID_ARGUMENT", 413, _error(f"the body is over {self.body} bytes")
        except Refused as error:
            status, code, content = error.code, HTTP[error.code], _error(error.message)
        except Exception as error:
            status, code, content = "INTERNAL", 500, _error(f"{type(error).__name__}: {error}"[:500])
        if model:
            self.metrics.record(model, "REST", status, time.monotonic() - began)
        headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _read(self, scope, receive):
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self.body:
                raise _TooLarge
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            part = message.get("body", b"")
            size += len(part)
            if size > self.body:
                raise _TooLarge
            parts.append(part)
            more = message.get("more_body", False)
        return b"".join(parts)

    async def _answer(self, method, path, body, began):
        found = _PATH.fullmatch(path)
        if not found or not NAME.fullmatch(found[1]):
            raise Refused("INVALID_ARGUMENT", f"Malformed request: {method} {path[:200]}")
        name, number, label, metadata, verb = found.groups()
        if number is not None:
            if not number.isascii() or not number.isdigit() or len(number) > 18:
                raise Refused("INVALID_ARGUMENT", f"Malformed request: version {number[:40]!r} is no number")
            number = int(number)
        if verb is not None:
            if verb != ":predict" or method != "POST":
                raise Refused("INVALID_ARGUMENT", f"Malformed request: {method} {path[:200]}")
            return name, await self._predict(name, number, label, body, began + self.deadline)
        if method != "GET":
            raise Refused("INVALID_ARGUMENT", f"Malformed request: {method} {path[:200]}")
        if metadata:
            return name, _metadata(self.models.find(name, number, label))
        return name, self._status(name, number, label)

    async def _predict(self, name, number, label, body, deadline):
        signature, given, rows = parse(body)
        with self.models.using(name, number, label) as version:
            known = version.signatures.get(signature)
            inputs = tensors(given, rows, known["inputs"]) if known else {}
            future = self.models.predict(version, signature, inputs, deadline)
            try:
                outputs = await asyncio.wait_for(asyncio.wrap_future(future), max(deadline - time.monotonic(), 0))
            except TimeoutError:
                raise Refused("DEADLINE_EXCEEDED", f"no answer within {self.deadline:g} s") from None
            return answer(outputs, rows)

    def _status(self, name, number, label):
        states = self.models.status(name)
        if number is not None or label is not None:
            number = self.models.find(name, number, label).number if number is None else number
            if number not in states:
                raise Refused("NOT_FOUND", f"Could not find version {number} of model {name}")
            states = {number: states[number]}
        return {
            "model_version_status": [
                {"version": str(each), "state": state, "status": {"error_code": "OK", "error_message": ""}}
                for each, state in sorted(states.items(), reverse=True)
            ]
        }


def _metadata(version):
    def tensors_of(side):
        return {
            name: {
                "dtype": f"DT_{dtype.upper().removesuffix('32') if dtype in ('float32', 'int32') else dtype.upper()}",
                "tensor_shape": {
                    "dim": [{"size": str(size), "name": ""} for size in shape or ()],
                    "unknown_rank": shape is None,
                },
                "name": "",
            }
            for name, (dtype, shape) in side.items()
        }

    signatures = {
        name: {
            "inputs": tensors_of(each["inputs"]),
            "outputs": tensors_of(each["outputs"]),
            "method_name": "tensorflow/serving/predict",
        }
        for name, each in version.signatures.items()
    }
    return {
        "model_spec": {"name": version.name, "signature_name": "", "version": str(version.number)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


class _TooLarge(Exception):
    pass


def _error(message):
    return json.dumps({"error": message}, ensure_ascii=False).encode("utf-8", "replace")


async def _lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
