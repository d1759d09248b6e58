"""The local server over its sockets: answers and errors as of TensorFlow Serving, versions under load, shutdown."""

import asyncio
import base64
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from tests import warm_python
from tests.pipelines.runs import ROOT, python
from trellis.components.saved_model import package
from trellis.components.saved_model.export_module import ExportModule
from trellis.serve import promote
from trellis.serve.client import Client, ServingError
from trellis.serve.server.batches import Batches, Settings
from trellis.serve.server.computation import stoppable
from trellis.serve.server.requests import Refused


class Echo(ExportModule):
    """Returns texts in capitals, their lengths and letters, and the version that answers."""

    def __init__(self, version):
        super().__init__()
        self.version = tf.Variable(version, trainable=False)
        texts = [tf.TensorSpec([None], tf.string, name="text")]
        self.serving_default = tf.function(self._answer, input_signature=texts)
        self.slow = tf.function(self._slow, input_signature=texts)
        self.add = tf.function(
            lambda x, y: {"sum": x + y},
            input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x"), tf.TensorSpec([], tf.float32, name="y")],
        )
        self.tokens = tf.function(
            lambda tokens: {"shown": tf.strings.join(["<", tokens, ">"])},
            input_signature=[tf.TensorSpec([None, None], tf.string, name="tokens")],
        )

    def _answer(self, text):
        letters = tf.strings.unicode_split(text, "UTF-8").to_tensor("")
        return {
            "upper": tf.strings.upper(text, encoding="utf-8"),
            "length": tf.strings.length(text),
            "letters": letters,
            "version": tf.fill([tf.size(text)], self.version),
        }

    def _slow(self, text):
        square = tf.random.stateless_uniform([1000, 1000], [1, tf.size(text)]) / 500
        for _ in range(60):
            square = square @ square / tf.reduce_sum(square)
        return {"total": tf.fill(tf.shape(text), tf.reduce_sum(square))}

    def signatures(self):
        return {
            "serving_default": self.serving_default,
            "slow": self.slow,
            "add": self.add,
            "tokens": self.tokens,
        }

    def examples(self, texts):
        return {"serving_default": {"text": texts}}


def put(folder, version):
    """Write a version to a temporary folder, then rename it to its number."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".aside-{version}"
    aside.mkdir()
    package.write(aside, Echo(version), folder.name, ["a", "some words", "a much longer text of several words"], {})
    aside.rename(folder / str(version))
    package.publish_metadata(folder)
    return folder / str(version)


class Server:
    """`trellis serve` in a process of its own."""

    def __init__(self, folder, *options):
        command = ["-m", "trellis", "serve", folder, "--rest-port", "0", "--grpc-port", "0", "--poll", "0.1", *options]
        self.process = warm_python.start(*command, cwd=ROOT)
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"(https?://[^,]+), gRPC on (\d+)", line):
                self.rest, self.grpc = found[1], f"127.0.0.1:{found[2]}"
                break
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def send(self, path, body=None, method=None):
        """Return the status and the parsed answer."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.rest + path, data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def predict(self, body, model="echo", spec=""):
        return self.send(f"/v1/models/{model}{spec}:predict", body)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    put(folder / "echo", 3)
    config = folder / "models.config"
    config.write_text(
        'model_config_list { config { name: "echo" base_path: "/models/echo" model_platform: "tensorflow"\n'
        '  version_labels { key: "stable" value: 3 } } }\n'
    )
    made = Server(folder, "--config", str(config), "--body", "200000", "--deadline", "0.4", "--no-page")
    yield made
    assert made.stop() == 0
    assert "stopping: answering the requests in flight" in "".join(made.log)


def stub(server):
    return prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(server.grpc))


def remote(server, inputs, model="echo", signature="", timeout=10, **spec):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return stub(server).Predict(request, timeout=timeout)


# Answers


