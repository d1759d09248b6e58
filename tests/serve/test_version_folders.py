"""Folders of versions as they are found: copied in place, named otherwise, broken."""

import gc
import json
import logging
import shutil
import urllib.error
import urllib.request
import weakref

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from tests.serve.test_hostile_requests import slow_server
from tests.serve.test_local import put
from trellis.components.errors import InputError
from trellis.components.saved_model.versions import latest, versions
from trellis.serve.server.batches import Settings
from trellis.serve.server.models import Models, collect_garbage
from trellis.serve.server.version_labels import labels_of


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """A version of a model, to be copied."""
    return put(tmp_path_factory.mktemp("exported") / "echo", 1)


def test_a_version_copied_in_place_is_served_once_it_is_complete(tmp_path, export, caplog):
    caplog.set_level(logging.INFO, "serve.local")
    target = tmp_path / "echo" / "1"
    shutil.copytree(export, target)
    variables = target / "variables" / "variables.data-00000-of-00001"
    content = variables.read_bytes()
    variables.write_bytes(content[: len(content) // 2])  # the folder itself does not change any more
    models = Models(tmp_path, Settings())
    for _ in range(3):
        models.look()
    assert "echo" not in models.served and caplog.text.count("cannot be loaded") == 1
    assert models.status("echo")[1].code != "OK" and "cannot be loaded" in models.status("echo")[1].message
    variables.write_bytes(content)
    models.look()  # it has changed, and may still change
    assert "echo" not in models.served
    models.look()
    assert list(models.served["echo"]) == [1] and models.status("echo")[1].name == "AVAILABLE"
    models.stop()


def test_zeros_before_a_number_are_a_version_and_hold_up_no_model(tmp_path, export, caplog):
    shutil.copytree(export, tmp_path / "a" / "007")
    shutil.copytree(export, tmp_path / "b" / "1")
    (tmp_path / "b" / "²").mkdir()
    (tmp_path / "b" / ("9" * 30)).mkdir()
    models = Models(tmp_path, Settings())
    models.look()
    assert list(models.served["a"]) == [7] and list(models.served["b"]) == [1]
    models.stop()
    assert versions(tmp_path / "a") == [7] and latest(tmp_path / "a") == tmp_path / "a" / "007"


def test_a_folder_that_cannot_be_looked_at_is_reported_once(tmp_path, export, caplog, monkeypatch):
    from trellis.serve.server import models as module

    (tmp_path / "bad").mkdir()
    shutil.copytree(export, tmp_path / "good" / "1")
    found = module.version_folders
    monkeypatch.setattr(module, "version_folders", lambda path: found(path) if path.name == "good" else 1 / 0)
    models = Models(tmp_path, Settings())
    for _ in range(3):
        models.look()
    assert list(models.served) == ["good"] and caplog.text.count("bad: cannot be scanned") == 1
    models.stop()


def test_a_model_without_a_loaded_version_is_not_ready(tmp_path, monkeypatch):
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "saved_model.pb").write_bytes(b"nothing")
    with slow_server(tmp_path, monkeypatch) as server:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server.rest}/v1/models/broken", timeout=10)
        answer = json.loads(caught.value.read())
        assert caught.value.code == 503 and "no version of broken is available" in answer["error"]
        (status,) = answer["model_version_status"]
        assert status["state"] == "END" and status["status"]["error_code"] == "INVALID_ARGUMENT"
        assert "cannot be loaded" in status["status"]["error_message"]
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "broken"
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            (shown,) = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request).model_version_status
        assert shown.status.error_code == 3 and "cannot be loaded" in shown.status.error_message


@pytest.mark.parametrize("content", [b"\xff\xfe\x00binary", b"model_config_list {", b"nothing: 1", b"\0" * 100])
def test_a_config_that_is_none_is_one_line(tmp_path, content):
    path = tmp_path / "models.config"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"models\.config: not a models\.config") as caught:
        labels_of(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rest-port", "99999"], "0 to 65535"),
        (["--grpc-port", "-1"], "0 to 65535"),
        (["--workers", "0"], "at least 1"),
        (["--queue", "-1"], "at least 1"),
        (["--batch", "0"], "at least 1"),
        (["--connections", "0"], "at least 1"),
        (["--body", "0"], "at least 1"),
        (["--deadline", "nan"], "above 0"),
        (["--deadline", "inf"], "above 0"),
        (["--poll", "0"], "above 0"),
        (["--limit", "widht=3"], "widht=3"),
        (["--limit", "beam/width=0"], "beam/width=0"),
        (["--host", "not a host"], "cannot listen on not a host"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1"),
        (["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"], "/nowhere.pem: cannot be read"),
    ],
)
def test_options_are_checked_before_models_are_loaded(tmp_path, capsys, arguments, message, monkeypatch):
    from trellis.serve import local

    monkeypatch.setattr(Models, "start", lambda _: pytest.fail("models were loaded"))
    monkeypatch.setattr("tensorflow.config.threading.set_inter_op_parallelism_threads", lambda _: None)
    ports = ["--rest-port", "0", "--grpc-port", "0"]
    try:
        status = local.main([str(tmp_path), *ports, *arguments])
    except SystemExit as error:
        status = error.code
    lines = capsys.readouterr().err.splitlines()
    assert status == 2 and len(lines) == 1 and message in lines[0]


def test_a_port_in_use_is_reported_before_models_are_loaded(tmp_path, capsys, monkeypatch):
    import socket

    from trellis.serve import local

    monkeypatch.setattr(Models, "start", lambda _: pytest.fail("models were loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for option, other in (("--rest-port", "--grpc-port"), ("--grpc-port", "--rest-port")):
            assert local.main([str(tmp_path), option, port, other, "0"]) == 2
            assert f"{option} {port}: cannot listen" in capsys.readouterr().err


def test_garbage_of_unloaded_versions_is_collected_though_what_is_loaded_is_not_looked_at():
    class Model:
        def __init__(self):
            self.itself = self

    loaded = Model()
    unloaded = weakref.ref(loaded)
    collect_garbage()
    assert gc.get_freeze_count()
    del loaded
    gc.collect()
    assert unloaded() is not None
    collect_garbage()
    assert unloaded() is None
