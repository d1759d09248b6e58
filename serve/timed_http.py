"""HTTP connections with one deadline for everything, however slowly bytes arrive."""

import http.client
import io
import math
import socket
import ssl
import time
from typing import Any

from trellis.components.types import FilePath


class TimedConnection(http.client.HTTPConnection):
    """A connection that has to connect, send and receive before `deadline`, a time of `time.monotonic`."""

    deadline = math.inf

    def remaining(self) -> float:
        """Return the seconds left.

        Raises:
            TimeoutError: none are left.
        """
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def connect(self) -> None:
        """Connect, in the time left."""
        self.timeout = self.remaining()
        super().connect()

    def send(self, data: Any) -> None:
        """Send, in the time left."""
        if self.sock is not None:
            self.sock.settimeout(self.remaining())
        super().send(data)

    def response_class(self, sock: socket.socket, *arguments: Any, **options: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        """Return a response that is read in the time left, however slowly its bytes come."""
        return http.client.HTTPResponse(_Reader(sock, self), *arguments, **options)  # type: ignore[arg-type]


class SecureTimedConnection(TimedConnection, http.client.HTTPSConnection):
    """The same over TLS."""


class _Reader(io.RawIOBase):
    """The bytes of a socket, each read of which takes at most the time that its connection has left."""

    def __init__(self, sock: socket.socket, connection: TimedConnection) -> None:
        self._socket, self._connection = sock, connection

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a buffered file, as the method of a socket does."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes."""
        self._socket.settimeout(self._connection.remaining())
        return self._socket.recv_into(buffer)


def tls_context(certificate: FilePath | None) -> ssl.SSLContext:
    """Return a context that trusts a certificate authority, or those of the system."""
    try:
        return ssl.create_default_context(cafile=certificate)
    except OSError as error:
        raise ValueError(f"{certificate}: not a certificate, PEM ({error.strerror or error})") from None