def test_rows_and_columns_have_the_same_answers(server):
    status, answer = server.predict({"instances": ["ab", "ç"]})
    assert (status, [row["upper"] for row in answer["predictions"]]) == (200, ["AB", "Ç"])
    assert server.predict({"instances": [{"text": "ab"}, {"text": "ç"}]})[1] == answer
    status, columns = server.predict({"inputs": {"text": ["ab", "ç"]}})
    assert columns["outputs"]["letters"] == [["a", "b"], ["ç", ""]]
    assert server.predict({"inputs": ["ab", "ç"]})[1] == columns
    assert server.predict({"signature_name": "tokens", "instances": [["a", "b"]]})[1] == {
        "predictions": [["<a>", "<b>"]]
    }
    found = server.predict({"signature_name": "add", "inputs": {"x": [[1, 2.5]], "y": 1}})[1]
    assert found == {"outputs": [[2, 3.5]]}


def test_bytes_are_sent_as_base64(server):
    given = base64.b64encode(b"\xff\x00").decode()
    status, answer = server.predict({"signature_name": "tokens", "instances": [[{"b64": given}]]})
    assert status == 200 and base64.b64decode(answer["predictions"][0][0]["b64"]) == b"<\xff\x00>"


@pytest.mark.parametrize("text", ["a\x00b", "🙂" * 5, "x" * 100_000, "\ud800", ""])
def test_texts_of_every_kind_are_answered(server, text):
    status, answer = server.predict({"instances": [text]})
    assert status == 200 and len(answer["predictions"]) == 1


def test_grpc_has_the_same_answers(server):
    response = remote(server, {"text": ["ab", "c"]})
    assert tf.make_ndarray(response.outputs["upper"]).tolist() == [b"AB", b"C"]
    assert (response.model_spec.name, response.model_spec.version.value) == ("echo", 3)
    assert tf.make_ndarray(remote(server, {"text": ["ab"]}, label="stable").outputs["version"]).tolist() == [3]


