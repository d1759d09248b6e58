"""The server against requests and clients that mean harm: limits before work, reasons in answers, nothing trusted."""

import argparse
import asyncio
import contextlib
import gzip
import http.client
import json
import os
import re
import socket
import threading
import time
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serve.test_local import Server, put, remote, stub
from trellis.components.errors import InputError, one_line
from trellis.serve import local
from trellis.serve.server import connections
from trellis.serve.server.batches import BATCH_CELLS, SMALL, Batches, Settings
from trellis.serve.server.computation import stoppable
from trellis.serve.server.limits import Cost, Limits, Options, characters, tokens
from trellis.serve.server.models import Models
from trellis.serve.server.prometheus import Metrics
from trellis.serve.server.requests import Refused, Signature, Spec, parse, tensors

WORDS = {"config": {"text": {"tokenizer": "words"}}}
TEXT = Signature({"text": Spec("string", (-1,))}, {"tags": Spec("string", (-1, -1))})
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def limits(signature=TEXT, metadata=WORDS, **options):
    return Limits.of(signature, options, metadata)


def strings(*texts):
    array = np.empty(len(texts), object)
    array[:] = [text if isinstance(text, bytes) else text.encode() for text in texts]
    return array


# Limits


@pytest.mark.parametrize(
    "texts",
    [
        ["a " * 1_000_000],
        ["a " * 100_000, *[""] * 200],
        ["," * 100_000],
        ["。" * 100_000],
        [" " * 1_000_000],
        ["a,b" * 50_000],
        [b"\x80" * 100_000],
        [""] * 100_000,
        ["x" * 15_000_000],
    ],
    ids=[
        "one long",
        "one long beside empty ones",
        "marks",
        "wide marks",
        "spaces",
        "no spaces",
        "no UTF-8",
        "rows",
        "one word",
    ],
)
def test_texts_of_too_many_cells_are_refused_with_the_limit(texts):
    with pytest.raises(Refused, match=r"limit of 65,536 \(--limit (cells|rows)=…\)") as caught:
        limits().cost({"text": strings(*texts)})
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_long_word_is_one_token_and_characters_count_where_they_are_tokens():
    assert limits().cost({"text": strings("x" * 15)}).cells == 1
    assert limits().cost({"text": strings("x" * 1_000_000)}).cells == 62_500
    with pytest.raises(Refused, match="limit of 65,536"):
        limits(metadata={"config": {"data": {"unit": "characters"}}}).cost({"text": strings("x" * 100_000)})
    assert characters("ç🙂a".encode()) == 3 and characters(b"\xff\xfe") == 2


@settings(max_examples=100, deadline=None)
@given(
    text=st.text(st.sampled_from("a1é。n'ts \t\n.,-'’_🙂\xa0"), max_size=30),
    kind=st.sampled_from(["words", "whitespace", "spaces"]),
)
def test_no_tokenizer_makes_more_tokens_than_are_counted(text, kind):
    from trellis.components.text.tokenizer import tokenize

    assert tokenize(tf.constant([text]), kind).shape[1] <= tokens(text.encode())


def test_limits_follow_shapes_pairs_vocabularies_and_options():
    grid = Signature({"tokens": Spec("string", (-1, -1))}, {"tags": Spec("string", (-1, -1))})
    with pytest.raises(Refused, match="shape"):
        limits(grid).check_shape("tokens", [1 << 40, 1 << 40])
    pair = Signature(
        {"source": Spec("string", (-1,)), "target": Spec("string", (-1,))}, {"forward": Spec("float32", (-1, -1, -1))}
    )
    limits(pair).cost({"source": strings("a " * 1000), "target": strings("a " * 1000)})
    with pytest.raises(Refused, match="pairs of words"):
        limits(pair).cost({"source": strings("a " * 5000), "target": strings("a " * 5000)})
    translator = {"config": {"decoding": {"width": 5}}, "vocabulary": {"target": 6000}}
    best = Signature({"text": Spec("string", (-1,))}, {"text": Spec("string", (-1,))})
    assert limits(best, translator).cost({"text": strings("a " * 99)}).cells == 5 * 99
    with pytest.raises(Refused, match="699"):
        limits(best, translator).cost({"text": strings(*["a"] * 200)})
    with pytest.raises(Refused, match="pairs of words"):
        both = Signature(
            best.inputs | {"translation": Spec("string", (-1,))}, {"log_probability": Spec("float32", (-1,))}
        )
        limits(both, translator).cost({"text": strings("a " * 5000), "translation": strings("a " * 5000)})
    language_model = {"config": {"data": {"unit": "words"}}, "vocabulary": {"words": 30_000}}
    assert limits(metadata=language_model).values["rows"] == 139
    assert limits(cells=7).values["cells"] == 7
    options = Options(["cells=10", "tag/cells=20", "ner/tag/cells=30", "beam/width=5"])
    assert options.of("ner", "tag") == {"cells": 30} and options.of("x", "tag") == {"cells": 20}
    assert options.of("ner", "beam") == {"cells": 10, "width": 5}
    for wrong in ("cells", "cells=0", "cells=x", "a/b/c/cells=1", "widht=3", "/cells=1"):
        with pytest.raises(InputError, match=re.escape(wrong)):
            Options([wrong])


