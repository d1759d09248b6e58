"""What every export carries, and whether it is told when one is not well."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from components.errors import InputError
from components.saved_model.verification import verify
from serve import verify as command
from tests.pipelines.runs import run

MODELS = {
    "feature_crf": ("trainer.epochs=1",),
    "hmm_align": ("limit.sentences=100",),
    "gru_lm": ("trainer.epochs=1", "model.units=16", "model.dim=16", "limit.sentences=200", "report.mixture=null"),
    "lstm_classifier": ("trainer.epochs=1", "model.units=16", "model.dim=16", "data.language=en"),
}


@pytest.fixture(scope="module", params=MODELS)
def export(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    run(
        folder / "run", f"model={request.param}", *MODELS[request.param], "tracking=off",
        f"export.dir={folder}/exports/{request.param}", "export.verify=true",
    )  # fmt: skip
    return folder / "exports" / request.param / "1"


def test_it_is_well(export, capsys):
    assert command.main([str(export.parent)]) == 0
    out = capsys.readouterr().out
    assert "1: well" in out and "serving_default" in out


def test_warm_up_requests_run(export):
    model, signatures = tf.saved_model.load(str(export)), set()
    records = tf.data.TFRecordDataset(str(export / "assets.extra" / "tf_serving_warmup_requests"))
    rows = set()
    for record in records:
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == export.parent.name
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        model.signatures[request.model_spec.signature_name](**inputs)
        signatures.add(request.model_spec.signature_name)
        rows.add(next(len(each) for each in inputs.values() if each.shape.rank))
    assert signatures == set(model.signatures) and rows == {1, 2, 8}


def test_metadata_and_card_lie_beside_the_versions(export):
    facts = json.loads((export.parent / "metadata.json").read_text())
    assert facts["name"] == export.parent.name and facts["licence"] == "Apache-2.0"
    assert all(np.isfinite(value) for value in facts["metrics"].values())
    model = tf.saved_model.load(str(export))
    for name, signature in facts["signatures"].items():
        given = model.signatures[name].structured_input_signature[1]
        assert {key: each.dtype.name for key, each in given.items()} == {
            key: each["dtype"] for key, each in signature["inputs"].items()
        }
    page = (export.parent / "model_card.md").read_text()
    assert page.startswith(f"# {export.parent.name}\n") and "**serving_default**" in page


def test_an_export_that_is_not_well(export, tmp_path):
    def copy(name):
        shutil.copytree(export, tmp_path / name)
        return tmp_path / name

    changed = copy("changed")
    golden = json.loads((changed / "assets.extra" / "golden.json").read_text())
    outputs = golden[0]["outputs"]
    key = next(key for key, each in outputs.items() if each["dtype"] == "string" and each["values"])
    outputs[key]["values"][0] += "x"
    (changed / "assets.extra" / "golden.json").write_text(json.dumps(golden))
    with pytest.raises(InputError, match=f"{key} is not what it was"):
        verify(changed)
    broken = copy("broken")
    next((broken / "variables").glob("*.data-*")).write_bytes(b"x")
    with pytest.raises(InputError, match="TensorFlow cannot run this export"):
        verify(broken)
    bare = copy("bare")
    shutil.rmtree(bare / "assets.extra")
    with pytest.raises(InputError, match="cannot be verified"):
        verify(bare)


def test_python_in_the_graph_is_found(tmp_path):
    module = tf.Module()
    module.f = tf.function(
        lambda x: tf.py_function(lambda y: y, [x], tf.float32), input_signature=[tf.TensorSpec([None])]
    )
    tf.saved_model.save(module, str(tmp_path / "1"))
    (tmp_path / "1" / "assets.extra").mkdir()
    (tmp_path / "1" / "assets.extra" / "golden.json").write_text("[]")
    with pytest.raises(InputError, match="PyFunc, which TensorFlow Serving cannot run"):
        verify(tmp_path / "1")


def test_a_server_answers_what_the_export_answers(export, capsys):
    """`serve.predict` and `serve.generate`, with the model here and on a server."""
    from serve import generate, predict
    from tests.serve.test_local import Server

    asked = {"hmm_align": ["the house ||| la casa", "a dog ||| un perro grande"], "gru_lm": ["the king", "zzz"]}
    texts = asked.get(export.parent.name, ["Mary Smith flew from Oslo .", "the soup was cold"])
    tool = generate if export.parent.name == "gru_lm" else predict
    assert tool.main([str(export.parent), *texts, "--json"]) == 0
    here = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    server = Server(export.parents[1])
    try:
        for url in (server.rest, f"grpc://{server.grpc}"):
            assert tool.main(["--url", url, export.parent.name, *texts, "--json"]) == 0
            assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == here
        assert tool.main(["--url", server.rest, "nobody", *texts]) == 2
        assert "NOT_FOUND" in capsys.readouterr().err
    finally:
        assert server.stop() == 0
