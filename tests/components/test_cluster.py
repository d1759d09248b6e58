"""Workers find each other, or say in one line why not."""

import json
import socket
import threading

import numpy as np
import pytest

from trellis.components import cluster, workers
from trellis.components.cluster import Cluster
from trellis.components.errors import InputError

TWO = {"worker": ["127.0.0.1:2222", "127.0.0.1:2223"]}


def described(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text if isinstance(text, str) else json.dumps(text))
    return cluster.from_environment()


def test_a_cluster_is_read_from_tf_config(monkeypatch):
    assert described(monkeypatch, {"cluster": TWO, "task": {"type": "worker", "index": 1}}) == Cluster(
        ("127.0.0.1:2222", "127.0.0.1:2223"), 1
    )
    with_chief = {"chief": ["a:1"], "worker": ["b:1", "[::1]:2"]}
    found = described(monkeypatch, {"cluster": with_chief, "task": {"type": "worker", "index": 0}})
    assert found == Cluster(("a:1", "b:1", "[::1]:2"), 1)
    assert described(monkeypatch, {"cluster": with_chief, "task": {"type": "chief", "index": 0}}).index == 0


def test_workers_are_counted_on_each_machine():
    addresses = "a:1", "b:1", "a:2", "b:2"
    assert [Cluster(addresses, index).local_index for index in range(4)] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "TF_CONFIG is not set; `trellis launch"),
        ("{", r"TF_CONFIG: not JSON \(Expecting property name"),
        ("[]", "cluster and task must be objects"),
        ({"cluster": TWO}, "cluster and task must be objects"),
        ({"cluster": {**TWO, "ps": ["a:1"]}, "task": {}}, "cluster.ps: only chief and worker"),
        ({"cluster": {"worker": "a:1"}, "task": {}}, "cluster.worker must be a list"),
        ({"cluster": {"worker": ["a:1", "b"]}, "task": {}}, r"cluster.worker\[1\] is 'b', expected HOST:PORT"),
        ({"cluster": {"worker": ["a:1", "b:70000"]}, "task": {}}, r"cluster.worker\[1\] is 'b:70000'"),
        ({"cluster": {"worker": ["a:1", "a:1"]}, "task": {}}, "the address a:1 occurs twice"),
        ({"cluster": {"worker": []}, "task": {}}, "must have workers"),
        (
            {"cluster": TWO, "task": {"type": "worker", "index": "0"}},
            'task must be like {"type": "worker", "index": 0}',
        ),
        ({"cluster": TWO, "task": {"type": "evaluator", "index": 0}}, "task must be like"),
        ({"cluster": TWO, "task": {"type": "worker", "index": 2}}, "is worker 2, but cluster.worker has 2 addresses"),
    ],
)
def test_a_wrong_tf_config_is_one_line(monkeypatch, text, message):
    with pytest.raises(InputError, match=message):
        described(monkeypatch, text)


def addresses(count):
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = tuple(f"127.0.0.1:{server.getsockname()[1]}" for server in servers)
    for server in servers:
        server.close()
    return found


def met(places, facts, seconds=20.0):
    """What each worker is told when all meet; None for those that may go on."""
    told = {}

    def meet(index):
        try:
            cluster.meet(Cluster(places, index), facts[index], seconds)
            told[index] = None
        except InputError as error:
            told[index] = str(error)

    threads = [threading.Thread(target=meet, args=(index,)) for index in reversed(facts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def test_workers_wait_for_each_other():
    facts = {"model": "bilstm_crf", "seed": 1}
    assert met(addresses(3), dict.fromkeys(range(3), facts)) == dict.fromkeys(range(3))


def test_a_worker_with_other_settings_is_refused_by_their_name():
    told = met(addresses(2), {0: {"seed": 1, "model.units": 8}, 1: {"seed": 1, "model.units": 9}})
    line = "worker 1 has model.units=9, worker 0 has model.units=8; start all workers alike"
    assert told == {0: line, 1: line}


def test_workers_that_are_missing_are_named_with_their_address():
    places = addresses(3)
    told = met(places, {0: {}, 2: {}}, seconds=1.0)
    assert told[0] == f"no connection from worker 1 ({places[1]}) within 1 seconds (trainer.connect_timeout)"
    assert told[2].startswith(f"worker 0 ({places[0]}) did not answer worker 2 ({places[2]}) within 1 seconds")


def test_strangers_do_not_count_as_workers():
    places = addresses(2)

    def probe():
        for message in (b"GET / HTTP/1.1\r\n\r\n", b'["trellis", "1", {}]\n', b'["other", 1, {}]\n', b""):
            while True:
                try:
                    with socket.create_connection(cluster._split(places[0]), timeout=5.0) as connection:
                        connection.sendall(message)
                    break
                except ConnectionRefusedError:
                    continue

    thread = threading.Thread(target=probe)
    thread.start()
    told = met(places, {0: {}}, seconds=2.0)
    thread.join()
    assert told[0].startswith("no connection from worker 1")


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as server:
        places = f"127.0.0.1:{server.getsockname()[1]}", "127.0.0.1:1"
        assert f"worker 0 ({places[0]}) cannot listen" in met(places, {0: {}}, seconds=1.0)[0]


def test_every_row_is_in_the_share_of_one_worker(monkeypatch):
    rows = np.arange(5, dtype=np.int32)
    shares = []
    for index in range(7):
        monkeypatch.setattr(workers, "_cluster", Cluster(("a:1",) * 7, index))
        shares.append(workers.share(rows).tolist())
        assert workers.share_size(5) == len(shares[-1])
    assert shares == [[0], [1], [2], [3], [4], [-1], [-1]]
    monkeypatch.setattr(workers, "_cluster", Cluster(("a:1",) * 2, 1))
    assert workers.share(rows).tolist() == [1, 3] and not workers.is_chief()


def test_a_process_alone_sums_nothing():
    assert workers.total([1.0, None]) == [1.0, None] and workers.count() == 1 and workers.is_chief()
    assert workers.from_chief(lambda: {"dev/f1": 0.5}) == {"dev/f1": 0.5}