def test_status_and_metadata_are_those_of_tensorflow_serving(server):
    status, answer = server.send("/v1/models/echo")
    assert status == 200 and answer["model_version_status"][0] == {
        "version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""},
    }  # fmt: skip
    assert server.send("/v1/models/echo/versions/3")[0] == server.send("/v1/models/echo/labels/stable")[0] == 200
    status, answer = server.send("/v1/models/echo/versions/3/metadata")
    signature = answer["metadata"]["signature_def"]["signature_def"]["add"]
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert [each["size"] for each in signature["inputs"]["x"]["tensor_shape"]["dim"]] == ["-1", "2"]
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "echo"
    packed = stub(server).GetModelMetadata(request).metadata["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    packed.Unpack(signatures)
    assert set(signatures.signature_def) == {"serving_default", "slow", "add", "tokens"}


def test_metrics_have_the_names_of_tensorflow_serving(server):
    server.predict({"instances": ["x"]})
    with urllib.request.urlopen(server.rest + "/monitoring/prometheus/metrics") as response:
        text = response.read().decode()
    assert re.search(r'request_count\{model_name="echo",entrypoint="REST",status="OK"\} \d', text)
    assert re.search(r'latency_bucket\{model_name="echo",entrypoint="REST",le="\+Inf"\} \d', text)
    assert re.search(r"process_resident_memory_bytes \d{8}", text)


def test_metrics_count_refused_requests_but_no_made_up_models(server):
    server.predict({"instances": [1]})
    server.predict({"instances": ["x"]}, model="nobody")
    with pytest.raises(grpc.RpcError):
        remote(server, {"text": ["a"]}, model="nobody")
    with urllib.request.urlopen(server.rest + "/monitoring/prometheus/metrics") as response:
        text = response.read().decode()
    assert re.search(r'request_count\{model_name="echo",entrypoint="REST",status="INVALID_ARGUMENT"\} \d', text)
    assert "nobody" not in text


# Refusals

WRONG = [
    ({"instances": [1]}, "is not a string"),
    ({"instances": [["a"]]}, "rank above 1"),
    ({"instances": "a"}, "'instances' is not a non-empty list"),
    ({"instances": []}, "'instances' is not a non-empty list"),
    ({"inputs": "a"}, "rank 0, expected 1"),
    ({"inputs": {"words": ["a"]}}, "input 'text' is missing"),
    ({"inputs": {"text": ["a"], "more": ["b"]}}, "no input 'more'"),
    ({"instances": [{"text": "a"}, {"x": "b"}]}, "differ in their inputs"),
    ({"instances": [{"text": "a"}, "b"]}, "mix objects"),
    ({"signature_name": "nobody", "instances": ["a"]}, "not found in signature def"),
    ({"signature_name": 3, "instances": ["a"]}, "'signature_name' is not a string"),
    ({"signature_name": "tokens", "instances": [["a"], ["b", "c"]]}, "ragged"),
    ({"signature_name": "add", "inputs": {"x": [[1, 2, 3]], "y": 1}}, "size 3 in axis 1, expected 2"),
    ({"signature_name": "add", "inputs": {"x": [[1, 2]], "y": "one"}}, "is not a float32"),
    ({"signature_name": "add", "inputs": [[1, 2]]}, "inputs must be named"),
    ({"instances": [{"b64": "%%"}]}, "not base64"),
    ({"instances": ["a"], "inputs": ["a"]}, "both 'inputs' and 'instances'"),
    ({}, "Missing 'inputs' or 'instances'"),
    ([], "not an object"),
    (b"{", "JSON Parse error"),
    (b"\xff\xfe", "JSON Parse error"),
    (b"[" * 50_000, "nested too deeply"),
]


@pytest.mark.parametrize(("body", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_bodies_are_refused_with_a_reason(server, body, message):
    status, answer = server.predict(body)
    assert status == 400 and message in answer["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/nobody:predict", 404),
        ("/v1/models/echo/versions/99:predict", 404),
        ("/v1/models/echo/versions/one:predict", 400),
        ("/v1/models/echo/labels/canary:predict", 404),
        ("/v1/models/..%2f..%2fetc:predict", 400),
        ("/v1/models/../../etc:predict", 400),
        ("/v1/models/.:predict", 404),
        ("/v1/models/echo:destroy", 400),
        ("/", 400),
    ],
)
def test_wrong_paths_are_refused(server, path, status):
    assert server.send(path, {"instances": ["a"]})[0] == status


@pytest.mark.parametrize("path", ["/", "/page/models", "/page/page.js"])
def test_without_the_page_its_paths_are_refused_as_tensorflow_serving_does(server, path):
    assert server.send(path) == (400, {"error": f"Malformed request: GET {path}"})


def test_unknown_models_and_methods_are_refused(server):
    assert server.send("/v1/models/nobody")[0] == server.send("/v1/models/nobody/metadata")[0] == 404
    assert server.send("/v1/models/echo/versions/77")[0] == 404
    assert server.send("/v1/models/echo", b"{}", "DELETE")[0] == 400


def test_large_requests_are_refused(server):
    status, answer = server.predict({"instances": ["x" * 300_000]})
    assert status == 413 and "over 200000 bytes" in answer["error"]
    with pytest.raises(grpc.RpcError) as caught:
        remote(server, {"text": ["x" * 300_000]})
    assert caught.value.code().name == "RESOURCE_EXHAUSTED"


def test_requests_past_the_deadline_fail(server):
    began = time.monotonic()
    assert server.predict({"signature_name": "slow", "instances": ["a"]})[0] == 504
    assert time.monotonic() - began < 5
    with pytest.raises(grpc.RpcError) as caught:
        remote(server, {"text": ["a"]}, signature="slow", timeout=0.2)
    assert caught.value.code().name == "DEADLINE_EXCEEDED"
    # Computations that nobody waits for still run to their end.
    _until(lambda: all(server.predict({"instances": ["a"]})[0] == 200 for _ in range(5)))


@pytest.mark.parametrize(
    ("inputs", "options", "code"),
    [
        ({"text": ["a"]}, {"model": "nobody"}, "NOT_FOUND"),
        ({"text": ["a"]}, {"version": 99}, "NOT_FOUND"),
        ({"text": ["a"]}, {"label": "canary"}, "NOT_FOUND"),
        ({"text": ["a"]}, {"signature": "nobody"}, "INVALID_ARGUMENT"),
        ({"text": [1]}, {}, "INVALID_ARGUMENT"),
        ({"text": [["a"]]}, {}, "INVALID_ARGUMENT"),
        ({}, {}, "INVALID_ARGUMENT"),
        ({"text": ["a"], "more": ["a"]}, {}, "INVALID_ARGUMENT"),
    ],
)
def test_grpc_refuses_the_same_requests(server, inputs, options, code):
    with pytest.raises(grpc.RpcError) as caught:
        remote(server, inputs, **options)
    assert caught.value.code().name == code


ODD = [b"a\x00b", "🙂".encode() * 5, b"x" * 1_000_000, b"\xff\xfe", b"\xed\xa0\x80", b"", b" " * 1000]


def test_a_full_queue_refuses_over_both_protocols(tmp_path):
    put(tmp_path / "echo", 1)
    small = Server(tmp_path, "--queue", "2", "--workers", "1", "--batch", "1", "--deadline", "30")
    ask = {"signature_name": "slow", "instances": ["a"]}
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: small.predict(ask), range(12)))
    codes = {status for status, _ in answers}
    assert codes == {200, 429}
    assert all("error" in answer for status, answer in answers if status == 429)

    def remotely(_):
        try:
            return bool(remote(small, {"text": ["a"]}, signature="slow", timeout=30))
        except grpc.RpcError as error:
            return error.code().name

    with ThreadPoolExecutor(12) as threads:
        assert set(threads.map(remotely, range(12))) == {True, "RESOURCE_EXHAUSTED"}
    assert small.predict({"instances": ["a"]})[0] == 200
    assert small.stop() == 0


