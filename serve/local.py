"""Serve exports without Docker, for development and tests: `trellis serve exports/`

Speaks TensorFlow Serving's protocols: REST on port 8501, gRPC on port 8500, on this machine only. Serves the newest
version of every model in the folder, and loads new versions as they appear. In a browser, http://127.0.0.1:8501/ is a
page to try the models on. On SIGTERM the server stops accepting requests, answers those in flight, and exits.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import logging
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trellis.components.command import CommandParser, port, positive_float, positive_int, run_command
from trellis.components.errors import InputError
from trellis.components.quiet import captured_stderr
from trellis.serve.client import as_json

if TYPE_CHECKING:
    from trellis.serve.server.models import Models
    from trellis.serve.server.prometheus import Metrics

log = logging.getLogger("serve.local")

REST_WARM_UP = 4  # requests to each model over the server's own socket, before it announces that it is serving


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis serve", __doc__)
    parser.add_argument("folder", type=Path, help="the folder of models: FOLDER/NAME/VERSION/")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--rest-port", type=port, default=8501, help="0: any free port (8501)")
    parser.add_argument("--grpc-port", type=port, default=8500, help="0: any free port (8500)")
    parser.add_argument("--no-page", dest="page", action="store_false", help="without the page at / to try models")
    parser.add_argument("--config", type=Path, help="a models.config of TensorFlow Serving, for its version labels")
    parser.add_argument("--poll", type=positive_float, default=1.0, help="seconds between scans of the folder (1)")
    parser.add_argument("--batch", type=positive_int, default=64, help="maximum rows of a batch (64)")
    parser.add_argument(
        "--queue", type=positive_int, default=4096, help="maximum rows that wait for a signature (4096)"
    )
    parser.add_argument("--workers", type=positive_int, default=2, help="batches of a signature at the same time (2)")
    parser.add_argument("--deadline", type=positive_float, default=60.0, help="maximum seconds for a request (60)")
    parser.add_argument("--body", type=positive_int, default=16 << 20, help="maximum bytes of a request (16 MiB)")
    parser.add_argument(
        "--connections", type=positive_int, default=1000, help="maximum connections of each protocol (1000)"
    )
    parser.add_argument(
        "--limit", action="append", default=[], metavar="[[MODEL/]SIGNATURE/]NAME=N",
        help="maximum of a request, repeatable: cells (rows × tokens of the widest row, 65536), rows, or an integer "
        "input such as count (4096) or beam/width (64)",
    )  # fmt: skip
    parser.add_argument("--tls-cert", type=Path, help="certificate chain, PEM; with --tls-key")
    parser.add_argument("--tls-key", type=Path, help="private key, PEM")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return run_command(parser, serve, options)


def serve(options: argparse.Namespace) -> None:
    """Serve models until SIGTERM or SIGINT.

    Raises:
        InputError: there is nothing to serve, an option is invalid, an address is in use, or a file cannot be read.
    """
    _check(options)
    with contextlib.ExitStack() as stack:
        rest_socket = stack.enter_context(_bound_socket("--rest-port", options.host, options.rest_port))
        # gRPC binds its own; this finds out now whether it can.
        _bound_socket("--grpc-port", options.host, options.grpc_port).close()
        with captured_stderr():
            import tensorflow as tf  # its start-up messages are captured here

            from trellis.serve.server.batches import Settings
            from trellis.serve.server.huge_requests import HugeRequests
            from trellis.serve.server.limits import Options
            from trellis.serve.server.models import Models, collect_garbage
            from trellis.serve.server.prometheus import Metrics
            from trellis.serve.server.version_labels import labels_of

        tf.config.threading.set_inter_op_parallelism_threads(max(os.cpu_count() or 1, 2))
        credentials = _credentials(options)
        limits = Options(options.limit)
        labels = labels_of(options.config) if options.config else {}
        settings = Settings(options.batch, options.queue, options.workers)
        huge = HugeRequests()
        stack.callback(huge.stop)
        models = Models(options.folder, settings, labels, options.poll, limits, huge)
        stack.callback(models.stop)
        models.start()
        collect_garbage()
        limits.check({name: versions[max(versions)].signatures for name, versions in models.served.items()})
        front = _FrontEnd(options, models, Metrics(), rest_socket, credentials)
        with _stop_signals() as stopped:
            stack.callback(front.stop)
            front.start()
            names = ", ".join(sorted(models.served)) or "no model yet"
            if not options.tls_cert:
                _warm_up_rest(models, *rest_socket.getsockname()[:2])
            scheme = "https" if options.tls_cert else "http"
            rest_port = rest_socket.getsockname()[1]
            log.info("serving %s: %s://%s:%d, gRPC on %d", names, scheme, options.host, rest_port, front.grpc_port)
            while not stopped.wait(0.2):
                if not front.is_alive():
                    raise InputError("the server stopped unexpectedly")
            log.info("stopping: answering the requests in flight")
            front.stop()


class _FrontEnd:
    """Both protocols, in one event loop in a thread of its own.

    Args:
        options: the command line.
        models: the models.
        metrics: where to record requests.
        rest_socket: where REST listens.
        credentials: of gRPC.

    Attributes:
        grpc_port: the port of gRPC, after `start`.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        models: "Models",
        metrics: "Metrics",
        rest_socket: socket.socket,
        credentials: Any,
    ) -> None:
        import uvicorn

        from trellis.serve.server.connections import HEADER_BYTES, BoundedConnection
        from trellis.serve.server.page import Page
        from trellis.serve.server.rest import Application

        self._options, self._models, self._metrics, self._credentials = options, models, metrics, credentials
        self._socket = rest_socket
        BoundedConnection.maximum = options.connections
        page = Page(models) if options.page else None
        config = uvicorn.Config(
            Application(models, metrics, options.deadline, options.body, page), http=BoundedConnection, ws="none",
            h11_max_incomplete_event_size=HEADER_BYTES, log_level="critical", access_log=False, server_header=False,
            ssl_certfile=options.tls_cert, ssl_keyfile=options.tls_key, timeout_graceful_shutdown=30,
        )  # fmt: skip
        self._rest = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="front_end")
        self._error: Exception | None = None
        self.grpc_port = 0

    def start(self) -> None:
        """Listen; return when both protocols do.

        Raises:
            InputError: an address is in use.
        """
        self._thread.start()
        while self._thread.is_alive() and not self._rest.started:
            self._thread.join(0.02)
        if not self._rest.started:
            raise InputError(f"--grpc-port {self._options.grpc_port}: cannot listen ({self._error})")

    def is_alive(self) -> bool:
        """Return whether requests are answered."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop listening, and wait for the last answers."""
        self._rest.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            self._error = error

    async def _serve(self) -> None:
        from trellis.serve.server.grpc_services import GrpcServer

        options = self._options
        grpc_server = GrpcServer(
            self._models, self._metrics, f"{_bracketed(options.host)}:{options.grpc_port}", options.deadline,
            options.body, options.connections, self._credentials,
        )  # fmt: skip
        self.grpc_port = grpc_server.port
        await grpc_server.start()
        await self._rest.serve(sockets=[self._socket])
        await grpc_server.stop()


