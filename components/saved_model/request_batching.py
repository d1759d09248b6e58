"""Compute requests that arrive together in one batch, inside the graph: for servers that do not batch themselves."""

import contextlib
import contextvars
import uuid
from collections.abc import Callable, Iterator

import tensorflow as tf

from trellis.components.types import Tensor

ROWS = 64  # maximum rows of a batch; larger requests are computed on their own
THREADS = 4
WAITING = 1024  # maximum batches that may wait; a server refuses further requests

Outputs = dict[str, Tensor]

_enabled = contextvars.ContextVar("batching_requests", default=False)


@contextlib.contextmanager
def batching_requests() -> Iterator[None]:
    """Let `batched` functions that are traced inside the block batch requests."""
    token = _enabled.set(True)
    try:
        yield
    finally:
        _enabled.reset(token)


def batched(
    function: Callable[..., Outputs], trim: Callable[[Outputs], Outputs] = lambda outputs: outputs
) -> Callable[..., Outputs]:
    """Return `function`; traced inside `batching_requests`, it computes several requests at once.

    No request waits for others: a thread that is free takes all requests that have arrived meanwhile.

    Args:
        function: takes tensors `(batch,)` and returns tensors `(batch, …)` by name.
        trim: cuts off the padding that is due to longer rows of other requests.
    """

    def traced(*inputs: Tensor) -> Outputs:
        if not _enabled.get():
            return function(*inputs)
        ranks = dict[str, int]()  # not an annotated name, which AutoGraph cannot handle

        def alone() -> Outputs:
            outputs = function(*inputs)
            ranks.update({name: output.shape.rank for name, output in outputs.items()})
            return outputs

        def together() -> Outputs:
            # The name identifies the queue: with equal names, two versions in one process would share one.
            with tf.name_scope(f"joined_{uuid.uuid4().hex}"):
                compute = tf.nondifferentiable_batch_function(
                    THREADS, ROWS, 0, max_enqueued_batches=WAITING, autograph=False
                )(function)
                return trim(compute(*inputs))

        rows = tf.shape(inputs[0])[0]
        outputs = tf.cond((rows > 0) & (rows <= ROWS), together, alone)
        for name, output in outputs.items():
            output.set_shape([None] * ranks[name])
        return outputs

    return traced
