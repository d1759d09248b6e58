"""What every export carries, and whether it is told when one is not well."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests import warm_python
from tests.pipelines.runs import export_again, run
from tests.serve.test_local import Server
from trellis.components import transfer
from trellis.components.errors import InputError
from trellis.components.saved_model.c_api import decode_array
from trellis.components.saved_model.request_batching import ROWS
from trellis.components.saved_model.verification import verify
from trellis.serve import generate, predict
from trellis.serve import verify as command


@pytest.fixture(scope="module")
def feature_crf(train):
    return train("feature_crf", "trainer.epochs=1", "export.verify=true")


@pytest.fixture(scope="module")
def hmm_align(train):
    return train("hmm_align", "limit.sentences=100")


@pytest.fixture(scope="module", params=["feature_crf", "hmm_align", "language_model", "classifier"])
def export(request):
    return request.getfixturevalue(request.param) / "1"


def test_it_is_well(export, capsys):
    assert command.main([str(export.parent)]) == 0
    out = capsys.readouterr().out
    assert "1: verified" in out and "serving_default" in out


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
    with pytest.raises(InputError, match=f"{key} differs from the golden answer"):
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


@pytest.fixture(scope="module")
def server(tmp_path_factory, feature_crf, hmm_align, language_model, classifier):
    """A server of all models."""
    folder = tmp_path_factory.mktemp("served")
    for model in (feature_crf, hmm_align, language_model, classifier):
        (folder / model.name).symlink_to(model)
    made = Server(folder)
    yield made
    assert made.stop() == 0


def test_a_server_answers_what_the_export_answers(export, server, capsys):
    """`serve.predict` and `serve.generate`, with the model here and on a server."""

    asked = {"hmm_align": ["the house ||| la casa", "a dog ||| un perro grande"], "gru_lm": ["the king", "zzz"]}
    texts = asked.get(export.parent.name, ["Mary Smith flew from Oslo .", "the soup was cold"])
    tool = generate if export.parent.name == "gru_lm" else predict
    assert tool.main([str(export.parent), *texts, "--json"]) == 0
    here = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for url in (server.rest, f"grpc://{server.grpc}"):
        assert tool.main(["--url", url, export.parent.name, *texts, "--json"]) == 0
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == here
    assert tool.main(["--url", server.rest, "nobody", *texts]) == 2
    assert "NOT_FOUND" in capsys.readouterr().err


def test_dummy_rows_change_nothing(export):
    """Servers with `allowed_batch_sizes` fill batches up."""
    model = tf.saved_model.load(str(export))
    scalar = False
    for request in json.loads((export / "assets.extra" / "golden.json").read_text()):
        given = {key: decode_array(value) for key, value in request["inputs"].items()}
        scalar |= any(not each.ndim for each in given.values())
        rows = next(len(each) for each in given.values() if each.ndim)
        for dummies in (1, 64 - rows):
            copies, nothing = (
                {
                    key: tf.constant(
                        np.concatenate([each, np.repeat(row(each), dummies, axis=0)]) if each.ndim else each
                    )
                    for key, each in given.items()
                }
                for row in (
                    lambda each: each[:1],
                    lambda each: np.full_like(each[:1], b"" if each.dtype == object else 0),
                )
            )
            for inputs in (copies, nothing):
                found = model.signatures[request["signature"]](**inputs)
                for key, wanted in request["outputs"].items():
                    wanted, values = decode_array(wanted), found[key].numpy()[:rows]
                    assert values.shape == wanted.shape
                    if wanted.dtype == object:
                        assert (values == wanted).all()
                    else:
                        np.testing.assert_allclose(values, wanted, rtol=1e-3, atol=1e-4)
    assert (export / "batching_params.pbtxt").is_file() != scalar


COMPRESSED = {
    "bilstm_softmax": (
        "model.units=16",
        "model.bidirectional=false",
        "model.characters.kind=none",
        "limit.sentences=120",
    ),
    "lstm_lm": ("model.units=16", "model.dim=16", "model.layers=1", "limit.sentences=120", "report.mixture=null"),
}


@pytest.fixture(scope="module", params=COMPRESSED)
def weights(request, tmp_path_factory):
    """The folder of a run, and exports of what it trained with their metrics, by how weights are stored."""
    folder, name = tmp_path_factory.mktemp(request.param), request.param
    options = (f"model={name}", *COMPRESSED[name], "trainer.epochs=1", "tracking=off")
    metrics = {"float32": run(folder / "run", *options, f"export.dir={folder}/exports/float32")}
    # One of them joins requests too, which other tests ask of it.
    for kind, joins in (("float16", "true"), ("int8", "false")):
        metrics[kind] = export_again(
            folder / "run", folder / kind, *options, f"export.dir={folder}/exports/{kind}", f"export.weights={kind}",
            f"export.batching={joins}", "export.verify=true",
        )  # fmt: skip
    return folder / "exports", metrics, name


def size(export):
    return (export / "1" / "variables" / "variables.data-00000-of-00001").stat().st_size


def test_weights_in_fewer_bits_are_stored_and_used(weights):
    exports, metrics, _ = weights
    assert size(exports / "float16") < 0.6 * size(exports / "float32")
    assert size(exports / "int8") < 0.9 * size(exports / "float32")
    warm_python.call(check_answers_of_fewer_bits, exports)
    for kind in ("float16", "int8"):
        # Training is the same, and the metrics have the cost of the weights.
        assert metrics[kind]["test/loss"] == pytest.approx(metrics["float32"]["test/loss"])
        cost = metrics[kind]["export/test/loss"] - metrics[kind]["test/loss"]
        assert 0 < abs(cost) < 0.05
    assert "export/test/loss" not in metrics["float32"]


def check_answers_of_fewer_bits(exports):
    golden = json.loads((exports / "float32" / "1" / "assets.extra" / "golden.json").read_text())
    models = {kind: tf.saved_model.load(str(exports / kind / "1")) for kind in ("float32", "float16", "int8")}
    number = {"text": "probability", "tokens": "confidence", "prompt": "probabilities"}
    for request in golden:
        inputs = {key: tf.constant(decode_array(value)) for key, value in request["inputs"].items()}
        key = next((number[each] for each in inputs if number.get(each) in request["outputs"]), None)
        if key is not None and request["signature"] != "entities":  # of which there may be more or fewer
            found = {kind: model.signatures[request["signature"]](**inputs)[key] for kind, model in models.items()}
            for kind, most in (("float16", 2e-3), ("int8", 3e-2)):
                difference = np.abs(found[kind] - found["float32"]).max()
                assert 0 < difference < most, (kind, key)


def test_a_model_starts_from_weights_in_fewer_bits(weights):
    exports, metrics, _ = weights
    if "test/perplexity" in metrics["float32"]:
        exact, rounded, coarse = (transfer.read(exports / kind) for kind in metrics)
        assert exact.words == rounded.words == coarse.words
        np.testing.assert_allclose(rounded.embeddings, exact.embeddings, atol=1e-3)
        np.testing.assert_allclose(coarse.embeddings, exact.embeddings, atol=0.01)
        assert np.abs(coarse.embeddings - exact.embeddings).max() > 0
        np.testing.assert_array_equal(coarse.layers[0][0], exact.layers[0][0])


def test_a_model_without_matrices_is_told_so_before_it_is_trained(tmp_path):
    for name in ("feature_crf", "ngram", "ibm1"):
        with pytest.raises(InputError, match=r"export.weights=int8: model=\w+ has no embeddings or dense layers"):
            run(
                tmp_path / name, f"model={name}", "tracking=off", "limit.sentences=60", "export.weights=int8",
                f"export.dir={tmp_path}/exports",
            )  # fmt: skip
        assert not (tmp_path / name / "checkpoints").exists()


JOINED = {"bilstm_softmax": ("from_text", "n_best", "entities"), "lstm_lm": ("score",)}


@pytest.fixture
def joined(weights):
    """An export that joins requests, and the signatures to ask."""
    exports, _, name = weights
    return exports / "float16" / "1", JOINED[name]


def about(signature, texts):
    """A request to a signature about texts."""
    threshold = {"threshold": tf.zeros([len(texts)])} if signature == "entities" else {}
    return {"text": tf.constant(texts, tf.string), **threshold}


def test_requests_that_arrive_together_get_their_own_answers(joined):
    export, signatures = joined
    assert b"BatchFunction" in (export / "saved_model.pb").read_bytes()
    # In another process, for the threads that join requests never end.
    warm_python.call(check_requests_that_arrive_together, export, signatures)


def check_requests_that_arrive_together(export, signatures):
    # Two versions in one process, as while one takes the other's place.
    models = [tf.saved_model.load(str(export)) for _ in range(2)]
    texts = [" ".join(["Mary", "flew", "to", "Lima", "."] * (number % 7 + 1)) for number in range(40)]
    for signature in signatures:
        asked = [model.signatures[signature] for model in models]
        requests = [about(signature, [text]) for text in texts]
        alone = [{name: each.numpy() for name, each in asked[0](**request).items()} for request in requests]
        with ThreadPoolExecutor(16) as threads:
            together = [threads.submit(asked[number % 2], **request) for number, request in enumerate(requests * 4)]
            for wanted, found in zip(alone * 4, together, strict=True):
                for name, each in found.result().items():
                    assert each.shape == wanted[name].shape, (signature, name)
                    if each.dtype == tf.string:
                        assert (each.numpy() == wanted[name]).all()
                    else:
                        np.testing.assert_allclose(each, wanted[name], rtol=1e-4, atol=1e-5)


def test_requests_of_no_rows_and_of_many(joined):
    export, (signature, *_) = joined
    warm_python.call(check_numbers_of_rows, export, signature)


def check_numbers_of_rows(export, signature):
    asked = tf.saved_model.load(str(export)).signatures[signature]
    for rows in (0, 1, ROWS, ROWS + 1, 3 * ROWS):
        texts = [f"word{'s of more' * (row % 3)}" for row in range(rows)]
        assert all(len(each) == rows for each in asked(text=tf.constant(texts, tf.string)).values())
