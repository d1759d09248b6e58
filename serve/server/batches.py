"""Compute requests that wait while others are computed together, in one batch."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import NamedTuple, TypeAlias

import numpy as np

from trellis.components.errors import first_line
from trellis.serve.server.requests import Arrays, Refused

Answer: TypeAlias = "Future[Arrays]"


class Settings(NamedTuple):
    """How requests are batched.

    Attributes:
        rows: the maximum rows of a batch.
        queue: the maximum rows that may wait; further requests are refused.
        workers: the number of batches that are computed in parallel.
    """

    rows: int = 64
    queue: int = 4096
    workers: int = 2


class _Request(NamedTuple):
    """A waiting request; `deadline` is a time of `time.monotonic`."""

    inputs: Arrays
    rows: int
    deadline: float
    answer: Answer


class Batches:
    """A queue of requests to one signature of one version.

    No request waits for others: as soon as a worker is free, it takes all that are there, so batches grow with the
    load.

    Args:
        run: computes outputs from inputs.
        batched: whether requests may be batched; strings are padded with `""` to the widest.
        wide: the names of the outputs whose second axis is as long as the longest text of the batch.
        settings: how requests are batched.

    Attributes:
        waiting: the requests that wait.
        rows: the number of their rows.
    """

    def __init__(
        self, run: Callable[[Arrays], Arrays], batched: bool, wide: Collection[str], settings: Settings
    ) -> None:
        self._run, self._batched, self._wide, self._settings = run, batched, wide, settings
        self.waiting: deque[_Request] = deque()
        self.rows = 0
        self._changed, self._closed = threading.Condition(), False
        self._workers: list[threading.Thread] = []

    def submit(self, inputs: Arrays, deadline: float) -> Answer:
        """Queue a request; return a future of its outputs.

        Args:
            inputs: the inputs by name.
            deadline: the time of `time.monotonic` after which nobody waits for the answer.

        Raises:
            Refused: too many requests wait, or the server is stopping.
        """
        rows = next((len(array) for array in inputs.values() if np.ndim(array)), 1)
        answer: Answer = Future()
        with self._changed:
            if self._closed:
                raise Refused("UNAVAILABLE", "the server is stopping")
            if self.rows + rows > self._settings.queue and self.waiting:
                raise Refused("RESOURCE_EXHAUSTED", f"{self.rows} rows are waiting already")
            self.waiting.append(_Request(inputs, rows, deadline, answer))
            self.rows += rows
            # Threads start when they are first needed: many signatures are never asked.
            if len(self._workers) < self._settings.workers:
                worker = threading.Thread(target=self._work, daemon=True, name="batches")
                self._workers.append(worker)
                worker.start()
            self._changed.notify()
        return answer

    def close(self, seconds: float = 30) -> None:
        """Answer the waiting requests, then stop; abandon computations that take longer than `seconds`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        deadline = time.monotonic() + seconds
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
                batch = self._next_batch()
            if batch:
                self._compute(batch)

    def _next_batch(self) -> list[_Request]:
        """Remove requests from the queue, as many as fit into a batch; drop those that are too late."""
        batch: list[_Request] = []
        rows = 0
        while self.waiting and (not batch or (self._batched and rows + self.waiting[0].rows <= self._settings.rows)):
            request = self.waiting.popleft()
            self.rows -= request.rows
            if time.monotonic() > request.deadline:
                _fail(request, Refused("DEADLINE_EXCEEDED", "the deadline passed while the request waited"))
                continue
            batch.append(request)
            rows += request.rows
        return batch

    def _compute(self, batch: Sequence[_Request]) -> None:
        """Compute a batch, and set the answers of its requests."""
        try:
            answers = self._answers(batch)
        except Exception as error:
            if len(batch) > 1:
                # One of the requests may be the cause: compute each on its own.
                for request in batch:
                    self._compute([request])
            else:
                _fail(batch[0], error if isinstance(error, Refused) else Refused("INTERNAL", first_line(error, 500)))
            return
        for request, outputs in zip(batch, answers, strict=True):
            if request.answer.set_running_or_notify_cancel():
                request.answer.set_result(outputs)

    def _answers(self, batch: Sequence[_Request]) -> list[Arrays]:
        if len(batch) == 1:
            return [self._run(batch[0].inputs)]
        outputs = self._run(_concatenate([request.inputs for request in batch]))
        ends = np.cumsum([request.rows for request in batch]).tolist()
        return [
            self._trim(request, {name: array[end - request.rows : end] for name, array in outputs.items()})
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


def _fail(request: _Request, error: Refused) -> None:
    if request.answer.set_running_or_notify_cancel():
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
