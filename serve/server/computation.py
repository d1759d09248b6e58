"""Computations of a signature, which stop if nobody waits for them any more."""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from trellis.serve.server.requests import Arrays

Run: TypeAlias = Callable[[Arrays], Arrays]


class Computation(NamedTuple):
    """What computes one batch.

    Attributes:
        run: computes outputs from inputs.
        stop: makes `run` raise an exception soon; any thread may call it, at any time.
    """

    run: Run
    stop: Callable[[], None]


Computing: TypeAlias = Callable[[], contextlib.AbstractContextManager[Computation]]


def stoppable(run: Run) -> Computing:
    """Return a context manager for each computation of `run` in the thread that enters it.

    The TensorFlow functions that `run` calls raise `tf.errors.CancelledError` at their next operation or loop iteration
    when the computation is stopped. TensorFlow has no public way: this is the only place that uses its private one, and
    a test fails if that moves.
    """

    @contextlib.contextmanager
    def computing() -> Iterator[Computation]:
        from tensorflow.python.eager import cancellation

        manager = cancellation.CancellationManager()
        with cancellation.CancellationManagerContext(manager):
            yield Computation(run, manager.start_cancel)

    return computing
