"""TensorFlow Serving's REST interface as an ASGI application."""

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias, TypeVar

from trellis.components.errors import first_line
from trellis.components.types import JSON
from trellis.serve.server.limits import Cost
from trellis.serve.server.models import NAME, Models, Version
from trellis.serve.server.page import HEADERS, Page
from trellis.serve.server.prometheus import Metrics
from trellis.serve.server.requests import (
    HTTP,
    Arrays,
    Predict,
    Refused,
    Spec,
    answer,
    brief,
    data_type,
    parse,
    tensors,
)

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

Result = TypeVar("Result")

log = logging.getLogger("serve.local")

METRICS = "/monitoring/prometheus/metrics"
SMALL_BODY = 16 << 10  # bytes of a request that is parsed at once
SMALL_ANSWER = 4_096  # values of an answer that is encoded at once
HELD_BODIES = 8  # large bodies of the maximum size that may be in memory
QUICK = 0.25  # seconds after which the server checks whether the client is still connected

_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/([^/:]+)|/labels/([^/:]+))?(?:(/metadata)|(:[a-z]+))?")


class _Target(NamedTuple):
    """What a path refers to: a model, maybe one of its versions, and what is asked about it."""

    name: str
    number: int | None
    label: str | None
    metadata: bool
    verb: str | None


class HeldBytes:
    """The bytes of large requests that are held in memory at the same time.

    Args:
        limit: the maximum.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that reserves further bytes; they are free again after the block."""
        own = 0

        def reserve(size: int) -> None:
            nonlocal own
            if self._held + size > self._limit:
                raise Refused("RESOURCE_EXHAUSTED", f"large requests hold {self._limit >> 20} MiB already")
            self._held += size
            own += size

        try:
            yield reserve
        finally:
            self._held -= own


