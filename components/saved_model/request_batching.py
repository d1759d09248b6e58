"""Requests that arrive together computed together, inside the graph: for servers that do not join them themselves."""

import contextlib
import contextvars
import uuid

import tensorflow as tf

ROWS = 64  # of one computation; larger requests are computed by themselves
THREADS = 4
WAITING = 1024  # computations; a server refuses what is more

_joining = contextvars.ContextVar("joining", default=False)


@contextlib.contextmanager
def joining():
    """What is traced within it joins requests, where it is `joined`."""
    token = _joining.set(True)
    try:
        yield
    finally:
        _joining.reset(token)


def joined(function, trimmed=lambda outputs: outputs):
    """`function`, which within `joining` is computed for several requests at once.

    Nothing waits for company: a thread that is free takes all that has come meanwhile.

    Args:
        function: of tensors `(batch,)`, to a dictionary of tensors `(batch, …)`.
        trimmed: cuts the padding off that longer rows of other requests brought.
    """

    def whichever(*inputs):
        if not _joining.get():
            return function(*inputs)
        shapes = {}

        def alone():
            outputs = function(*inputs)
            shapes.update({name: each.shape for name, each in outputs.items()})
            return outputs

        def together():
            # One name for two graphs, of two versions in one process, would be one queue.
            with tf.name_scope(f"joined_{uuid.uuid4().hex}"):
                compute = tf.nondifferentiable_batch_function(
                    THREADS, ROWS, 0, max_enqueued_batches=WAITING, autograph=False
                )(function)
                return trimmed(compute(*inputs))

        rows = tf.shape(inputs[0])[0]
        outputs = tf.cond((rows > 0) & (rows <= ROWS), together, alone)
        for name, each in outputs.items():
            each.set_shape([None] * shapes[name].rank)
        return outputs

    return whichever
