"""Compute huge requests in processes of their own, at a low priority, so that small requests do not wait for them.

In one process both would wait for the same threads of TensorFlow, and the heap would keep what huge ones have used. A
process starts when a huge request needs it, which takes some seconds, and then stays.
"""

import contextlib
import itertools
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from trellis.components.quiet import captured_stderr
from trellis.serve.server.computation import Computation, Computing, Run, stoppable
from trellis.serve.server.requests import Arrays, Refused, refusal

NICENESS = 10  # a tenth of the share of CPU time that the server's own process gets


class HugeRequests:
    """Processes that compute huge requests, as many as are computed at the same time."""

    def __init__(self) -> None:
        self._processes: list[_Process] = []
        self._lock = threading.Lock()

    def computing(self, folder: Path, signature: str) -> Computing:
        """Return a context manager for each computation of a signature of a version."""

        @contextlib.contextmanager
        def computing() -> Iterator[Computation]:
            with self._process() as process:
                yield process.computation(folder, signature)

        return computing

    def unload(self, folder: Path) -> None:
        """Release a version wherever it is loaded."""
        with self._lock:
            processes = list(self._processes)
        for process in processes:
            process.send(_Unload(folder))

    def stop(self) -> None:
        """End all processes; what they compute is lost."""
        with self._lock:
            processes, self._processes = self._processes, []
        for process in processes:
            process.end()

    @contextlib.contextmanager
    def _process(self) -> Iterator["_Process"]:
        """Yield a process that nobody else uses during the block; start one if there is none."""
        with self._lock:
            # One may have ended since: the system ends them first where memory runs out.
            self._processes = [process for process in self._processes if process.is_alive()]
            free = [process for process in self._processes if not process.busy]
            process = free[0] if free else _Process()
            if not free:
                self._processes.append(process)
            process.busy = True
        try:
            yield process
        finally:
            process.busy = False


class _Compute(NamedTuple):
    """A request to a process; it answers with outputs by name, or the code and message of a refusal."""

    number: int
    folder: Path
    signature: str
    inputs: Arrays


class _Stop(NamedTuple):
    """Stop a computation, if it still runs."""

    number: int


class _Unload(NamedTuple):
    """Release a version."""

    folder: Path


class _Process:
    """A process that computes one request at a time.

    Attributes:
        busy: whether somebody uses it.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy TensorFlow's locks without its threads
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_compute_requests, args=(theirs,), daemon=True, name="huge_requests")
        self._process.start()
        theirs.close()
        self._numbers, self._lock = itertools.count(1), threading.Lock()
        self.busy = False

    def is_alive(self) -> bool:
        """Return whether the process can compute."""
        return self._process.is_alive()

    def end(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()

    def send(self, message: NamedTuple) -> None:
        """Send a message; a process that has ended gets none."""
        with self._lock, contextlib.suppress(OSError):
            self._connection.send(message)

    def computation(self, folder: Path, signature: str) -> Computation:
        """Return the next computation."""
        number = next(self._numbers)

        def run(inputs: Arrays) -> Arrays:
            self.send(_Compute(number, folder, signature, inputs))
            try:
                answer: Arrays | tuple[str, str] = self._connection.recv()
            except (EOFError, OSError):
                self._process.join()
                raise Refused(
                    "RESOURCE_EXHAUSTED",
                    f"the process that computed this request ended (exit code {self._process.exitcode}), as it does "
                    "when memory runs out",
                ) from None
            if isinstance(answer, tuple):
                raise Refused(*answer)
            return answer

        return Computation(run, lambda: self.send(_Stop(number)))


def _compute_requests(connection: Connection) -> None:
    """Compute requests until the server's process ends; the whole life of a `_Process`."""
    # Ctrl+C reaches all processes of a terminal, but the server answers the requests in flight before it ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    with contextlib.suppress(OSError):  # where memory runs out, Linux ends this process rather than the server's
        Path("/proc/self/oom_score_adj").write_text("1000")
    requests: queue.SimpleQueue[_Compute | _Unload] = queue.SimpleQueue()
    stops = _Stops()
    threading.Thread(target=_receive, args=(connection, requests, stops), daemon=True).start()
    with captured_stderr():
        import tensorflow  # noqa: F401
    runs: dict[Path, dict[str, Run]] = {}
    while True:
        request = requests.get()
        if isinstance(request, _Unload):
            runs.pop(request.folder, None)
            continue
        try:
            if request.folder not in runs:
                runs[request.folder] = _load(request.folder)
            computing = stoppable(runs[request.folder][request.signature])
            with computing() as (run, stop), stops.calling(request.number, stop):
                answer: Arrays | tuple[str, str] = run(request.inputs)
        except Exception as error:
            refused = refusal(error)
            answer = refused.code, refused.message
        with contextlib.suppress(OSError):
            connection.send(answer)


def _load(folder: Path) -> dict[str, Run]:
    from trellis.serve.server.loading import load

    return {name: loaded.run for name, loaded in load(folder).items()}


class _Stops:
    """Which computation is to stop: the message may arrive before the computation begins, or after its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped, self._current = 0, 0
        self._stop: Callable[[], None] = lambda: None

    def request(self, number: int) -> None:
        """Stop a computation now, or when it begins."""
        with self._lock:
            self._stopped = max(self._stopped, number)
            if self._current == number:
                self._stop()

    @contextlib.contextmanager
    def calling(self, number: int, stop: Callable[[], None]) -> Iterator[None]:
        """Call `stop` if the computation of this number is to stop during the block, or was before."""
        with self._lock:
            self._current, self._stop = number, stop
            if self._stopped == number:
                stop()
        try:
            yield
        finally:
            with self._lock:
                self._current = 0


def _receive(connection: Connection, requests: "queue.SimpleQueue[_Compute | _Unload]", stops: _Stops) -> None:
    """Pass messages on; end the process when the server's has ended."""
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        if isinstance(message, _Stop):
            stops.request(message.number)
        else:
            requests.put(message)
