"""Huge requests: computed in a process of their own, with the same answers, and stopped like all others."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.serve.test_local import Server
from trellis.components.saved_model import package
from trellis.components.saved_model.export_module import ExportModule
from trellis.serve.server.batches import HUGE, Settings
from trellis.serve.server.huge_requests import NICENESS, HugeRequests
from trellis.serve.server.limits import Cost
from trellis.serve.server.models import Version
from trellis.serve.server.requests import Refused

FOREVER = 2_000_000_000


class Counter(ExportModule):
    """Returns texts in capitals, and counts up to a number that is at least 1."""

    def __init__(self):
        super().__init__()
        self.serving_default = tf.function(
            lambda text: {"upper": tf.strings.upper(text, encoding="utf-8")},
            input_signature=[tf.TensorSpec([None], tf.string, name="text")],
        )
        self.to = tf.function(self._to, input_signature=[tf.TensorSpec([None], tf.int32, name="end")])

    def _to(self, end):
        with tf.control_dependencies([tf.debugging.assert_positive(end, "the end is below 1")]):
            last = tf.reduce_max(end)
        return {"reached": tf.fill(tf.shape(end), tf.while_loop(lambda n: n < last, lambda n: n + 1, [0])[0])}

    def signatures(self):
        return {"serving_default": self.serving_default, "to": self.to}

    def examples(self, texts):
        return {"serving_default": {"text": texts}}


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    version = folder / "counter" / "1"
    version.mkdir(parents=True)
    package.write(version, Counter(), "counter", ["a", "ß"], {})
    package.publish_metadata(folder / "counter")
    return folder


@pytest.fixture(scope="module")
def huge():
    made = HugeRequests()
    yield made
    made.stop()
    assert not children(os.getpid())


@pytest.fixture(scope="module")
def version(exports, huge):
    made = Version("counter", 1, exports / "counter" / "1", Settings(), huge=huge)
    yield made
    made.close()


def ask(version, signature, size, **inputs):
    arrays = {name: np.array(values, object if name == "text" else np.int32) for name, values in inputs.items()}
    return version.batches[signature].submit(
        arrays, time.monotonic() + 60, Cost(len(next(iter(arrays.values()))), 1, size)
    )


def children(pid):
    """The processes for huge requests that a process has started."""
    found = " ".join(file.read_text() for file in Path(f"/proc/{pid}").glob("task/*/children")).split()
    return [child for child in found if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


def test_huge_and_small_requests_have_the_same_answers(version):
    texts = [b"mary", "ß é".encode(), b""]
    small, huge = (ask(version, "serving_default", size, text=texts).result(60)["upper"] for size in (1, HUGE + 1))
    assert small.tolist() == huge.tolist() and small.dtype == huge.dtype
    assert len(children(os.getpid())) == 1
    assert ask(version, "to", HUGE + 1, end=[3]).result(60)["reached"].tolist() == [3]
    assert len(children(os.getpid())) == 1


def test_a_process_for_huge_requests_gives_way_to_the_server(version):
    ask(version, "to", HUGE + 1, end=[1]).result(60)
    (child,) = children(os.getpid())
    assert os.getpriority(os.PRIO_PROCESS, int(child)) == os.getpriority(os.PRIO_PROCESS, 0) + NICENESS


def test_a_huge_request_is_refused_with_the_same_reason(version):
    reasons = []
    for size in (1, HUGE + 1):
        with pytest.raises(Refused) as caught:
            ask(version, "to", size, end=[0]).result(60)
        reasons.append((caught.value.code, caught.value.message))
    assert reasons[0] == reasons[1] and reasons[0][0] == "INVALID_ARGUMENT" and "below 1" in reasons[0][1]


def test_a_huge_computation_that_nobody_waits_for_stops(version):
    for pause in (0.0, 0.05, 0.5):
        endless = ask(version, "to", HUGE + 1, end=[FOREVER])
        time.sleep(pause)
        assert not endless.done()
        endless.cancel()
        assert ask(version, "to", HUGE + 1, end=[7]).result(20)["reached"].tolist() == [7]


def test_after_a_process_has_ended_huge_requests_are_answered_again(version):
    endless = ask(version, "to", HUGE + 1, end=[FOREVER])
    time.sleep(0.5)
    (child,) = children(os.getpid())
    os.kill(int(child), 9)
    with pytest.raises(Refused, match=r"ended \(exit code -9\)") as caught:
        endless.result(20)
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    assert ask(version, "to", HUGE + 1, end=[7]).result(60)["reached"].tolist() == [7]
    assert children(os.getpid()) not in ([], [child])
    (idle,) = children(os.getpid())
    os.kill(int(idle), 9)
    time.sleep(0.2)
    assert ask(version, "to", HUGE + 1, end=[8]).result(60)["reached"].tolist() == [8]


def test_a_version_is_loaded_again_after_it_was_unloaded(version, huge):
    assert ask(version, "to", HUGE + 1, end=[2]).result(60)["reached"].tolist() == [2]
    huge.unload(version.folder)
    assert ask(version, "to", HUGE + 1, end=[3]).result(60)["reached"].tolist() == [3]


def test_the_server_ends_with_its_processes(exports):
    server = Server(exports, "--limit", "cells=100000")
    texts = ["mary"] * (HUGE + 1)
    status, answer = server.predict({"inputs": texts}, "counter")
    assert status == 200 and answer["outputs"] == ["MARY"] * (HUGE + 1)
    (child,) = children(server.process.pid)
    assert server.stop() == 0
    assert not Path(f"/proc/{child}").exists()
