"""Work on several batches at once."""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor


def in_flight(function, batches, workers=None):
    """`function(batch)` of each batch, in order, while the next ones are already being computed.

    One batch alone does not keep several cores busy: parts of a recurrent model are one small product after another.

    Args:
        function: what releases Python's lock while it works, such as a `tf.function`.
        workers: how many at once; by default one a core.
    """
    workers = workers or os.cpu_count()
    with ThreadPoolExecutor(workers) as pool:
        running = deque()
        for batch in batches:
            running.append(pool.submit(function, batch))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
