"""The addresses of the processes that train one model together, and how these processes find each other.

`TF_CONFIG` has the addresses, as TensorFlow reads them:

    {"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}
"""

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trellis.components.errors import InputError

VARIABLE = "TF_CONFIG"
_EXAMPLE = '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'
_LONGEST = 1 << 20  # bytes of a message
_GREETING = "trellis"
_PAUSE = 0.2  # seconds between attempts to connect


@dataclass(frozen=True)
class Cluster:
    """The processes that train one model, and which of them this one is.

    Attributes:
        addresses: `HOST:PORT` of each worker, the chief first.
        index: that of this process among them.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def local_index(self) -> int:
        """The index of this process among those with the same host, by which it chooses its GPU."""
        host = _split(self.addresses[self.index])[0]
        return sum(_split(address)[0] == host for address in self.addresses[: self.index])

    def named(self, index: int) -> str:
        """Return the name of a worker for messages."""
        return f"worker {index} ({self.addresses[index]})"

    def unreachable(self) -> list[int]:
        """Return the indices of the other workers that do not accept connections now."""
        others = (index for index in range(len(self.addresses)) if index != self.index)
        return [index for index in others if not _accepts(self.addresses[index])]


def from_environment() -> Cluster:
    """Return the cluster that `TF_CONFIG` describes.

    Raises:
        InputError: it is not set or malformed, or this process is not in it.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        raise InputError(
            f"trainer.strategy=multi_worker: {VARIABLE} is not set; "
            "`trellis launch --workers 2 train …` sets it for workers on this machine"
        )
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{VARIABLE}: not JSON ({error}); expected {_EXAMPLE}") from None
    cluster, task = (config.get(key) if isinstance(config, dict) else None for key in ("cluster", "task"))
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise InputError(f"{VARIABLE}: cluster and task must be objects, as in {_EXAMPLE}")
    unknown = sorted(set(cluster) - {"chief", "worker"})
    if unknown:
        raise InputError(f"{VARIABLE}: cluster.{unknown[0]}: only chief and worker are supported")
    jobs = {job: _addresses(job, cluster.get(job, [])) for job in ("chief", "worker")}
    addresses = (*jobs["chief"], *jobs["worker"])
    if len(jobs["chief"]) > 1 or not addresses:
        raise InputError(f"{VARIABLE}: cluster must have workers and at most one chief, as in {_EXAMPLE}")
    twice = [address for index, address in enumerate(addresses) if address in addresses[:index]]
    if twice:
        raise InputError(f"{VARIABLE}: the address {twice[0]} occurs twice in cluster")
    job, index = task.get("type"), task.get("index")
    if job not in jobs or not isinstance(index, int) or isinstance(index, bool):
        raise InputError(f'{VARIABLE}: task must be like {{"type": "worker", "index": 0}}, not {json.dumps(task)}')
    if not 0 <= index < len(jobs[job]):
        raise InputError(
            f"{VARIABLE}: this process is {job} {index}, but cluster.{job} has "
            f"{len(jobs[job])} address{'es' * (len(jobs[job]) != 1)}"
        )
    return Cluster(addresses, index + (len(jobs["chief"]) if job == "worker" else 0))


def folder_of_worker(folder: str, index: int) -> str:
    """Return the run folder of a worker: the given one for the chief, one next to it for each other worker."""
    return f"{folder}-worker{index}" if index else folder


def _addresses(job: str, addresses: Any) -> list[str]:
    if not isinstance(addresses, list) or not all(isinstance(address, str) for address in addresses):
        raise InputError(f"{VARIABLE}: cluster.{job} must be a list of HOST:PORT, as in {_EXAMPLE}")
    for index, address in enumerate(addresses):
        port = re.fullmatch(r".+:(\d{1,5})", address)
        if not port or not 0 < int(port[1]) < 65536:
            raise InputError(f"{VARIABLE}: cluster.{job}[{index}] is {address!r}, expected HOST:PORT")
    return addresses


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _accepts(address: str) -> bool:
    try:
        with socket.create_connection(_split(address), timeout=2.0):
            return True
    except OSError:
        return False


