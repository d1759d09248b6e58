"""Clients that mean harm, for `benchmarks.serving --hostile`: each class of attack in threads of its own process.

python -m benchmarks.hostile_clients HOST REST_PORT GRPC_PORT MODEL SECONDS
"""

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

LONG_TEXT = "word " * 50_000  # within the limits: seconds of work
MILLION_TOKENS = "a " * 1_000_000
BODY = 15_000_000
Address = tuple[str, int]


class Attack:
    """Requests to one server until a time has passed.

    Args:
        rest: where REST is.
        grpc_address: where gRPC is.
        model: the name of a tagger.
        seconds: how long to go on.

    Attributes:
        outcomes: how often each attack ended in which way.
    """

    def __init__(self, rest: Address, grpc_address: Address, model: str, seconds: float) -> None:
        self._rest, self._grpc_address, self._model = rest, grpc_address, model
        self._end = time.monotonic() + seconds
        self.outcomes: Counter[str] = Counter()

    def run(self) -> None:
        """Run all attacks at once."""
        bodies = {
            "a million tokens": self._body([MILLION_TOKENS]),
            "a long text beside empty ones": self._body(["a " * 100_000, *[""] * 200]),
            "50,000 tokens": self._body([LONG_TEXT]),
            "15 MB, one string": self._body(["x" * BODY]),
            "15 MB, many lists": b'{"instances": [' + b"[]," * (BODY // 3) + b"[]]}",
            "15 MB, not JSON": b"[" * BODY,
        }
        attacks: list[Callable[[], None]] = [
            *(lambda name=name, body=body: self._post(name, body) for name, body in bodies.items()),  # type: ignore[misc]
            lambda: self._leave(bodies["50,000 tokens"]),
            lambda: self._dribble("headers", b"POST / HTTP/1.1\r\nx: ", 200),
            lambda: self._dribble("bodies", self._head(BODY), 100, b"x" * 1_000_000),
            lambda: self._dribble("unread answers", self._head(2) + b"{}", 50),
            self._tensors,
            self._streams,
        ]
        threads = [threading.Thread(target=attack, daemon=True) for attack in attacks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(self._end + 5 - time.monotonic(), 0))

    def _body(self, texts: list[str]) -> bytes:
        return json.dumps({"signature_name": "from_text", "instances": texts}).encode()

    def _head(self, length: int) -> bytes:
        return f"POST /v1/models/{self._model}:predict HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode()

    def _rounds(self) -> Iterator[None]:
        while time.monotonic() < self._end:
            yield

    def _post(self, name: str, body: bytes) -> None:
        """Send a body again and again."""
        for _ in self._rounds():
            connection = http.client.HTTPConnection(*self._rest, timeout=60)
            try:
                connection.request("POST", f"/v1/models/{self._model}:predict", body)
                outcome = str(connection.getresponse().status)
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
            connection.close()
            self.outcomes[f"{name}: {outcome}"] += 1

    def _leave(self, body: bytes) -> None:
        """Ask for work and leave."""
        for _ in self._rounds():
            with contextlib.suppress(OSError), socket.create_connection(self._rest, 5) as connection:
                connection.sendall(self._head(len(body)) + body)
                time.sleep(0.3)
            self.outcomes["left after 0.3 s"] += 1

    def _dribble(self, name: str, begin: bytes, count: int, more: bytes = b"") -> None:
        """Open connections and send a byte a second over each; open others in place of those that are closed."""
        connections: list[socket.socket] = []
        for _ in self._rounds():
            while len(connections) < count and time.monotonic() < self._end:
                with contextlib.suppress(OSError):
                    connection = socket.create_connection(self._rest, 5)
                    connection.settimeout(0.5)
                    connections.append(connection)
                    connection.sendall(begin + more)
            for connection in list(connections):
                try:
                    connection.sendall(b"x")
                except OSError:
                    self.outcomes[f"slow {name}: closed"] += 1
                    connections.remove(connection)
                    connection.close()
            time.sleep(1)

    def _tensors(self) -> None:
        """Send tensors of large shapes and few values."""
        import grpc
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        with grpc.insecure_channel("{}:{}".format(*self._grpc_address)) as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            for _ in self._rounds():
                for size in (1 << 40, 1_000_000):
                    request = predict_pb2.PredictRequest()
                    request.model_spec.name, request.model_spec.signature_name = self._model, "from_text"
                    request.inputs["text"].dtype = 7
                    request.inputs["text"].tensor_shape.dim.add(size=size)
                    request.inputs["text"].string_val.append(b"a")
                    with contextlib.suppress(grpc.RpcError):
                        predict(request, timeout=30)
                    self.outcomes["large shapes"] += 1
                time.sleep(0.05)

    def _streams(self) -> None:
        """Open gRPC streams that never send their message."""
        import grpc

        def nothing() -> Iterator[bytes]:
            time.sleep(20)
            yield from ()

        with grpc.insecure_channel("{}:{}".format(*self._grpc_address)) as channel:
            predict = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
            for _ in self._rounds():
                for stalled in [predict.future(nothing()) for _ in range(50)]:
                    with contextlib.suppress(grpc.RpcError, grpc.FutureTimeoutError):
                        stalled.result(5)
                    self.outcomes["streams without a message"] += 1


def main() -> None:
    """Attack, and print the outcomes as JSON."""
    host, rest_port, grpc_port, model, seconds = sys.argv[1:]
    attack = Attack((host, int(rest_port)), (host, int(grpc_port)), model, float(seconds))
    attack.run()
    print(json.dumps(attack.outcomes), flush=True)


if __name__ == "__main__":
    main()