BEAM = Signature(
    {"prompt": Spec("string", (-1,)), "width": Spec("int32", ()), "alpha": Spec("float32", ())}, TEXT.outputs
)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("beem/width=5", "no such signature; did you mean beam?"),
        ("lm/tag/cells=5", "no such signature; did you mean beam?"),
        ("ml/beam/width=5", "no such model; did you mean lm?"),
        ("beam/widht=5", "expected cells, rows, width"),
        ("beam/alpha=5", "expected cells, rows, width"),
        ("ner/tag/count=5", "expected cells, rows"),
    ],
)
def test_limits_that_no_signature_has_are_refused(option, message):
    models = {"ner": {"tag": TEXT}, "lm": {"beam": BEAM}}
    with pytest.raises(InputError, match=re.escape(f"--limit {option}: {message}")):
        Options([option]).check(models)
    Options([option]).check({})  # nothing is known of models to come
    Options(["count=5", "cells=5", "tag/rows=5", "beam/width=5", "lm/beam/width=6"]).check(models)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("width", np.int32(2**31 - 1), "limit of 64"),
        ("count", np.int32(2**31 - 1), "limit of 4,096"),
        ("count", np.int32(0), "at least 1"),
        ("width", np.int32(0), "at least 1"),
        ("width", np.int32(-1), "at least 1"),
        ("top_k", np.int32(-1), "at least 0"),
        ("top_p", np.float32("nan"), "not a finite number"),
        ("top_p", np.float32(0), "above 0 and at most 1"),
        ("top_p", np.float32(1.5), "above 0 and at most 1"),
        ("temperature", np.float32("inf"), "not a finite number"),
        ("temperature", np.float32(-1), "at least 0"),
        ("repetition", np.float32("nan"), "not a finite number"),
        ("anything", np.float32("nan"), "not a finite number"),
    ],
)
def test_invalid_and_excessive_settings_are_refused(name, value, message):
    with pytest.raises(Refused, match=message):
        limits().cost({"prompt": strings("a"), name: np.array(value)})


def test_settings_multiply_the_cells():
    beam = limits()
    assert beam.cost({"prompt": strings("a b"), "count": np.array(10), "width": np.array(4)}).cells == 4 * 12
    with pytest.raises(
        Refused, match=r"64 rows × width 64 × \(1 tokens in the widest \+ count 100\) are 413,696 cells"
    ):
        beam.cost({"prompt": strings(*"a" * 64), "count": np.array(100), "width": np.array(64)})


def test_many_values_are_refused_before_they_are_parsed():
    body = json.dumps({"instances": ["a"] * 100_000}).encode()
    with pytest.raises(Refused, match="above the limit of 4,000"):
        parse(body, 1000)
    with pytest.raises(Refused, match="above the limit of 4,000"):
        parse(b'{"instances": [' + b"[]," * 10_000 + b"[]]}", 1000)
    # Marks in strings are no values.
    assert parse(json.dumps({"instances": [',[{"\\' * 10_000]}).encode(), 1000).values == [',[{"\\' * 10_000]


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", "int8", "int64", "bool", "complex64"])
def test_every_type_is_taken_or_refused_with_a_reason(dtype):
    value = [True] if dtype == "bool" else [1]
    if dtype == "complex64":
        with pytest.raises(Refused, match="JSON has no values of type complex64"):
            tensors({"x": value}, False, {"x": Spec(dtype, (-1,))})
        return
    assert tensors({"x": value}, False, {"x": Spec(dtype, (-1,))})["x"].dtype == dtype


