"""Random messages over both protocols: an answer or an error with a reason, and a server that goes on."""

import contextlib
import json
import socket

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from tests.serve.test_hostile_requests import PREDICT
from tests.serve.test_local import Server, put

BOUNDED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzed")
    put(folder / "echo", 3)
    made = Server(folder, "--deadline", "5")
    yield made
    assert made.predict({"instances": ["a"]})[0] == 200
    assert made.stop() == 0
    log = "".join(made.log)
    assert "Traceback" not in log and "Error: " not in log, log


@pytest.fixture(scope="module")
def predict(server):
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel.unary_unary(PREDICT)


def check_answer(predict, message):
    """Send bytes; the answer is a response, or an error of the request with a reason in one line."""
    try:
        predict_pb2.PredictResponse.FromString(predict(message, timeout=10))
    except grpc.RpcError as error:
        assert error.code().name in ("INVALID_ARGUMENT", "NOT_FOUND"), error
        assert error.details() and len(error.details()) <= 500 and error.details().isprintable()


SIZES = st.sampled_from([-(2**63), -2, -1, 0, 1, 2, 3, 1000, 65_537, 2**31, 2**40, 2**63 - 1])
TENSORS = st.fixed_dictionaries(
    {"dtype": st.sampled_from([*types_pb2.DataType.values(), 77, 2**31 - 1]), "sizes": st.lists(SIZES, max_size=4)},
    optional={
        "tensor_content": st.binary(max_size=24),
        "string_val": st.lists(st.binary(max_size=6), max_size=4),
        "float_val": st.lists(st.floats(width=32), max_size=4),
        "int_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
        "half_val": st.lists(st.integers(0, 70_000), max_size=2),
        "bool_val": st.lists(st.booleans(), max_size=2),
        "version_number": st.integers(-5, 5),
    },
)
INPUTS = st.dictionaries(st.sampled_from(["text", "tokens", "x", "y", ""]) | st.text(max_size=5), TENSORS, max_size=3)
SIGNATURES = st.sampled_from(["", "serving_default", "add", "tokens", "nobody"])


@BOUNDED
@given(inputs=INPUTS, signature=SIGNATURES, outputs=st.lists(st.sampled_from(["upper", "sum", "nobody"]), max_size=2))
def test_no_tensor_breaks_the_server(predict, inputs, signature, outputs):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name, request.model_spec.signature_name = "echo", signature
    for name, fields in inputs.items():
        tensor = tensor_pb2.TensorProto(**{key: value for key, value in fields.items() if key != "sizes"})
        for size in fields["sizes"]:
            tensor.tensor_shape.dim.add(size=size)
        request.inputs[name].CopyFrom(tensor)
    check_answer(predict, request.SerializeToString())


@BOUNDED
@given(message=st.binary(max_size=80), cut=st.integers(0, 60))
def test_no_bytes_break_the_grpc_server(predict, message, cut):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "echo"
    request.inputs["text"].string_val.append(b"a")
    check_answer(predict, request.SerializeToString()[:cut] + message)


VALUES = st.sampled_from(
    ["", "0", "-1", "1e9", "99999999999999999999", "chunked", "gzip", "close", "100-continue", "é"]
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["content-length", "transfer-encoding", "content-encoding", "connection", "expect", "upgrade", "host", "x" * 99]
    ),
    VALUES,
    max_size=4,
)
LINES = st.tuples(
    st.sampled_from(["GET", "POST", "HEAD", "PUT", "CONNECT", "OPTIONS", "TRACE", "get", "\0"]),
    st.sampled_from(["/v1/models/echo", "/v1/models/echo:predict", "/monitoring/prometheus/metrics", "*", "//", "x:1"])
    | st.text(st.characters(codec="utf-8", exclude_characters=" \r\n"), max_size=20).map("/".__add__),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9"]),
)


@BOUNDED
@given(line=LINES, headers=HEADERS, body=st.binary(max_size=60), split=st.integers(0, 50))
def test_no_bytes_break_the_rest_server(server, line, headers, body, split):
    host, port = server.rest.removeprefix("http://").split(":")
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    message = f"{' '.join(line)}\r\n{fields}\r\n".encode() + body
    with contextlib.suppress(ConnectionError), socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(message[:split])
        connection.sendall(message[split:])
        with contextlib.suppress(OSError):  # the server has refused it already, and closed the connection
            connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        if answer:
            status = int(answer.split(b" ", 2)[1])
            assert answer.startswith(b"HTTP/1.1 ") and status in (100, 200, 400, 404, 405, 408, 411, 413, 501, 505)
    if split % 10 == 0:
        assert server.send("/v1/models/echo")[0] == 200


@BOUNDED
@given(
    signature=SIGNATURES | st.text(max_size=4),
    inputs=st.dictionaries(
        st.sampled_from(["text", "tokens", "x", "y"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just({"b64": "/w=="}),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=6,
        ),
        max_size=2,
    ),
)
def test_no_inputs_break_the_rest_server(server, signature, inputs):
    status, answer = server.predict({"signature_name": signature, "inputs": inputs})
    assert status in (200, 400) and (status == 200 or answer["error"]), answer
    json.dumps(answer)
