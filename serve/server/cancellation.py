"""Stop computations that nobody waits for any more."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Yield a function that stops, from any thread, the TensorFlow functions that this thread calls in the block.

    They raise `tf.errors.CancelledError` at their next operation or loop iteration. TensorFlow has no public way: this
    is the only place that uses its private one, and a test fails if that moves.
    """
    from tensorflow.python.eager import cancellation

    manager = cancellation.CancellationManager()
    with cancellation.CancellationManagerContext(manager):
        yield manager.start_cancel
