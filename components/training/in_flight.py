"""Process several batches at once."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from trellis.components import termination

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def in_flight(
    function: Callable[[Batch], Result], batches: Iterable[Batch], workers: int | None = None
) -> Iterator[Result]:
    """Yield `function(batch)` for each batch, in order, while the next ones are already being computed.

    One batch does not keep several cores busy: parts of a recurrent model are one small product after another.

    Args:
        function: a function that releases Python's lock while it works, such as a `tf.function`.
        batches: its arguments.
        workers: how many to process at once; one per core by default.
    """
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[Result]] = deque()
        for batch in batches:
            termination.check()
            running.append(pool.submit(function, batch))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