def test_an_integer_outside_of_its_type_is_refused():
    with pytest.raises(Refused, match="outside the range of int8"):
        tensors({"x": [300]}, False, {"x": Spec("int8", (-1,))})


def test_errors_of_graphs_say_what_is_wrong():
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        tf.function(lambda n: tf.fill([n], 0.0))(tf.constant(-1))
    assert one_line(caught.value) == "Dimension -1 must be >= 0"
    assert one_line(RuntimeError("\n\n")) == "RuntimeError"


def test_messages_are_short_and_one_line():
    error = Refused("NOT_FOUND", "no model\r\nx" * 5000)
    assert len(error.message) <= 500 and error.message.isprintable()


# Batches


class Gate:
    """A computation that waits, and counts what is computed together."""

    def __init__(self):
        self.go, self.sizes = threading.Event(), []

    def __call__(self, inputs):
        self.go.wait(10)
        self.sizes.append(len(inputs["x"]))
        return inputs


def ask(batches, width, rows=1, seconds=30):
    return batches.submit({"x": np.zeros(rows)}, time.monotonic() + seconds, Cost(rows, width, rows * width))


def test_small_requests_do_not_wait_for_large_ones():
    held = threading.Event()

    def compute(inputs):
        if inputs["x"][0] > 0:
            held.wait(20)
        return inputs

    batches = Batches(stoppable(compute), False, (), Settings(workers=1))
    large = [batches.submit({"x": np.ones(1)}, time.monotonic() + 30, Cost(1, SMALL + 1, SMALL + 1)) for _ in range(5)]
    try:
        assert ask(batches, 10).result(5)["x"] == 0
    finally:
        held.set()
    assert all(one.result(10)["x"] == 1 for one in large)
    batches.close()


def test_batches_hold_like_widths_and_few_cells():
    gate = Gate()
    batches = Batches(stoppable(gate), True, (), Settings(workers=1))
    first = ask(batches, 1)
    until(lambda: not batches.waiting)
    answers = [ask(batches, width) for width in (3, 30, 20, 4000, 5, 3900, 3800)]
    gate.go.set()
    for answer in (first, *answers):
        answer.result(10)
    assert sorted(gate.sizes) == [1, 1, 2, 4] and 3 * 4000 > BATCH_CELLS > 2 * 4000
    batches.close()


def test_small_requests_overtake_wider_ones():
    gate, order = Gate(), []
    batches = Batches(stoppable(gate), False, (), Settings(workers=1))
    first = ask(batches, 1)
    until(lambda: not batches.waiting)
    wide, narrow = ask(batches, 4000), ask(batches, 10)
    wide.add_done_callback(lambda _: order.append("wide"))
    narrow.add_done_callback(lambda _: order.append("narrow"))
    gate.go.set()
    assert len([answer.result(10) for answer in (first, wide, narrow)]) == 3 and order == ["narrow", "wide"]
    batches.close()


@pytest.mark.parametrize("error", [MemoryError(), Exception(""), RuntimeError("\n"), SystemExit(), KeyboardInterrupt()])
def test_no_exception_ends_a_worker(error):
    def compute(inputs):
        if inputs["x"][0] > 0:
            raise error
        return inputs

    batches = Batches(stoppable(compute), True, (), Settings(workers=1))
    for _ in range(3):
        bad = batches.submit({"x": np.ones(1)}, time.monotonic() + 9)
        with pytest.raises(Refused, match=r"\S"):
            bad.result(5)
    assert ask(batches, 1).result(5)["x"] == 0
    batches.close()


def test_a_computation_that_nobody_waits_for_stops():
    ended = threading.Event()

    @tf.function(input_signature=[tf.TensorSpec([None])])
    def forever(x):
        return tf.while_loop(lambda step: step < 2_000_000_000, lambda step: step + tf.size(x), [tf.constant(0)])

    def compute(inputs):
        try:
            return {"y": forever(tf.constant(inputs["x"], tf.float32))[0].numpy()}
        finally:
            ended.set()

    batches = Batches(stoppable(compute), True, (), Settings(workers=1))
    answer = ask(batches, 1)
    until(lambda: not batches.waiting)
    time.sleep(0.2)
    assert not ended.is_set()
    answer.cancel()
    assert ended.wait(10)
    batches.close()


def test_cancelled_requests_leave_the_queue():
    gate = Gate()
    batches = Batches(stoppable(gate), True, (), Settings(rows=1, queue=3, workers=1))
    first = ask(batches, 1)
    until(lambda: not batches.waiting)
    for answer in [ask(batches, 1) for _ in range(3)]:
        answer.cancel()
    last = ask(batches, 1)  # there is room again
    gate.go.set()
    assert first.result(5) and last.result(5) and batches.rows == 0
    batches.close()


