"""Close HTTP connections that wait too long or are too many; uvicorn itself only bounds the size of headers."""

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS, BODY, LINGER = 10.0, 30.0, 5.0  # seconds for headers, for a body, and for a client that should close or read
HEADER_BYTES = 32 << 10


class _JoinedWrites:
    """A transport that sends what is written in one turn of the event loop at once: an answer is a head and a body.

    Args:
        transport: sends it, and does all else.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the data at the end of this turn."""
        if not self._parts:
            asyncio.get_running_loop().call_soon(self._send)
        self._parts.append(data)

    def close(self) -> None:
        """Close the connection after what was written."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._transport.write(b"".join(parts))


class BoundedConnection(H11Protocol):
    """A connection that is closed if its client does not send a request, or does not read the answer, in time.

    If there are more than `maximum` connections, the one that has been without a complete request for longest is
    closed, so that clients which open many and send little harm only themselves.
    """

    maximum = 1000
    _incomplete: dict["BoundedConnection", None] = {}  # connections without a complete request, oldest first

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._awaited = ""  # what the client has to send
        self._timer: asyncio.TimerHandle | None = None
        self._aborting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for headers; close another connection if there are too many."""
        super().connection_made(_JoinedWrites(transport))  # type: ignore[arg-type]
        self._await("headers", HEADERS)
        if len(self.connections) > self.maximum:
            next(iter(self._incomplete))._refuse(503, "too many connections")  # this one if there is no other

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._await("")
        if self._aborting:
            self._aborting.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Handle what the client has sent; then wait for the rest of it, within a time limit."""
        super().handle_events()
        self._wait()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the client to stop sending a body that is not read."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later()
        else:
            self._wait()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even if its client has not read all answers."""
        super().timeout_keep_alive_handler()
        self._abort_later()

    def pause_writing(self) -> None:
        """Wait for the client to read, within a time limit."""
        super().pause_writing()
        self._abort_later(BODY)

    def resume_writing(self) -> None:
        """Resume writing: the client has read."""
        super().resume_writing()
        if self._aborting and not self.transport.is_closing():
            self._aborting.cancel()
            self._aborting = None

    def _wait(self) -> None:
        """Find out what the client has to send next."""
        if self.transport.is_closing():
            self._await("")
        elif self.conn.their_state is h11.IDLE:
            # Between requests uvicorn's own timer runs.
            self._await(*(("headers", HEADERS) if self.timeout_keep_alive_task is None else ("a request", None)))
        elif self.conn.their_state is h11.SEND_BODY:
            self._await(*(("the end of the body", LINGER) if self.cycle.response_complete else ("body", BODY)))
        else:
            self._await("")

    def _await(self, awaited: str, seconds: float | None = None) -> None:
        """Start to wait for something, unless it is awaited already; stop waiting if `awaited` is empty."""
        if awaited == self._awaited:
            return
        if self._timer:
            self._timer.cancel()
        self._awaited = awaited
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._time_out)
        self._incomplete.pop(self, None)
        if awaited:
            self._incomplete[self] = None

    def _time_out(self) -> None:
        self._refuse(408, f"no {self._awaited} within the time limit")

    def _refuse(self, status: int, message: str) -> None:
        """Close the connection; answer first if the client is sending a request."""
        if not self.transport.is_closing():
            if self._awaited in ("headers", "body"):
                body = json.dumps({"error": message}).encode()
                head = f"HTTP/1.1 {status} {message}\r\ncontent-type: application/json\r\nconnection: close\r\n"
                self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            self.transport.close()
        self._await("")
        self._abort_later()

    def _abort_later(self, seconds: float = LINGER) -> None:
        """Drop the connection if it is still open by then: closing waits until the client has read everything."""
        if self._aborting:
            self._aborting.cancel()
        self._aborting = self.loop.call_later(seconds, self.transport.abort)