def meet(cluster: Cluster, facts: Mapping[str, Any], seconds: float) -> None:
    """Wait until every worker has connected; TensorFlow's servers would wait for a missing one without end.

    Args:
        cluster: the workers.
        facts: settings that must be the same on all workers, as JSON values.
        seconds: how long to wait.

    Raises:
        InputError: a worker has not connected in time, or its facts differ.
    """
    deadline = time.monotonic() + seconds
    if cluster.index == 0:
        _receive(cluster, facts, seconds, deadline)
    else:
        _report(cluster, facts, seconds, deadline)


def _receive(cluster: Cluster, facts: Mapping[str, Any], seconds: float, deadline: float) -> None:
    """On the chief: wait for all other workers, and tell them to start."""
    port = _split(cluster.addresses[0])[1]
    missing = dict.fromkeys(range(1, len(cluster.addresses)))
    try:
        server = socket.create_server(("", port))
    except OSError as error:
        raise InputError(f"{VARIABLE}: {cluster.named(0)} cannot listen ({error.strerror or error})") from None
    with server, contextlib.ExitStack() as connections:
        met: dict[int, socket.socket] = {}
        difference: str | None = None
        while missing and not difference:
            left = deadline - time.monotonic()
            if left <= 0:
                names = ", ".join(map(cluster.named, missing))
                raise InputError(f"no connection from {names} within {seconds:g} seconds (trainer.connect_timeout)")
            server.settimeout(left)
            with contextlib.suppress(OSError):
                connection = connections.enter_context(server.accept()[0])
                match _read(connection, min(left, 5.0)):
                    case [str(greeting), int(index), dict(other)] if greeting == _GREETING:
                        met[index] = connection
                        missing.pop(index, None)
                        difference = _difference(f"worker {index}", facts, other)
                    case _:
                        connection.close()  # not a worker: a health probe, for example
        for connection in met.values():
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps([_GREETING, difference]).encode() + b"\n")
    if difference:
        raise InputError(difference)


def _difference(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """Return what differs between the facts of the chief and those of another worker, None if nothing does."""
    ours = json.loads(json.dumps(ours))
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key):
            return f"{name} has {key}={theirs.get(key)}, worker 0 has {key}={ours.get(key)}; start all workers alike"
    return None


def _report(cluster: Cluster, facts: Mapping[str, Any], seconds: float, deadline: float) -> None:
    """On every other worker: connect to the chief, and wait for its answer."""
    message = json.dumps([_GREETING, cluster.index, facts]).encode() + b"\n"
    for left in _until(deadline):
        try:
            with socket.create_connection(_split(cluster.addresses[0]), timeout=left) as connection:
                connection.sendall(message)
                answer = _read(connection, left)
        except OSError:
            continue
        match answer:
            case [str(greeting), None] if greeting == _GREETING:
                return
            case [str(greeting), str(difference)] if greeting == _GREETING:
                raise InputError(difference)
    raise InputError(
        f"{cluster.named(0)} did not answer {cluster.named(cluster.index)} within {seconds:g} seconds "
        "(trainer.connect_timeout)"
    )


def _until(deadline: float) -> Iterator[float]:
    """Yield the seconds until a deadline, with a pause after each, until it has passed."""
    while (left := deadline - time.monotonic()) > 0:
        yield left
        time.sleep(_PAUSE)


def _read(connection: socket.socket, seconds: float) -> Any:
    """Return the next message from a connection; None if it is not JSON."""
    connection.settimeout(seconds)
    text = b""
    while not text.endswith(b"\n") and len(text) < _LONGEST:
        received = connection.recv(1 << 16)
        if not received:
            break
        text += received
    try:
        return json.loads(text)
    except ValueError:
        return None
