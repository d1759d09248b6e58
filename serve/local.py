"""A server without Docker, for development and tests: `trellis serve exports/`

Speaks TensorFlow Serving's protocols: REST on port 8501, gRPC on port 8500, on this machine alone. It serves the newest
version of every model of the folder, takes up new versions when they are warm, and ends gracefully on SIGTERM.
"""

import argparse
import contextlib
import http.client
import json
import logging
import signal
import sys
import threading
from itertools import islice
from pathlib import Path

from trellis.components.errors import InputError
from trellis.components.quiet import captured_stderr
from trellis.serve.client import as_json

log = logging.getLogger("serve.local")

ASKED = 4  # requests to each model over the server's own socket, before it says that it serves


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="trellis serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the models: FOLDER/NAME/VERSION/")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument("--rest-port", type=int, default=8501, help="0: any that is free (8501)")
    parser.add_argument("--grpc-port", type=int, default=8500, help="0: any that is free (8500)")
    parser.add_argument("--config", type=Path, help="a models.config of TensorFlow Serving, for its version labels")
    parser.add_argument("--poll", type=float, default=1.0, help="seconds between looks at the folder (1)")
    parser.add_argument("--batch", type=int, default=64, help="rows that are computed together at most (64)")
    parser.add_argument("--queue", type=int, default=4096, help="rows that may wait for one signature (4096)")
    parser.add_argument("--workers", type=int, default=2, help="batches of one signature at once (2)")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds for one request at most (60)")
    parser.add_argument("--body", type=int, default=16 << 20, help="bytes of one request at most (16 MiB)")
    parser.add_argument("--tls-cert", type=Path, help="certificate chain, PEM; with --tls-key")
    parser.add_argument("--tls-key", type=Path, help="private key, PEM")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        return serve(options)
    except InputError as error:
        print(f"trellis serve: error: {error}", file=sys.stderr)
        return 2


def serve(options):
    """Serves until SIGTERM or SIGINT; returns 0.

    Raises:
        InputError: nothing to serve, an address in use, a certificate that cannot be read.
    """
    if not options.folder.is_dir():
        raise InputError(f"{options.folder}: no such folder; python train.py writes exports under exports/")
    if (options.tls_cert is None) != (options.tls_key is None):
        raise InputError("--tls-cert and --tls-key go together")
    with captured_stderr():
        import tensorflow  # noqa: F401
        import uvicorn

        from trellis.serve.server import grpc_services
        from trellis.serve.server.batches import Settings
        from trellis.serve.server.models import Models, labels_of
        from trellis.serve.server.prometheus import Metrics
        from trellis.serve.server.rest import Application

    labels = labels_of(options.config) if options.config else {}
    models = Models(options.folder, Settings(options.batch, options.queue, options.workers), labels, options.poll)
    metrics = Metrics()
    credentials = None
    if options.tls_cert:
        import grpc

        try:
            pair = options.tls_key.read_bytes(), options.tls_cert.read_bytes()
        except OSError as error:
            raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from None
        credentials = grpc.ssl_server_credentials([pair])
    models.start()
    try:
        remote, port = grpc_services.server(
            models, metrics, f"{options.host}:{options.grpc_port}", options.deadline, options.body, credentials
        )
    except RuntimeError as error:
        models.stop()
        raise InputError(f"--grpc-port {options.grpc_port}: cannot be listened at ({error})") from None
    application = Application(models, metrics, options.deadline, options.body)
    config = uvicorn.Config(
        application, host=options.host, port=options.rest_port, log_level="error", access_log=False,
        ssl_certfile=options.tls_cert, ssl_keyfile=options.tls_key, timeout_graceful_shutdown=30,
    )  # fmt: skip
    web = uvicorn.Server(config)
    thread = threading.Thread(target=web.run, name="rest")
    done = threading.Event()
    former = {each: signal.signal(each, lambda *_: done.set()) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        remote.start()
        thread.start()
        while thread.is_alive() and not web.started:
            thread.join(0.02)
        if not web.started:
            raise InputError(f"--rest-port {options.rest_port}: cannot be listened at")
        rest = web.servers[0].sockets[0].getsockname()[1]
        names = ", ".join(sorted(models.served)) or "no model yet"
        scheme = "https" if options.tls_cert else "http"
        if not options.tls_cert:
            _ask(models, options.host, rest)
        log.info("serving %s: %s://%s:%d, gRPC on %d", names, scheme, options.host, rest, port)
        while not done.wait(0.2):
            if not thread.is_alive():
                raise InputError("the REST server ended")
        log.info("ending: what was asked is still answered")
    finally:
        web.should_exit = True
        stopped = remote.stop(30)
        if thread.ident is not None:
            thread.join()
        stopped.wait()
        models.stop()
        for number, handler in former.items():
            signal.signal(number, handler)
    return 0


def _ask(models, host, port):
    """Some requests over the server's own socket, so that all that lies between it and the models is warm too."""
    for name, versions in list(models.served.items()):
        for signature, inputs in islice(versions[max(versions)].requests(), ASKED):
            body = {"signature_name": signature, "inputs": {key: as_json(value) for key, value in inputs.items()}}
            connection = http.client.HTTPConnection(host, port, timeout=60)
            with contextlib.suppress(OSError, http.client.HTTPException):  # it is warm or not, but it serves
                connection.request("POST", f"/v1/models/{name}:predict", json.dumps(body))
                connection.getresponse().read()
            connection.close()


if __name__ == "__main__":
    sys.exit(main())