class Application:
    """`/v1/models/NAME[/versions/N|/labels/L][/metadata|:predict]`, `/monitoring/prometheus/metrics`, and the page.

    Args:
        models: the models.
        metrics: where to record requests.
        deadline: the maximum seconds for a request.
        body: the maximum bytes of a request.
        page: the page at `/`; None: there is none.
    """

    def __init__(
        self, models: Models, metrics: Metrics, deadline: float = 60.0, body: int = 16 << 20, page: Page | None = None
    ) -> None:
        self._models, self._metrics, self._deadline, self._body = models, metrics, deadline, body
        self._page = page
        self._held = HeldBytes(HELD_BODIES * body)
        # One thread: large requests are parsed one after the other, and small ones in the event loop meanwhile.
        self._parser = ThreadPoolExecutor(1, "parser")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        began, model, status, content_type = time.monotonic(), "", "OK", b"application/json"
        code = 200
        more_headers: Sequence[tuple[bytes, bytes]] = ()
        try:
            method, path = scope["method"], scope["path"]
            if path == METRICS and method == "GET":
                content, content_type = self._metrics.text(self._models).encode(), b"text/plain; version=0.0.4"
            elif self._page and (file := self._page.find(method, path)):
                content_type, content = file
                more_headers = HEADERS
            else:
                target = _parse_path(method, path)
                model = target.name
                with self._held.holding() as reserve:
                    body = await self._read(scope, receive, reserve)
                    code, content = await self._answer(target, body, receive, began + self._deadline)
        except _Gone:
            self._metrics.record(self._models.label(model), "REST", "CANCELLED", time.monotonic() - began)
            return
        except _BodyTooLarge:
            status, code, content = "INVALID_ARGUMENT", 413, _error(f"the body is over {self._body} bytes")
        except Refused as error:
            status, code, content = error.code, HTTP[error.code], _error(error.message)
        except Exception as error:
            log.error("%s: %s", type(error).__name__, first_line(error, 300))
            status, code, content = "INTERNAL", 500, _error(f"{type(error).__name__}: {first_line(error, 300)}")
        self._metrics.record(self._models.label(model), "REST", status, time.monotonic() - began)
        headers = [(b"content-type", content_type), (b"content-length", str(len(content)).encode()), *more_headers]
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _read(self, scope: Scope, receive: Receive, reserve: Callable[[int], None]) -> bytes:
        """Return the body of a request.

        Args:
            scope: the request.
            receive: returns the next part.
            reserve: reserves the bytes of a large body.

        Raises:
            Refused: large requests hold too many bytes already.
            _BodyTooLarge: it is larger than allowed.
            _Gone: the client has closed the connection, or did not send the body in time.
        """
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value[:18]) > self._body:
                raise _BodyTooLarge
        parts, size, reserved, more = [], 0, 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            part = message.get("body", b"")
            size += len(part)
            if size > self._body:
                raise _BodyTooLarge
            if size > SMALL_BODY:
                reserve(size - reserved)
                reserved = size
            parts.append(part)
            more = message.get("more_body", False)
        return b"".join(parts)

    async def _answer(self, target: _Target, body: bytes, receive: Receive, deadline: float) -> tuple[int, bytes]:
        """Return the HTTP status and the body of the answer."""
        if target.verb is not None:
            return 200, await self._predict(target, body, receive, deadline)
        if target.metadata:
            return 200, _encode(_metadata(self._models.find(target.name, target.number, target.label)))
        states = self._models.status(target.name, target.number, target.label)
        shown: JSON = {
            "model_version_status": [
                {
                    "version": str(number),
                    "state": state.name,
                    "status": {"error_code": state.code, "error_message": state.message},
                }
                for number, state in sorted(states.items(), reverse=True)
            ]
        }
        if any(state.name == "AVAILABLE" for state in states.values()):
            return 200, _encode(shown)
        # Probes look at the status alone: there is nothing here that answers.
        return 503, _encode({"error": f"no version of {target.name} is available", **shown})

    async def _predict(self, target: _Target, body: bytes, receive: Receive, deadline: float) -> bytes:
        with self._models.using(target.name, target.number, target.label) as version:

            def prepare() -> tuple[Predict, Arrays, Cost]:
                request = parse(body, self._models.largest)
                signature = version.signature(request.signature)
                inputs = tensors(request.values, request.in_rows, signature.inputs)
                return request, inputs, version.check(request.signature, inputs)

            if len(body) <= SMALL_BODY:
                request, inputs, cost = prepare()
            else:
                request, inputs, cost = await self._off_loop(prepare, receive, deadline)
            future = version.batches[request.signature].submit(inputs, deadline, cost)
            del inputs
            outputs = await self._wait(asyncio.wrap_future(future), receive, deadline)

            if sum([array.size for array in outputs.values()]) <= SMALL_ANSWER:
                return _encode(answer(outputs, request.in_rows))
            return await self._off_loop(lambda: _encode(answer(outputs, request.in_rows)), receive, deadline)

    async def _off_loop(self, function: Callable[[], Result], receive: Receive, deadline: float) -> Result:
        """Run a function outside of the event loop, which it would block; return its result."""
        return await self._wait(asyncio.wrap_future(self._parser.submit(function)), receive, deadline)

    async def _wait(self, future: "asyncio.Future[Result]", receive: Receive, deadline: float) -> Result:
        """Wait for a result; cancel it if the client disconnects or the deadline passes.

        Raises:
            Refused: the deadline has passed.
            _Gone: the client has closed the connection.
        """
        reasons: list[Exception] = []
        watchers: list[asyncio.Task[None]] = []

        async def watch() -> None:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await receive()  # returns when the client has closed the connection
                reasons.append(_Gone())
            except TimeoutError:
                reasons.append(Refused("DEADLINE_EXCEEDED", f"no answer within {self._deadline:g} s"))
            future.cancel()

        # Most answers arrive before it pays to watch the client.
        loop, left = asyncio.get_running_loop(), deadline - time.monotonic()
        timer = loop.call_later(min(QUICK, left), lambda: watchers.append(loop.create_task(watch())))
        try:
            return await future
        except asyncio.CancelledError:
            if reasons:
                raise reasons[0] from None
            raise
        finally:
            timer.cancel()
            future.cancel()
            for watcher in watchers:
                watcher.cancel()


def _parse_path(method: str, path: str) -> _Target:
    """Return what a request refers to.

    Raises:
        Refused: there is no such path, or it takes another method.
    """
    match = _PATH.fullmatch(path)
    name, number, label, metadata, verb = match.groups() if match else ("", None, None, None, None)
    if not NAME.fullmatch(name) or (verb, method) not in ((None, "GET"), (":predict", "POST")):
        raise Refused("INVALID_ARGUMENT", f"Malformed request: {method} {brief(path)}")
    if number is not None and not (number.isascii() and number.isdigit() and len(number) <= 18):
        raise Refused("INVALID_ARGUMENT", f"Malformed request: version {brief(number)!r} is not a number")
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
            "dtype": data_type(dtype),
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


class _Gone(Exception):
    """The client has closed the connection."""


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