@pytest.fixture(scope="module")
def several(tmp_path_factory, tagger):
    """A folder of models, and a server of them; each test may add versions to a model of its own."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "tagger").symlink_to(tagger)
    for name in ("changing", "corrupted"):
        put(folder / name, 1)
    made = Server(folder)
    yield folder, made
    assert made.stop() == 0


def test_a_tagger_answers_texts_of_every_kind_over_both_protocols(several):
    _, made = several
    for text in ODD:
        encoded = {"b64": base64.b64encode(text).decode()}
        status, answer = made.predict({"signature_name": "from_text", "instances": [encoded]}, "tagger")
        assert status == 200 and len(answer["predictions"]) == 1
        shown = remote(made, {"text": [text]}, model="tagger", signature="from_text", timeout=60).outputs
        tags = [tag.decode() for tag in tf.make_ndarray(shown["tags"])[0]]
        assert tags == answer["predictions"][0]["tags"]
        rows = {"signature_name": "entities", "instances": [{"text": encoded, "threshold": 0}]}
        status, answer = made.predict(rows, "tagger")
        inputs = {"text": [text], "threshold": np.zeros(1, np.float32)}
        shown = remote(made, inputs, model="tagger", signature="entities", timeout=60).outputs
        assert status == 200 and answer["predictions"][0]["start"] == tf.make_ndarray(shown["start"])[0].tolist()
        row = {"signature_name": "serving_default", "instances": [[encoded, "Oslo"]]}
        status, answer = made.predict(row, "tagger")
        shown = remote(made, {"tokens": [[text, b"Oslo"]]}, model="tagger", timeout=60).outputs
        assert status == 200 and tf.make_ndarray(shown["tags"]).shape == (1, 2)
        assert answer["predictions"][0]["tags"] == [tag.decode() for tag in tf.make_ndarray(shown["tags"])[0]]


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=6), children, max_size=3),
    max_leaves=8,
)
BODIES = st.one_of(
    st.binary(max_size=60),
    NESTED.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {},
        optional={
            "instances": NESTED,
            "inputs": NESTED,
            "signature_name": st.sampled_from(["serving_default", "add", "tokens", ""]) | NESTED,
        },
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, path=st.sampled_from(["/v1/models/echo:predict", "/v1/models/echo/versions/3:predict"]))
def test_no_body_breaks_the_server(server, body, path):
    status, answer = server.send(path, body, "POST")
    assert status in (200, 400) and isinstance(answer, dict)


# The client


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_the_client_speaks_both_protocols(server, kind):
    url = server.rest if kind == "rest" else f"grpc://{server.grpc}"
    with Client(url, "echo", label="stable" if kind == "rest" else None) as client:
        found = client.predict(text=["ab", "ç"])
        assert found["upper"].tolist() == ["AB", "Ç"] and found["version"].tolist() == [3, 3]
        assert client.predict("tokens", tokens=[["a"]])["shown"].tolist() == [["<a>"]]
        added = client.predict("add", x=np.ones((1, 2), np.float32), y=np.float32(1))["sum"]
        np.testing.assert_array_equal(added, [[2, 2]])
        assert client.versions() == {3: "AVAILABLE"}
        many = list(client.predict_many((f"t{n}" for n in range(10)), size=4))
        assert [(text, row["upper"]) for text, row in many] == [(f"t{n}", f"T{n}") for n in range(10)]

        async def several():
            return await asyncio.gather(*(client.predict_async(text=[str(n)]) for n in range(5)))

        assert [each["upper"][0] for each in asyncio.run(several())] == list("01234")
        with pytest.raises(ServingError, match="INVALID_ARGUMENT"):
            client.predict(nothing=["a"])
    with pytest.raises(ServingError, match="NOT_FOUND"):
        Client(url, "nobody").predict(text=["a"])


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_asking_a_server_does_not_import_tensorflow(server, kind):
    url = server.rest if kind == "rest" else f"grpc://{server.grpc}"
    script = f"""