def _check(options: argparse.Namespace) -> None:
    """Check the command line, before anything is loaded.

    Raises:
        InputError: an option is invalid.
    """
    if not options.folder.is_dir():
        raise InputError(f"{options.folder}: no such folder; trellis train writes exports under exports/")
    if (options.tls_cert is None) != (options.tls_key is None):
        raise InputError("--tls-cert and --tls-key must be used together")
    if options.config and not options.config.is_file():
        raise InputError(f"{options.config}: no such file")


def _bound_socket(option: str, host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address but does not listen yet.

    Raises:
        InputError: it cannot be bound.
    """
    made = None
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # IPv4 first: `localhost` is both.
        family, kind, protocol, _, address = min(addresses, key=lambda found: found[0] != socket.AF_INET)
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except (OSError, UnicodeError) as error:
        if made is not None:
            made.close()
        raise InputError(f"{option} {port}: cannot listen on {host} ({error})") from None
    return made


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _credentials(options: argparse.Namespace) -> Any:
    """Return the TLS credentials of the gRPC server; None without TLS.

    Raises:
        InputError: a file cannot be read, or the two are not a certificate and its key.
    """
    if not options.tls_cert:
        return None
    import grpc

    for path in (options.tls_cert, options.tls_key):
        try:
            path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        # A key with a password would ask for it on the terminal.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls_cert, options.tls_key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise InputError(
            f"--tls-cert {options.tls_cert}, --tls-key {options.tls_key}: not a certificate and its key, PEM, without a"
            f" password ({error})"
        ) from None
    return grpc.ssl_server_credentials([(options.tls_key.read_bytes(), options.tls_cert.read_bytes())])


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set during the block."""
    event = threading.Event()
    handlers = {number: signal.signal(number, lambda *_: event.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _warm_up_rest(models: "Models", host: str, port: int) -> None:
    """Send some requests over the server's own socket, so that everything between it and the models is warm too."""
    for name, versions in list(models.served.items()):
        for signature, inputs in islice(versions[max(versions)].requests(), REST_WARM_UP):
            body = {"signature_name": signature, "inputs": {key: as_json(value) for key, value in inputs.items()}}
            connection = http.client.HTTPConnection(host, port, timeout=60)
            with contextlib.suppress(OSError, http.client.HTTPException):  # a server that is not warm still serves
                connection.request("POST", f"/v1/models/{name}:predict", json.dumps(body))
                connection.getresponse().read()
            connection.close()


if __name__ == "__main__":
    sys.exit(main())
