"""Exports without Python in TensorFlow: strings, arrays, errors, threads, and what is freed."""

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.pipelines.runs import ROOT
from trellis.components.saved_model.c_api import Session, TensorFlowError, as_array

# Around the longest string that is stored in place, and with zeros, which NumPy drops at the end.
STRINGS = [b"x" * size for size in (0, 1, 21, 22, 23, 24, 300)]
STRINGS += [b"\0", b"a\0", b"\0a", b"\0" * 22, b"\0" * 23, "ü€😀".encode()]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a SavedModel and its signature."""

    def compute(strings, numbers, least):
        tf.debugging.assert_non_negative(least, "least is negative")
        return {
            "same": strings,
            "longer": tf.strings.join([strings, tf.fill(tf.shape(strings), "x" * 20)]),
            "more": numbers + tf.cast(least, tf.float32),
            "any": numbers > 0,
        }

    module = tf.Module()
    specs = {"strings": ([None, None], tf.string), "numbers": ([None], tf.float32), "least": ([], tf.int32)}
    module.f = tf.function(compute, input_signature=[tf.TensorSpec(*spec, name=name) for name, spec in specs.items()])
    folder = tmp_path_factory.mktemp("saved")
    tf.saved_model.save(module, str(folder), signatures=module.f)
    definition = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    signature = definition.meta_graphs[0].signature_def["serving_default"]
    return folder, {
        side: {key: {"tensor": info.name, "dtype": tf.as_dtype(info.dtype).name} for key, info in tensors.items()}
        for side, tensors in (("inputs", signature.inputs), ("outputs", signature.outputs))
    }


def ask(session, signature, strings, numbers=(1.0, -1.0), least=2):
    return session.call(signature, {"strings": strings, "numbers": numbers, "least": least})


@pytest.mark.parametrize("optimized", [True, False])
def test_strings_and_numbers_go_in_and_come_out(saved, optimized):
    folder, signature = saved
    session = Session(folder, optimized)
    answer = ask(session, signature, [STRINGS, STRINGS[::-1]])
    assert answer["same"].tolist() == [STRINGS, STRINGS[::-1]]
    assert answer["longer"].tolist() == [[each + b"x" * 20 for each in row] for row in (STRINGS, STRINGS[::-1])]
    assert (answer["more"].dtype, answer["more"].tolist()) == (np.float32, [3.0, 1.0])
    assert (answer["any"].dtype, answer["any"].tolist()) == (bool, [True, False])
    empty = ask(session, signature, np.zeros([2, 0], object), numbers=[])
    assert empty["more"].shape == empty["any"].shape == (0,)
    assert empty["same"].shape == empty["longer"].shape == (2, 0) and empty["same"].dtype == object


def test_texts_become_bytes():
    array = as_array([["ü", b"\0"], ["\udcff", ""]], "string")
    assert array.tolist() == [["ü".encode(), b"\0"], [b"\xff", b""]]
    assert as_array("a", "string").shape == () and as_array([1, 2], "int64").dtype == np.int64


def test_errors_say_whether_the_inputs_are_wrong(saved, tmp_path):
    folder, signature = saved
    session = Session(folder)
    with pytest.raises(TensorFlowError, match="least is negative") as raised:
        ask(session, signature, [["a"]], least=-1)
    assert raised.value.invalid
    with pytest.raises(TensorFlowError, match="no operation nothing in this graph") as raised:
        session.run({}, ["nothing:0"])
    assert not raised.value.invalid
    assert ask(session, signature, [["a"]])["same"].tolist() == [[b"a"]]  # goes on
    with pytest.raises(TensorFlowError, match=r"(?i)saved_?model"):
        Session(tmp_path)


def test_threads_share_a_session(saved):
    folder, signature = saved
    session = Session(folder)

    def answers(thread):
        return [ask(session, signature, [[f"{thread} {number}"]])["same"].item() for number in range(200)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(answers, range(8)))
    assert found == [[f"{thread} {number}".encode() for number in range(200)] for thread in range(8)]


def test_a_session_is_freed_with_its_object(saved, monkeypatch):
    folder, _ = saved
    session = Session(folder)
    address, deleted, delete = session.session.value, [], session.tf.TF_DeleteSession

    def noted(each, status):
        deleted.append(each.value)
        delete(each, status)

    monkeypatch.setattr(session.tf, "TF_DeleteSession", noted)
    del session
    gc.collect()
    assert address in deleted


def test_a_loaded_export_answers_without_importing_tensorflow(tagger):
    code = f"import sys, trellis; trellis.load({str(tagger)!r}).tag('Oslo'); print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n" and not done.stderr, done.stderr