def until(holds, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.02)


# Both protocols


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    put(folder / "echo", 3)
    made = Server(folder, "--deadline", "5", "--connections", "100")
    yield made
    assert made.stop() == 0
    assert "Traceback" not in "".join(made.log)


def metrics(server):
    host, port = server.rest.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("GET", "/monitoring/prometheus/metrics")
    return connection.getresponse().read().decode()


def raw(server):
    host, port = server.rest.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), 20)


def everything(connection):
    """Return all that the server sends until it closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def proto(dtype=types_pb2.DT_STRING, sizes=(1,), **values):
    made = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in sizes:
        made.tensor_shape.dim.add(size=size)
    return made


def predict_request(name="text", signature="", model="echo", **tensor):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    request.inputs[name].CopyFrom(proto(**tensor))
    return request


def refused(method, request, timeout=10):
    with pytest.raises(grpc.RpcError) as caught:
        method(request, timeout=timeout)
    return caught.value.code().name, caught.value.details()


HUGE = [
    ({"sizes": [1 << 40]}, "limit of 65,536"),
    ({"sizes": [1_000_000], "string_val": [b"a"]}, "limit of 65,536"),
    ({"sizes": [1 << 62, 1 << 62]}, "rank 2, expected 1"),
    ({"sizes": [-1], "string_val": [b"a"]}, "shape is not known"),
    ({"sizes": [2], "string_val": [b"a"] * 3}, "3 values for the shape"),
    ({"sizes": [2]}, "0 values for the shape"),
    ({"sizes": [1], "tensor_content": b"abc"}, "values for the shape"),
    ({"dtype": types_pb2.DT_RESOURCE}, "dtype DT_RESOURCE, expected DT_STRING"),
    ({"dtype": types_pb2.DT_VARIANT}, "dtype DT_VARIANT, expected DT_STRING"),
    ({"dtype": types_pb2.DT_INT32, "int_val": [1]}, "dtype DT_INT32, expected DT_STRING"),
    ({"dtype": 9999}, "dtype 9999, expected DT_STRING"),
    ({"dtype": types_pb2.DT_INVALID}, "dtype DT_INVALID, expected DT_STRING"),
    ({"string_val": [b"a"], "name": "x" * 20_000}, "input 'text' is missing"),
]


@pytest.mark.parametrize(("tensor", "message"), HUGE, ids=range(len(HUGE)))
def test_tensors_that_do_not_fit_are_refused_with_a_reason(server, tensor, message):
    code, details = refused(stub(server).Predict, predict_request(**tensor))
    assert code == "INVALID_ARGUMENT" and message in details


def test_numbers_are_checked_too(server):
    for values, message in (
        ({"sizes": [1 << 30, 2], "float_val": [1.0]}, "limit of 65,536"),
        ({"sizes": [1, 2], "tensor_content": b"\0" * 7}, "values for the shape"),
    ):
        request = predict_request("x", "add", dtype=types_pb2.DT_FLOAT, **values)
        request.inputs["y"].CopyFrom(proto(types_pb2.DT_FLOAT, (), float_val=[1.0]))
        code, details = refused(stub(server).Predict, request)
        assert code == "INVALID_ARGUMENT" and message in details
    request = predict_request("x", "add", dtype=types_pb2.DT_FLOAT, sizes=[2, 2], float_val=[1.0])
    request.inputs["y"].CopyFrom(proto(types_pb2.DT_FLOAT, (), float_val=[1.0]))
    assert tf.make_ndarray(stub(server).Predict(request).outputs["sum"]).tolist() == [[2, 2], [2, 2]]


def test_settings_that_are_no_numbers_are_refused_over_both_protocols(server):
    status, answer = server.predict(b'{"signature_name": "add", "inputs": {"x": [[1, 2]], "y": NaN}}')
    assert status == 400 and "'y': nan is not a finite number" in answer["error"]
    with pytest.raises(grpc.RpcError, match="not a finite number"):
        remote(server, {"x": np.ones((1, 2), np.float32), "y": np.float32("nan")}, signature="add")


@pytest.mark.parametrize("length", [16_000, 70_000])
def test_names_come_back_short_over_both_protocols(server, length):
    name = "é" * length
    with_another_input = predict_request(string_val=[b"a"])
    with_another_input.inputs[name].CopyFrom(proto(string_val=[b"a"]))
    for request in (
        predict_request(model=name, string_val=[b"a"]),
        predict_request(signature=name, string_val=[b"a"]),
        with_another_input,
    ):
        code, details = refused(stub(server).Predict, request)
        assert code in ("NOT_FOUND", "INVALID_ARGUMENT") and len(details) < 600 and "é" in details
    for body in ({"signature_name": name, "instances": ["a"]}, {"inputs": {name: ["a"]}}, {name: 1, "inputs": ["a"]}):
        status, answer = server.predict(body)
        assert status == 400 and len(answer["error"]) < 600
    for path in (f"/v1/models/{'n' * 8000}", f"/v1/models/echo/labels/{'n' * 8000}", f"/{'n' * 8000}"):
        assert len(server.send(path)[1]["error"]) < 600


def test_metrics_take_no_names_from_requests_and_count_every_refusal(server):
    before = metrics(server)
    injected = 'x"} 1\nfake_metric{a="'
    refused(stub(server).Predict, predict_request(model=injected, string_val=[b"a"]))
    server.send("/v1/models/nobody")
    server.send("/nothing")
    server.predict(b"{")
    after = metrics(server)
    assert "fake_metric" not in after and "nobody" not in after

    def count(text, labels):
        return sum(int(value) for value in re.findall(rf"request_count\{{{labels}\}} (\d+)", text))

    for labels, more in (
        ('model_name="",entrypoint="REST",status="NOT_FOUND"', 1),
        ('model_name="",entrypoint="REST",status="INVALID_ARGUMENT"', 1),
        ('model_name="echo",entrypoint="REST",status="INVALID_ARGUMENT"', 1),
        ('model_name="",entrypoint="GRPC",status="NOT_FOUND"', 1),
    ):
        assert count(after, labels) == count(before, labels) + more, labels


@pytest.mark.parametrize("method", ["CONNECT", "POST", "DELETE", "OPTIONS"])
def test_metrics_have_one_method(server, method):
    with raw(server) as connection:
        connection.sendall(f"{method} /monitoring/prometheus/metrics HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert b" 400 " in connection.recv(4096)


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
def test_upgrades_are_not_taken(server, upgrade):
    with raw(server) as connection:
        head = f"GET /v1/models/echo HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: {upgrade}\r\n\r\n"
        connection.sendall(head.encode())
        assert everything(connection).startswith(b"HTTP/1.1 200")


def test_methods_that_are_not_implemented_say_so_without_a_traceback(server):
    channel = grpc.insecure_channel(server.grpc)
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    management = model_service_pb2_grpc.ModelServiceStub(channel)
    assert refused(predictions.Classify, classification_pb2.ClassificationRequest())[0] == "UNIMPLEMENTED"
    assert (
        refused(management.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest())[0] == "UNIMPLEMENTED"
    )
    nonsense = channel.unary_unary(PREDICT)
    assert refused(nonsense, b"\xff\xff\xff")[0] == "INVALID_ARGUMENT"


def test_grpc_health_is_that_of_the_models(server):
    checks = health_pb2_grpc.HealthStub(grpc.insecure_channel(server.grpc))
    for service in ("", "echo"):
        assert checks.Check(health_pb2.HealthCheckRequest(service=service)).status == 1
    assert refused(checks.Check, health_pb2.HealthCheckRequest(service="nobody"))[0] == "NOT_FOUND"


def test_compressed_messages_are_not_taken(server):
    # 16 MiB of zeros decompress from 16 KB; a thousand times as much would be decompressed before its size is checked.
    message = predict_request(string_val=[b"a"])
    with grpc.insecure_channel(server.grpc, compression=grpc.Compression.Gzip) as channel:
        predict = channel.unary_unary(PREDICT, request_serializer=predict_pb2.PredictRequest.SerializeToString)
        code, _ = refused(predict, message)
    assert code == "UNIMPLEMENTED"
    status, answer = server.predict(gzip.compress(b'{"instances": ["a"]}'))
    assert status == 400 and "JSON" in answer["error"]


def test_types_have_the_names_of_tensorflow(server):
    _, answer = server.send("/v1/models/echo/metadata")
    outputs = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]["outputs"]
    assert outputs["length"]["dtype"] == "DT_INT32"


# Slow clients


def test_requests_that_do_not_come_in_time_are_given_up(tmp_path, monkeypatch):
    put(tmp_path / "echo", 1)
    with slow_server(tmp_path, monkeypatch) as made:
        begun = [raw(made) for _ in range(3)]
        begun[1].sendall(b"POST /v1/models/echo:predict HTTP/1.1\r\nx: ")
        begun[2].sendall(b"POST /v1/models/echo:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        stop = threading.Event()

        def dribble():
            while not stop.wait(0.1):
                for connection in begun[1:]:
                    with contextlib.suppress(OSError):
                        connection.sendall(b"x")

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            answers = [everything(connection) for connection in begun]
        finally:
            stop.set()
            thread.join()
        assert all(answer.startswith(b"HTTP/1.1 408") and b'"error"' in answer for answer in answers)
        assert made.predict({"instances": ["a"]})[0] == 200


def test_an_answer_that_is_not_read_does_not_hold_a_connection(tmp_path, monkeypatch):
    put(tmp_path / "echo", 1)
    with slow_server(tmp_path, monkeypatch) as made:
        with raw(made) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for _ in range(40):
                connection.sendall(b"GET /v1/models/echo/metadata HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
                time.sleep(0.01)
            until(lambda: open_connections(made) <= 1)
        body = b"POST /v1/models/echo:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n"
        with raw(made) as connection:  # answered at once, then still sending
            connection.sendall(body)
            assert b" 413 " in connection.recv(4096)
            with pytest.raises(OSError):
                for _ in range(200):
                    connection.sendall(b"x")
                    time.sleep(0.05)


def test_what_is_written_in_one_turn_of_the_loop_is_sent_at_once():
    sent = []

    async def write():
        transport = connections._JoinedWrites(SimpleNamespace(write=sent.append, close=lambda: sent.append("closed")))
        transport.write(b"head, ")
        transport.write(b"body")
        assert not sent
        await asyncio.sleep(0)
        transport.write(b"last")
        transport.close()
        await asyncio.sleep(0)

    asyncio.run(write())
    assert sent == [b"head, body", b"last", "closed"]


def test_connections_are_bounded_and_the_idle_ones_give_way(server):
    idle = [raw(server) for _ in range(300)]
    began = time.monotonic()
    assert server.predict({"instances": ["a"]})[0] == 200 and time.monotonic() - began < 5
    assert open_connections(server) <= 101
    assert b" 503 " in everything(idle[0])
    for connection in idle:
        connection.close()


def test_grpc_streams_without_a_message_do_not_hold_others_up(server):
    go = threading.Event()

    def nothing():
        go.wait(20)
        return
        yield

    with grpc.insecure_channel(server.grpc) as channel:
        predict = channel.stream_unary(PREDICT)
        stalled = [predict.future(nothing()) for _ in range(100)]
        try:
            for _ in range(3):
                assert remote(server, {"text": ["a"]}, timeout=5).outputs
            with pytest.raises(grpc.RpcError) as caught:
                stalled[50].result(15)
            assert caught.value.code().name == "DEADLINE_EXCEEDED"
        finally:
            go.set()


def open_connections(server):
    """The number of connections to the REST port that the server's process has."""
    port = int(server.rest.rsplit(":", 1)[1])
    with open(f"/proc/{server.process.pid}/net/tcp") as file:
        rows = [line.split() for line in file][1:]
    own = {row[9] for row in rows if int(row[1].split(":")[1], 16) == port and row[3] != "0A"} - {"0"}
    return len(own)


@contextlib.contextmanager
def slow_server(folder, monkeypatch):
    """A server in this process with time limits of half a second."""
    for name in ("HEADERS", "BODY", "LINGER"):
        monkeypatch.setattr(connections, name, 0.5)
    made = Server.__new__(Server)
    made.models = Models(folder, Settings())
    made.models.start()
    options = argparse.Namespace(
        host="127.0.0.1", rest_port=0, grpc_port=0, deadline=5.0, body=1 << 20, connections=50, tls_cert=None,
        tls_key=None, page=True,
    )  # fmt: skip
    bound = local._bound_socket("--rest-port", "127.0.0.1", 0)
    front = local._FrontEnd(options, made.models, Metrics(), bound, None)
    front.start()
    made.rest = f"http://127.0.0.1:{bound.getsockname()[1]}"
    made.grpc_port = front.grpc_port
    made.process = SimpleNamespace(pid=os.getpid())
    try:
        yield made
    finally:
        front.stop()
        made.models.stop()
        bound.close()
