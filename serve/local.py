"""Serve exports without Docker, for development and tests: `trellis serve exports/`

Speaks TensorFlow Serving's protocols: REST on port 8501, gRPC on port 8500, on this machine only. Serves the newest
version of every model in the folder, and loads new versions as they appear. On SIGTERM the server stops accepting
requests, answers those in flight, and exits.
"""

import argparse
import contextlib
import http.client
import json
import logging
import signal
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

log = logging.getLogger("serve.local")

REST_WARM_UP = 4  # requests to each model over the server's own socket, before it announces that it is serving


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis serve", __doc__)
    parser.add_argument("folder", type=Path, help="the folder of models: FOLDER/NAME/VERSION/")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--rest-port", type=port, default=8501, help="0: any free port (8501)")
    parser.add_argument("--grpc-port", type=port, default=8500, help="0: any free port (8500)")
    parser.add_argument("--config", type=Path, help="a models.config of TensorFlow Serving, for its version labels")
    parser.add_argument("--poll", type=positive_float, default=1.0, help="seconds between looks at the folder (1)")
    parser.add_argument("--batch", type=positive_int, default=64, help="maximum rows of a batch (64)")
    parser.add_argument(
        "--queue", type=positive_int, default=4096, help="maximum rows that wait for a signature (4096)"
    )
    parser.add_argument("--workers", type=positive_int, default=2, help="batches of a signature at the same time (2)")
    parser.add_argument("--deadline", type=positive_float, default=60.0, help="maximum seconds for a request (60)")
    parser.add_argument("--body", type=positive_int, default=16 << 20, help="maximum bytes of a request (16 MiB)")
    parser.add_argument("--tls-cert", type=Path, help="certificate chain, PEM; with --tls-key")
    parser.add_argument("--tls-key", type=Path, help="private key, PEM")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return run_command(parser, serve, options)


def serve(options: argparse.Namespace) -> None:
    """Serve models until SIGTERM or SIGINT.

    Raises:
        InputError: there is nothing to serve, an address is in use, or a certificate cannot be read.
    """
    if not options.folder.is_dir():
        raise InputError(f"{options.folder}: no such folder; trellis train writes exports under exports/")
    if (options.tls_cert is None) != (options.tls_key is None):
        raise InputError("--tls-cert and --tls-key must be used together")
    with captured_stderr():
        import tensorflow  # noqa: F401 - its start-up messages are captured here
        import uvicorn

        from trellis.serve.server import grpc_services
        from trellis.serve.server.batches import Settings
        from trellis.serve.server.models import Models, labels_of
        from trellis.serve.server.prometheus import Metrics
        from trellis.serve.server.rest import Application

    labels = labels_of(options.config) if options.config else {}
    credentials = _credentials(options)
    models = Models(options.folder, Settings(options.batch, options.queue, options.workers), labels, options.poll)
    metrics = Metrics()
    models.start()
    try:
        grpc_server, grpc_port = grpc_services.make_server(
            models, metrics, f"{options.host}:{options.grpc_port}", options.deadline, options.body, credentials
        )
    except RuntimeError as error:
        models.stop()
        raise InputError(f"--grpc-port {options.grpc_port}: cannot listen ({error})") from None
    application = Application(models, metrics, options.deadline, options.body)
    config = uvicorn.Config(
        application, host=options.host, port=options.rest_port, log_level="error", access_log=False,
        ssl_certfile=options.tls_cert, ssl_keyfile=options.tls_key, timeout_graceful_shutdown=30,
    )  # fmt: skip
    rest_server = uvicorn.Server(config)
    thread = threading.Thread(target=rest_server.run, name="rest")
    with _stop_signals() as stopped:
        try:
            grpc_server.start()
            thread.start()
            while thread.is_alive() and not rest_server.started:
                thread.join(0.02)
            if not rest_server.started:
                raise InputError(f"--rest-port {options.rest_port}: cannot listen")
            rest_port = rest_server.servers[0].sockets[0].getsockname()[1]
            names = ", ".join(sorted(models.served)) or "no model yet"
            if not options.tls_cert:
                _warm_up_rest(models, options.host, rest_port)
            scheme = "https" if options.tls_cert else "http"
            log.info("serving %s: %s://%s:%d, gRPC on %d", names, scheme, options.host, rest_port, grpc_port)
            while not stopped.wait(0.2):
                if not thread.is_alive():
                    raise InputError("the REST server stopped unexpectedly")
            log.info("stopping: answering the requests in flight")
        finally:
            rest_server.should_exit = True
            grpc_stopped = grpc_server.stop(30)
            if thread.ident is not None:
                thread.join()
            grpc_stopped.wait()
            models.stop()


def _credentials(options: argparse.Namespace) -> Any:
    """Return the TLS credentials of the gRPC server; None without TLS.

    Raises:
        InputError: a file cannot be read.
    """
    if not options.tls_cert:
        return None
    import grpc

    try:
        pair = options.tls_key.read_bytes(), options.tls_cert.read_bytes()
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return grpc.ssl_server_credentials([pair])


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