import sys
import numpy as np
from trellis.serve import generate, predict, rescore, score_translations, translate
from trellis.serve.remote import RemoteModel
model = RemoteModel({url!r}, "echo")
print(sorted(model.inputs), model.call("serving_default", text=np.array([b"a"], object))["upper"])
print([name for name in sys.modules if name.split(".")[0] in ("tensorflow", "tensorflow_serving", "keras")])
"""
    done = python("-c", script, cwd=ROOT)
    assert done.stdout == "['add', 'serving_default', 'slow', 'tokens'] [b'A']\n[]\n", done.stderr
    assert done.stderr == ""


def test_the_client_retries(monkeypatch):
    client = Client("http://127.0.0.1:1", "echo", timeout=5, attempts=3)
    times = []

    def refused(*_):
        times.append(time.monotonic())
        raise ServingError("UNAVAILABLE", "no")

    monkeypatch.setattr(client._transport, "predict", refused)
    with pytest.raises(ServingError, match="UNAVAILABLE"):
        client.predict(text=["a"])
    assert len(times) == 3
    with pytest.raises(ServingError, match="UNAVAILABLE"):
        Client("http://127.0.0.1:1", "echo", timeout=0.2).predict(text=["a"])
    with pytest.raises(ValueError, match="must begin with"):
        Client("127.0.0.1:8501", "echo")


# Versions


def test_no_request_fails_while_versions_change(several):
    folder, made = several
    problems, seen, stop = [], set(), threading.Event()

    def ask(number):
        with Client(made.rest if number % 2 else f"grpc://{made.grpc}", "changing", attempts=1) as client:
            while not stop.is_set():
                try:
                    found = client.predict(text=["a", "bb", "ccc"])["version"].tolist()
                    if len(set(found)) != 1:
                        problems.append(found)
                    seen.add(found[0])
                except Exception as error:
                    problems.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    try:
        for version in (2, 3):
            put(folder / "changing", version)
            _until(lambda version=version: version in seen)
        _until(lambda: "changing version 2: unloaded" in "".join(made.log))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert problems == [] and seen == {1, 2, 3}


def test_a_corrupted_version_is_skipped(several):
    folder, made = several
    aside = folder / "corrupted" / ".2"
    shutil.copytree(folder / "corrupted" / "1", aside)
    (aside / "saved_model.pb").write_bytes(b"nothing")
    aside.rename(folder / "corrupted" / "2")
    _until(lambda: any("corrupted version 2: cannot be loaded, skipped" in line for line in made.log))
    time.sleep(0.5)
    assert sum("cannot be loaded" in line for line in made.log) == 1
    assert made.predict({"instances": ["a"]}, "corrupted")[1]["predictions"][0]["version"] == 1


def _until(holds, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.05)


def test_a_registered_model_is_promoted_and_rolled_back(tmp_path, capsys, database):
    import mlflow

    put(tmp_path / "exports" / "echo", 1)
    uri = database(tmp_path)
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("e", (tmp_path / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=mlflow.get_experiment_by_name("e").experiment_id):
        info = mlflow.pyfunc.log_model(
            name="model", python_model=str(ROOT / "serve" / "mlflow_model.py"),
            artifacts={"export": str(tmp_path / "exports" / "echo" / "1")}, pip_requirements=["mlflow"],
        )  # fmt: skip
    mlflow.register_model(info.model_uri, "echo")
    mlflow.MlflowClient().set_registered_model_alias("echo", "champion", "1")
    served = tmp_path / "served"
    for _ in range(2):
        assert promote.main(["echo@champion", str(served), "--tracking-uri", uri]) == 0
    assert sorted(each.name for each in (served / "echo").iterdir()) == ["1", "2", "metadata.json", "model_card.md"]
    assert promote.main(["echo", str(served), "--roll-back"]) == 0
    assert not (served / "echo" / "2").exists()
    assert promote.main(["echo", str(served), "--roll-back"]) == 2
    assert promote.main(["nobody@champion", str(served), "--tracking-uri", uri]) == 2
    assert "no previous version to roll back to" in capsys.readouterr().err


# Batches


def test_waiting_requests_are_computed_together():
    sizes, go = [], threading.Event()

    def run(inputs):
        go.wait(5)
        sizes.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2}

    batches = Batches(stoppable(run), True, (), Settings(rows=8, queue=100, workers=1))
    waiting = [batches.submit({"x": np.full(2, 0)}, time.monotonic() + 9)]
    _until(lambda: not batches.waiting)
    waiting += [batches.submit({"x": np.full(2, n)}, time.monotonic() + 9) for n in range(1, 7)]
    go.set()
    assert [each.result(5)["y"].tolist() for each in waiting] == [[2 * n] * 2 for n in range(7)]
    assert sizes == [2, 8, 4]
    batches.close()
    with pytest.raises(Refused, match="stopping"):
        batches.submit({"x": np.zeros(1)}, time.monotonic())


def test_full_queues_and_late_requests_are_refused():
    go = threading.Event()

    def run(inputs):
        go.wait(5)
        return inputs

    batches = Batches(stoppable(run), True, (), Settings(rows=1, queue=3, workers=1))
    first = batches.submit({"x": np.zeros(1)}, time.monotonic() + 9)
    time.sleep(0.1)
    late = batches.submit({"x": np.zeros(1)}, time.monotonic())
    others = [batches.submit({"x": np.zeros(1)}, time.monotonic() + 9) for _ in range(2)]
    with pytest.raises(Refused) as caught:
        batches.submit({"x": np.zeros(1)}, time.monotonic() + 9)
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    go.set()
    with pytest.raises(Refused, match="deadline passed"):
        late.result(5)
    assert first.result(5)["x"] == 0 and all(each.result(5)["x"] == 0 for each in others)
    batches.close()


def test_one_bad_request_spoils_no_other():
    def run(inputs):
        if (inputs["x"] < 0).any():
            raise Refused("INVALID_ARGUMENT", "below zero")
        return inputs

    go = threading.Event()
    batches = Batches(stoppable(lambda inputs: (go.wait(5), run(inputs))[1]), True, (), Settings(workers=1))
    waiting = [batches.submit({"x": np.array([n])}, time.monotonic() + 9) for n in (0, 1, -1, 2)]
    go.set()
    assert [each.result(5)["x"][0] for each in (waiting[0], waiting[1], waiting[3])] == [0, 1, 2]
    with pytest.raises(Refused, match="below zero"):
        waiting[2].result(5)
    batches.close()


def test_a_batched_answer_is_as_wide_as_on_its_own(tmp_path):
    from trellis.serve.server.models import Version

    version = Version("echo", 1, put(tmp_path / "echo", 1), Settings(workers=1))
    texts = ["a", "abcdef", "", "abc"]
    ask = version.batches["serving_default"].submit
    requests = [{"text": np.array([text.encode()], object)} for text in texts]
    alone = [ask(request, time.monotonic() + 9).result() for request in requests]
    together = [ask(request, time.monotonic() + 9) for request in requests]
    for one, other in zip(alone, (each.result() for each in together), strict=True):
        assert {k: v.tolist() for k, v in one.items() if k != "letters"} == {
            k: v.tolist() for k, v in other.items() if k != "letters"
        }
        assert [x for x in one["letters"][0] if x] == [x for x in other["letters"][0] if x]
        assert other["letters"].shape[1] == max(one["letters"].shape[1], 1)
    version.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere/at/all"], "no such folder"),
        ([".", "--tls-cert", "x.pem"], "must be used together"),
        ([".", "--config", "/nowhere.config"], "nowhere.config"),
    ],
)
def test_mistakes_are_one_line_and_exit_status_2(arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "trellis", "serve", *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
