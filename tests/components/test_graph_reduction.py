"""Stored graphs answer as before, with fewer nodes."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from trellis.components.saved_model.graph_reduction import reduce_graphs


class Module(tf.Module):
    """Repeats itself, computes what it does not return, and has effects."""

    def __init__(self):
        super().__init__()
        self.calls = tf.Variable(0)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="values")])
    def signature(self, values):
        tf.debugging.assert_non_negative(values, "negative")
        self.calls.assign_add(1)
        tf.reduce_sum(tf.exp(values))  # not needed
        noise = tf.random.uniform([2])
        first, last = values[:, :1], values[:, -1:]
        rows = tf.cond(tf.shape(values)[1] > 2, lambda: first * 2.0, lambda: last * 3.0)
        total = tf.while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, x + values[:, :1]), (0, rows))[1]
        other = tf.random.uniform([2])
        return {
            "total": total + values[:, :1] - values[:, -1:],
            "differ": tf.reduce_any(noise != other),
            "calls": self.calls.read_value(),
        }


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    def operations():
        model = SavedModel.FromString((path / "saved_model.pb").read_bytes())
        return Counter(node.op for each in model.meta_graphs[0].graph_def.library.function for node in each.node_def)

    path, module = tmp_path_factory.mktemp("reduction"), Module()
    module.signature.get_concrete_function()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.signature})
    before = operations()
    reduce_graphs(path)
    return before, operations(), module, tf.saved_model.load(str(path)).signatures["serving_default"]


def test_answers_are_those_of_before(saved):
    *_, module, signature = saved
    for shape in ((1, 1), (2, 3), (4, 2)):
        values = tf.constant(np.random.default_rng(0).uniform(size=shape), tf.float32)
        expected = module.signature(values)["total"]
        np.testing.assert_array_equal(signature(values=values)["total"], expected)


def test_what_is_not_needed_or_repeats_is_left_out(saved):
    before, after, *_ = saved
    assert before["Exp"] == 1 and after["Exp"] == 0
    assert after["Const"] < before["Const"] and after["StridedSlice"] < before["StridedSlice"]
    assert before["While"] + before["StatelessWhile"] == after["While"] + after["StatelessWhile"] == 1


def test_effects_and_randomness_stay(saved):
    *_, signature = saved
    calls = [int(signature(values=tf.ones([1, 2]))["calls"]) for _ in range(2)]
    assert calls[1] == calls[0] + 1
    assert bool(signature(values=tf.ones([1, 2]))["differ"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="negative"):
        signature(values=-tf.ones([1, 2]))


def test_the_fingerprint_is_that_of_the_new_graph(tmp_path):
    module = Module()
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.signature})
    before = tf.saved_model.experimental.read_fingerprint(str(tmp_path))
    reduce_graphs(tmp_path)
    assert before != tf.saved_model.experimental.read_fingerprint(str(tmp_path))
