"""Requests that wait while others are computed are computed together."""

import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from trellis.serve.server.requests import Refused


class Settings(NamedTuple):
    """How requests are joined.

    Attributes:
        rows: of a batch, at most.
        queue: rows that may wait, before others are refused.
        workers: batches at once.
    """

    rows: int = 64
    queue: int = 4096
    workers: int = 2


class _Waiting(NamedTuple):
    inputs: dict
    rows: int
    deadline: float
    future: Future


class Batches:
    """A queue of requests for one signature of one version.

    No request waits for company: as soon as a worker is free it takes what is there, so batches grow with the load.

    Args:
        run: `{name: array} -> {name: array}`.
        batched: whether requests may be joined; strings are padded with `""` to the widest.
        wide: names of the outputs whose second axis is as long as the longest text of the batch.
        settings: see `Settings`.
    """

    def __init__(self, run, batched, wide, settings):
        self.run, self.batched, self.wide, self.settings = run, batched, wide, settings
        self.waiting, self.rows = deque(), 0
        self._changed, self._closed = threading.Condition(), False
        self._workers = []

    def submit(self, inputs, deadline):
        """A future of the outputs; refused with RESOURCE_EXHAUSTED where too many wait."""
        rows = next((len(array) for array in inputs.values() if np.ndim(array)), 1)
        future = Future()
        with self._changed:
            if self._closed:
                raise Refused("UNAVAILABLE", "the server is stopping")
            if self.rows + rows > self.settings.queue and self.waiting:
                raise Refused("RESOURCE_EXHAUSTED", f"{self.rows} rows wait already")
            self.waiting.append(_Waiting(inputs, rows, deadline, future))
            self.rows += rows
            # Threads as they are first needed: a model has signatures that nobody asks.
            if len(self._workers) < self.settings.workers:
                worker = threading.Thread(target=self._work, daemon=True, name="batches")
                self._workers.append(worker)
                worker.start()
            self._changed.notify()
        return future

    def close(self, seconds=30):
        """Answers what waits, then ends; a computation that takes longer than `seconds` is left alone."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        until = time.monotonic() + seconds
        for worker in self._workers:
            worker.join(max(until - time.monotonic(), 0))

    def _work(self):
        while True:
            with self._changed:
                while not self.waiting and not self._closed:
                    self._changed.wait()
                if not self.waiting:
                    return
                batch = self._take()
            if batch:
                self._answer(batch)

    def _take(self):
        batch, rows = [], 0
        while self.waiting and (not batch or (self.batched and rows + self.waiting[0].rows <= self.settings.rows)):
            each = self.waiting.popleft()
            self.rows -= each.rows
            if time.monotonic() > each.deadline:
                _set(each.future, None, Refused("DEADLINE_EXCEEDED", "the deadline passed while the request waited"))
                continue
            batch.append(each)
            rows += each.rows
        return batch

    def _answer(self, batch):
        try:
            outputs = self.run(batch[0].inputs if len(batch) == 1 else _joined([each.inputs for each in batch]))
            ends = np.cumsum([each.rows for each in batch])
            answers = (
                [outputs]
                if len(batch) == 1
                else [
                    self._of(each, {name: array[end - each.rows : end] for name, array in outputs.items()})
                    for each, end in zip(batch, ends, strict=True)
                ]
            )
        except Exception as error:
            if len(batch) > 1:
                # One of them may be to blame: each is asked alone.
                for each in batch:
                    self._answer([each])
                return
            refused = error if isinstance(error, Refused) else Refused("INTERNAL", str(error).splitlines()[0][:500])
            _set(batch[0].future, None, refused)
            return
        for each, answer in zip(batch, answers, strict=True):
            _set(each.future, answer, None)

    def _of(self, request, outputs):
        """A request's rows of a batch, as wide as they would have been alone."""
        widths = {array.shape[1] for array in request.inputs.values() if array.ndim == 2}
        if not widths:
            texts = [outputs[name] for name in self.wide if outputs[name].dtype == object]
            widths = {
                1 + max((column for array in texts for column in np.flatnonzero((array != b"").any(0))), default=0)
            }
        width = max(widths)
        return {name: array[:, :width] if name in self.wide else array for name, array in outputs.items()}


def _set(future, outputs, error):
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(outputs)
    else:
        future.set_exception(error)


def _joined(requests):
    joined = {}
    for name in requests[0]:
        arrays = [request[name] for request in requests]
        if arrays[0].ndim > 1:
            sizes = np.max([array.shape[1:] for array in arrays], axis=0)
            arrays = [
                np.pad(array, [(0, 0), *((0, most - size) for most, size in zip(sizes, array.shape[1:], strict=True))],
                       constant_values=b"")
                for array in arrays
            ]  # fmt: skip
        joined[name] = np.concatenate(arrays)
    return joined
