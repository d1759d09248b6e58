"""Batch requests: those that arrive while others are being computed are computed together."""

import contextlib
import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import NamedTuple, TypeAlias

import numpy as np

from trellis.serve.server.computation import Computing, Run
from trellis.serve.server.limits import Cost
from trellis.serve.server.requests import Arrays, Refused, refusal

Answer: TypeAlias = "Future[Arrays]"

SMALL = 4_096  # cells of requests that large ones do not delay
HUGE = 16_384  # cells of requests that take a second or more: above it, they are computed in another process
BATCH_CELLS = 8_192  # cells of a batch, padding included, unless a single request has more
ALIKE = 32  # rows up to this width are batched whatever their widths; wider ones with rows at most twice as wide
PATIENCE = 0.005  # seconds that a request lets smaller ones pass, for each of its cells
PASSED_OVER = 64  # waiting requests that are too wide for a batch before it is computed without looking further

# Large requests of all signatures share these slots, so that they cannot use up the memory together.
_LARGE = threading.BoundedSemaphore(max((os.cpu_count() or 1) // 4, 1))


class Settings(NamedTuple):
    """How requests are batched.

    Attributes:
        rows: the maximum rows of a batch.
        queue: the maximum rows that may wait; further requests are refused.
        workers: the number of batches of small requests that are computed in parallel.
    """

    rows: int = 64
    queue: int = 4096
    workers: int = 2


class _Request(NamedTuple):
    """A waiting request, ordered by `turn` and then `arrival`; `deadline` is a time of `time.monotonic`."""

    turn: float
    arrival: int
    inputs: Arrays
    cost: Cost
    deadline: float
    answer: Answer


class Batches:
    """Two queues of requests to one signature of one version: small requests do not wait for large ones.

    No request waits for others: as soon as a worker is free, it takes all that are there and alike, so batches grow
    with the load. A computation stops if nobody waits for it any more, which is when all its answers are cancelled.

    Args:
        computing: computes a batch.
        batched: whether requests may be batched; strings are padded with `""` to the widest.
        wide: the names of the outputs whose second axis is as long as the longest text of the batch.
        settings: how requests are batched.
        elsewhere: computes a request of more than `HUGE` cells; None: as all others.
    """

    def __init__(
        self,
        computing: Computing,
        batched: bool,
        wide: Collection[str],
        settings: Settings,
        elsewhere: Computing | None = None,
    ) -> None:
        self._computing, self._wide, self._elsewhere = computing, wide, elsewhere or computing
        self._small = _Lane(self._compute, settings, batched)
        self._large = _Lane(self._compute, settings._replace(workers=1), batched, _LARGE)

    @property
    def waiting(self) -> int:
        """The number of requests that wait."""
        return len(self._small.waiting) + len(self._large.waiting)

    @property
    def rows(self) -> int:
        """The number of rows that wait."""
        return self._small.rows + self._large.rows

    def submit(self, inputs: Arrays, deadline: float, cost: Cost | None = None) -> Answer:
        """Queue a request; return a future of its outputs. Cancel it if nobody waits for it any more.

        Args:
            inputs: the inputs by name.
            deadline: the time of `time.monotonic` after which nobody waits for the answer.
            cost: how much the request asks for; by default one cell for each row.

        Raises:
            Refused: too many requests wait, or the server is stopping.
        """
        if cost is None:
            rows = next((len(array) for array in inputs.values() if np.ndim(array)), 1)
            cost = Cost(rows, 1, rows)
        return (self._small if cost.cells <= SMALL else self._large).submit(inputs, deadline, cost)

    def close(self, seconds: float = 30) -> None:
        """Answer the waiting requests, then stop; abandon computations that take longer than `seconds`."""
        deadline = time.monotonic() + seconds
        for lane in (self._small, self._large):
            lane.close(deadline)

    def _compute(self, batch: Sequence[_Request]) -> None:
        """Compute a batch, and set the answers of its requests."""
        batch = [request for request in batch if not request.answer.done()]
        if not batch:
            return
        try:
            is_huge = max(request.cost.cells for request in batch) > HUGE
            with (self._elsewhere if is_huge else self._computing)() as (run, stop):
                for request in batch:
                    request.answer.add_done_callback(lambda answer: _stop_if_unwanted(answer, batch, stop))
                answers = self._answers(run, batch)
        except Exception as error:
            if len(batch) > 1:
                # One of the requests may be the cause: compute each on its own.
                for request in batch:
                    self._compute([request])
            else:
                _fail(batch[0], refusal(error))
            return
        for request, outputs in zip(batch, answers, strict=True):
            if request.answer.set_running_or_notify_cancel():
                request.answer.set_result(outputs)

    def _answers(self, run: Run, batch: Sequence[_Request]) -> list[Arrays]:
        if len(batch) == 1:
            return [run(batch[0].inputs)]
        outputs = run(_concatenate([request.inputs for request in batch]))
        ends = np.cumsum([request.cost.rows for request in batch]).tolist()
        return [
            self._trim(request, {name: array[end - request.cost.rows : end] for name, array in outputs.items()})
            for request, end in zip(batch, ends, strict=True)
        ]

    def _trim(self, request: _Request, outputs: Arrays) -> Arrays:
        """Return a request's rows of a batch, as wide as they would have been on their own."""
        widths = {array.shape[1] for array in request.inputs.values() if array.ndim == 2}
        if not widths:
            texts = [outputs[name] for name in self._wide if outputs[name].dtype == object]
            last_columns = (column for array in texts for column in np.flatnonzero((array != b"").any(0)).tolist())
            widths = {1 + max(last_columns, default=0)}
        width = max(widths)
        return {name: array[:, :width] if name in self._wide else array for name, array in outputs.items()}


class _Lane:
    """A queue of requests and the threads that compute them.

    Args:
        compute: computes a batch; raises nothing.
        settings: how requests are batched.
        batched: whether requests may be batched.
        slots: what a thread must hold to compute; None: nothing.

    Attributes:
        waiting: the requests that wait, a heap.
        rows: the number of their rows.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[_Request]], None],
        settings: Settings,
        batched: bool,
        slots: threading.Semaphore | None = None,
    ) -> None:
        self._compute, self._settings, self._batched = compute, settings, batched
        self._slots: contextlib.AbstractContextManager[object] = slots or contextlib.nullcontext()
        self.waiting: list[_Request] = []
        self.rows = 0
        self._arrivals = itertools.count()
        self._changed, self._closed = threading.Condition(), False
        self._workers: list[threading.Thread] = []

    def submit(self, inputs: Arrays, deadline: float, cost: Cost) -> Answer:
        """Queue a request; see `Batches.submit`."""
        answer: Answer = Future()
        with self._changed:
            if self._closed:
                raise Refused("UNAVAILABLE", "the server is stopping")
            if self.rows + cost.rows > self._settings.queue:
                self._drop_cancelled()
            if self.rows + cost.rows > self._settings.queue and self.waiting:
                raise Refused("RESOURCE_EXHAUSTED", f"{self.rows} rows are waiting already")
            # Threads start when they are first needed: many signatures are never asked.
            if len(self._workers) < self._settings.workers:
                worker = threading.Thread(target=self._work, daemon=True, name="batches")
                worker.start()
                self._workers.append(worker)
            turn = time.monotonic() + PATIENCE * cost.cells
            heapq.heappush(self.waiting, _Request(turn, next(self._arrivals), inputs, cost, deadline, answer))
            self.rows += cost.rows
            self._changed.notify()
        return answer

    def close(self, deadline: float) -> None:
        """Answer the waiting requests, then stop; abandon computations at a deadline, a time of `time.monotonic`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join(max(deadline - time.monotonic(), 0))

    def _work(self) -> None:
        """Compute batches until the queue is closed and empty."""
        while True:
            with self._changed:
                while not self.waiting and not self._closed:
                    self._changed.wait()
                if not self.waiting:
                    return
            with self._slots:
                with self._changed:
                    batch = self._next_batch()
                try:
                    self._compute(batch)
                except BaseException as error:
                    # Whatever happens, this thread must live: the signature has no other.
                    for request in batch:
                        _fail(request, refusal(error))
                # Let go of the requests while waiting for others.
                del batch

    def _next_batch(self) -> list[_Request]:
        """Remove requests from the queue, as many as fit into a batch; drop those that are too late or cancelled."""
        batch: list[_Request] = []
        passed_over: list[_Request] = []
        rows, widest, narrowest = 0, 0, 0
        while self.waiting and len(passed_over) < PASSED_OVER and (not batch or self._batched):
            request = heapq.heappop(self.waiting)
            if self._is_over(request):
                continue
            width = max(request.cost.width, ALIKE)
            bounds = max(widest, width), min(narrowest or width, width)
            together = rows + request.cost.rows
            alike = bounds[0] <= 2 * bounds[1]
            if not batch or (together <= self._settings.rows and alike and together * bounds[0] <= BATCH_CELLS):
                batch.append(request)
                self.rows -= request.cost.rows
                rows, (widest, narrowest) = together, bounds
                continue
            passed_over.append(request)
            if together > self._settings.rows:
                break
        for request in passed_over:
            heapq.heappush(self.waiting, request)
        return batch

    def _is_over(self, request: _Request) -> bool:
        """Return whether nobody waits for a request that was in the queue; if so, it is no longer counted."""
        if time.monotonic() > request.deadline:
            _fail(request, Refused("DEADLINE_EXCEEDED", "the deadline passed while the request waited"))
        if request.answer.done():
            self.rows -= request.cost.rows
        return request.answer.done()

    def _drop_cancelled(self) -> None:
        """Remove requests from the queue that nobody waits for."""
        self.rows -= sum(request.cost.rows for request in self.waiting if request.answer.cancelled())
        self.waiting = [request for request in self.waiting if not request.answer.cancelled()]
        heapq.heapify(self.waiting)


def _stop_if_unwanted(answer: Answer, batch: Sequence[_Request], stop: Callable[[], None]) -> None:
    """Stop a computation if an answer was cancelled, and with it all others of the batch."""
    if answer.cancelled() and all(request.answer.cancelled() for request in batch):
        stop()


def _fail(request: _Request, error: Refused) -> None:
    if not request.answer.done() and request.answer.set_running_or_notify_cancel():
        request.answer.set_exception(error)


def _concatenate(requests: Sequence[Arrays]) -> Arrays:
    """Concatenate the inputs of requests along their rows, padded to the same shapes."""
    inputs = {}
    for name in requests[0]:
        arrays = [request[name] for request in requests]
        if arrays[0].ndim > 1:
            sizes = np.max([array.shape[1:] for array in arrays], axis=0).tolist()
            arrays = [_pad(array, sizes) for array in arrays]
        inputs[name] = np.concatenate(arrays)
    return inputs


def _pad(array: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Pad strings with `""` to these sizes of the axes after the first."""
    missing = [(0, size - own) for size, own in zip(sizes, array.shape[1:], strict=True)]
    return np.pad(array, [(0, 0), *missing], constant_values=b"")
