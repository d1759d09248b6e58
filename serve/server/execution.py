"""How TensorFlow runs the functions that the server calls."""

import contextlib
from collections.abc import Callable, Iterator

# TensorFlow has no public way to do this. Only this module uses private ones, and tests fail if those move.


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Yield a function that stops, from any thread, the TensorFlow functions that this thread calls in the block.

    They raise `tf.errors.CancelledError` at their next operation or loop iteration.
    """
    from tensorflow.python.eager import cancellation

    manager = cancellation.CancellationManager()
    with cancellation.CancellationManagerContext(manager):
        yield manager.start_cancel


@contextlib.contextmanager
def one_by_one() -> Iterator[None]:
    """Run the operations of the TensorFlow functions that this thread calls in the block one after the other.

    They take one of the threads that all functions share. Otherwise the loops of a long computation would take several,
    and short computations would wait for them. On a GPU, where operations only start kernels, nothing changes.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.eager import context

    if tf.config.list_physical_devices("GPU"):
        yield
        return
    name = "SINGLE_THREADED_EXECUTOR"
    now = context.context()
    before = now.function_call_options
    config = config_pb2.ConfigProto.FromString(before.config_proto_serialized)
    config.experimental.executor_type = name  # keeps loops as the one operation that this executor knows
    now.function_call_options = context.FunctionCallOptions(name, config)
    try:
        yield
    finally:
        now.function_call_options = before
