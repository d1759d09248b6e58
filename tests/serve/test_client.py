"""The client against servers that answer slowly, wrongly, or with another address."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from argparse import Namespace

import numpy as np
import pytest

from tests.serve.test_local import Server, put
from trellis.components.errors import InputError
from trellis.serve.client import Client, ServingError
from trellis.serve.local import _credentials
from trellis.serve.remote import RemoteModel


@contextlib.contextmanager
def answering(*parts, pause=0.0, status="200 OK", headers="", keep=False):
    """A server that answers each request with these parts and pauses before each; yields its address, and requests."""
    requests, stopped = [], threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    length = sum(map(len, parts))

    def answer(connection):
        with connection, contextlib.suppress(OSError):
            while request := connection.recv(65536):
                head, _, body = request.partition(b"\r\n\r\n")
                missing = re.search(rb"(?i)content-length: (\d+)", head)
                while missing and len(body) < int(missing[1]):
                    body += connection.recv(65536)
                requests.append(head + body)
                connection.sendall(f"HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n".encode())
                for part in parts:
                    stopped.wait(pause)
                    connection.sendall(part)
                if not keep:
                    return

    def serve():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", requests
    finally:
        stopped.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def test_the_timeout_is_for_the_whole_answer():
    with answering(*[b" "] * 100, pause=0.1) as (url, _):
        began = time.monotonic()
        with pytest.raises(ServingError, match="DEADLINE_EXCEEDED"):
            Client(url, "m", timeout=0.5).predict(text=["a"])
        assert time.monotonic() - began < 2


def test_headers_that_drip_do_not_outlast_the_timeout():
    listening = socket.create_server(("127.0.0.1", 0))

    def drip():
        connection, _ = listening.accept()
        with contextlib.suppress(OSError):
            for character in b"HTTP/1.1 200 OK\r\nx-header: " + b"x" * 200:
                connection.sendall(bytes([character]))
                time.sleep(0.05)

    threading.Thread(target=drip, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(ServingError, match="DEADLINE_EXCEEDED"):
        Client(f"http://127.0.0.1:{listening.getsockname()[1]}", "m", timeout=0.5).predict(text=["a"])
    assert time.monotonic() - began < 2
    listening.close()


def test_a_redirect_is_not_followed():
    with answering(b"{}") as (other, received):
        location = f"location: {other}/v1/models/m:predict\r\n"
        with (
            answering(b"", status="307 Temporary Redirect", headers=location) as (url, _),
            pytest.raises(ServingError, match="redirects to another address, which is not followed"),
        ):
            Client(url, "m").predict(text=["secret"])
        assert received == []


@pytest.mark.parametrize(
    "answer",
    [
        b"[]", b"null", b"{}", b"3", b"not JSON", b"\xff", b"[" * 100_000, b'{"outputs": [[1], [2, 3]]}',
        b'{"outputs": {"a": {"b64": 3}}}', b'{"outputs": {"a": [{"b": 1}]}}', b'{"outputs": ["a"]}', b'{"error": 3}',
        b'{"metadata": 1}', b'{"metadata": {"signature_def": {"signature_def": {"s": []}}}}',
        b'{"model_version_status": [{"version": "x", "state": 1}]}', b'{"model_version_status": 3}',
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_a_serving_error(answer):
    for status in ("200 OK", "500 Internal Server Error"):
        with answering(answer, status=status) as (url, _):
            client = Client(url, "m", attempts=1, timeout=5)
            for call in (client.versions, client.signatures):
                with contextlib.suppress(ServingError):
                    call()
            with pytest.raises(ServingError):
                client.predict("nobody", text=["a"])
            if answer != b"{}":
                continue
            with pytest.raises(InputError, match="--url"):
                RemoteModel(url, "m")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_does_not_answer_is_a_short_message(scheme):
    with pytest.raises(InputError) as caught:
        RemoteModel(f"{scheme}://127.0.0.1:1", "m")
    assert str(caught.value) == f"--url {scheme}://127.0.0.1:1: no server answers there (Connection refused)"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_inputs_that_cannot_be_sent_are_a_serving_error(scheme):
    with pytest.raises(ServingError, match=r"INVALID_ARGUMENT.*cannot be sent"):
        Client(f"{scheme}://127.0.0.1:1", "m").predict(text={1: object()})


def test_a_connection_that_the_server_closed_is_replaced():
    with answering(json.dumps({"outputs": {"x": [1]}}).encode()) as (url, received), Client(url, "m") as client:
        for _ in range(3):
            assert client.predict(text=["a"])["x"].tolist() == [1]
        assert len(received) == 3


def test_a_connection_is_used_again():
    with (
        answering(json.dumps({"outputs": {"x": [1]}}).encode(), keep=True) as (url, received),
        Client(url, "m") as client,
    ):
        for _ in range(3):
            assert client.predict(text=["a"])["x"].tolist() == [1]
        assert len(received) == 3 and len(client._transport._idle) == 1


@pytest.mark.parametrize(
    ("url", "certificate"),
    [
        ("http://", None),
        ("http://x:port", None),
        ("https://x", "/nowhere.pem"),
        ("grpcs://x", "/nowhere.pem"),
        ("http://x", "/c.pem"),
    ],
)
def test_addresses_and_certificates_are_checked(url, certificate):
    with pytest.raises(ValueError, match=r"has no host|[Pp]ort|not a certificate|certificate is for"):
        Client(url, "m", certificate=certificate)


def certificate(folder):
    """A self-signed certificate and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, path = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    return path, key


def test_both_protocols_speak_tls(tmp_path):
    trusted, key = certificate(tmp_path)
    put(tmp_path / "served" / "echo", 1)
    made = Server(tmp_path / "served", "--tls-cert", str(trusted), "--tls-key", str(key))
    try:
        for url in (made.rest, f"grpc://{made.grpc}", f"grpcs://{made.grpc}"):
            with Client(url, "echo", certificate=trusted) as client:
                assert client.predict(text=["a"])["upper"].tolist() == ["A"]
        for url in (made.rest, f"grpcs://{made.grpc}"):
            with pytest.raises(ServingError):
                Client(url, "echo", attempts=1, timeout=3).predict(text=["a"])
    finally:
        assert made.stop() == 0


@pytest.mark.parametrize("make", ["nonsense", "other key", "password"])
def test_tls_files_are_checked_before_models_are_loaded(tmp_path, make):
    trusted, key = certificate(tmp_path)
    if make == "nonsense":
        trusted.write_bytes(b"\xff\x00nonsense")
    elif make == "other key":
        (tmp_path / "b").mkdir()
        _, key = certificate(tmp_path / "b")
    else:
        locked = tmp_path / "locked.pem"
        subprocess.run(["openssl", "rsa", "-aes128", "-passout", "pass:x", "-in", key, "-out", locked], check=True, capture_output=True)  # noqa: E501  # fmt: skip
        key = locked
    with pytest.raises(InputError, match="not a certificate and its key"):
        _credentials(Namespace(tls_cert=trusted, tls_key=key))


def test_numbers_of_any_numpy_type_are_sent():
    with answering(json.dumps({"outputs": {"x": [1]}}).encode()) as (url, received):
        Client(url, "m").predict(x=np.ones((1, 2), np.float32), y=np.int64(3))
        assert b'{"x": [[1.0, 1.0]], "y": 3}' in b"".join(received)
