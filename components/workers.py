"""The processes that train one model together, each on its share of the rows of every batch.

The processes and the sums over them are those of TensorFlow's MultiWorkerMirroredStrategy. Weights stay ordinary
variables of each process: they begin alike, and gradients summed over all workers change them alike. So everything
around the training step (checkpoints, scores, exports) is the same for one process and for many.

The sum of what the workers compute must be what one process computes. Losses are sums over the rows of a worker,
divided by counts over the rows of all workers (`total`); penalties on weights, which every worker computes, are divided
by the number of workers.

TensorFlow is imported only if there are several workers, because layers for other backends import this module.
"""

import contextlib
import functools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from trellis.components import cluster as clusters
from trellis.components.cluster import Cluster
from trellis.components.errors import InputError, one_line
from trellis.components.types import Tensor

Value = TypeVar("Value")

log = logging.getLogger(__name__)

HEARTBEAT = 30  # seconds of silence after which a worker counts as lost

_strategy: Any = None  # TensorFlow allows one in a process
_started: Cluster | None = None  # the workers of that strategy
_cluster: Cluster | None = None


def count() -> int:
    """Return the number of workers; 1 for a process that trains alone."""
    return 1 if _cluster is None else len(_cluster.addresses)


def index() -> int:
    """Return the index of this worker."""
    return 0 if _cluster is None else _cluster.index


def is_chief() -> bool:
    """Return whether this worker scores, writes checkpoints, records and exports."""
    return index() == 0


def train_alone() -> None:
    """Let this process train alone from now on."""
    global _cluster
    _cluster = None


def connect(cluster: Cluster, facts: Mapping[str, Any], seconds: float) -> None:
    """Wait for the other workers, and train with them from now on.

    Call it after setting TensorFlow's threads, and before any other use of TensorFlow.

    Args:
        cluster: the workers.
        facts: settings that must be the same on all workers, as JSON values.
        seconds: how long to wait for the others.

    Raises:
        InputError: a worker has not connected in time, or its facts differ; TensorFlow is already in use; or this
            machine has fewer GPUs than workers.
    """
    global _cluster, _started, _strategy
    import tensorflow as tf

    if _strategy is None:
        _choose_gpu(cluster)
        clusters.meet(cluster, facts, seconds)
        logging.getLogger("tensorflow").setLevel(logging.WARNING)  # otherwise it logs a line for each sum
        try:
            _set_heartbeat(cluster)
            _strategy, _started = tf.distribute.MultiWorkerMirroredStrategy(_resolver(cluster)), cluster
        except RuntimeError as error:
            raise InputError(f"trainer.strategy=multi_worker: must be the first run of a process ({error})") from None
        except tf.errors.OpError as error:
            raise InputError(f"{cluster.named(cluster.index)} cannot start ({one_line(error)})") from None
    if cluster != _started:
        raise InputError(f"{clusters.VARIABLE}: the workers differ from those of the first run of this process")
    _cluster = cluster


def _resolver(cluster: Cluster) -> Any:
    """Return TensorFlow's description of a cluster; the chief is worker 0."""
    import tensorflow as tf

    gpus = len(tf.config.get_visible_devices("GPU"))
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": gpus} if gpus else {},
        rpc_layer="grpc",
    )


def _set_heartbeat(cluster: Cluster) -> None:
    """Let a worker count as lost after `HEARTBEAT` seconds of silence.

    TensorFlow's default of 10 seconds is too short for a busy machine, and there is no public function to change it. If
    the private ones move, no worker starts, and `tests/pipelines/test_workers.py` fails.
    """
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
    from tensorflow.python.eager import context

    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        heartbeat_timeout_in_ms=1000 * HEARTBEAT,
        coordinated_jobs=[coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=len(cluster.addresses))],
    )


def _choose_gpu(cluster: Cluster) -> None:
    """Let TensorFlow see one GPU, that of this worker."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return
    if cluster.local_index >= len(gpus):
        raise InputError(
            f"{cluster.named(cluster.index)}: there are {len(gpus)} GPUs on this machine; each worker needs its own"
        )
    tf.config.set_visible_devices(gpus[cluster.local_index], "GPU")


def share(rows: np.ndarray) -> np.ndarray:
    """Return the rows of a batch that this worker trains on; one row of padding, -1, if it gets none.

    Args:
        rows: the indices of the examples of the batch, `(rows,)`.
    """
    own = rows[index() :: count()]
    return own if len(own) else np.full(1, -1, rows.dtype)


def share_size(rows: int) -> int:
    """Return the number of rows of this worker's share of a batch."""
    return max(1, len(range(index(), rows, count())))


def total(values: Value) -> Value:
    """Return the sum of values over all workers; None stays None.

    Every worker has to call it, with values of the same structure. It works in graphs and outside of them.

    Args:
        values: a tensor, an IndexedSlices or None, or a list or dictionary of these.
    """
    if count() == 1:
        return values
    import tensorflow as tf

    leaves = tf.nest.flatten(values)
    summed = iter(_strategy.run(_all_reduce, args=([leaf for leaf in leaves if leaf is not None],)))
    result: Value = tf.nest.pack_sequence_as(values, [None if leaf is None else next(summed) for leaf in leaves])
    return result


def _all_reduce(values: Sequence[Tensor]) -> Sequence[Tensor]:
    """Sum values over all workers, in a replica of the strategy."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    # TensorFlow rejects tensors from outside the replica, which have no device: "destinations can not be empty".
    own = [tf.nest.map_structure(tf.identity, value, expand_composites=True) for value in values]
    summed: dict[int, Tensor] = {}
    for dtype in dict.fromkeys(value.dtype for value in own):  # one all-reduce for each
        indices = [index for index, value in enumerate(own) if value.dtype == dtype]
        results = context.all_reduce(tf.distribute.ReduceOp.SUM, [own[index] for index in indices])
        summed |= zip(indices, results, strict=True)
    return [summed[index] for index in range(len(own))]


@functools.cache
def _compiled_total() -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
    import tensorflow as tf

    compiled: Callable[[Sequence[Tensor]], Sequence[Tensor]] = tf.function(total, autograph=False)
    return compiled


def from_chief(make: Callable[[], Value]) -> Value:
    """Call a function on the chief only, and return its value on every worker.

    Args:
        make: returns a value that JSON can represent.
    """
    if count() == 1:
        return make()
    text = json.dumps(make()).encode() if is_chief() else b""
    size = int(_compiled_total()([np.array(len(text))])[0])
    # Padded to one of few sizes, because each size is compiled.
    characters = np.zeros(1 << max(size - 1, 255).bit_length(), np.int32)
    characters[: len(text)] = np.frombuffer(text, np.uint8)
    received: Value = json.loads(np.asarray(_compiled_total()([characters])[0])[:size].astype(np.uint8).tobytes())
    return received


def sum_variables(variables: Iterable[Any]) -> None:
    """Set each variable, on every worker, to its sum over all workers."""
    if count() == 1:
        return
    import tensorflow as tf

    variables = list(variables)
    for variable, value in zip(variables, _compiled_total()(list(map(tf.convert_to_tensor, variables))), strict=True):
        variable.assign(value)


def copy_from_chief(variables: Iterable[Any]) -> None:
    """Set variables to the values that they have on the chief."""
    if count() == 1:
        return
    import tensorflow as tf

    variables, own = list(variables), []
    for variable in variables:
        value = tf.convert_to_tensor(variable)
        value = value if value.dtype.is_floating else tf.cast(value, tf.int64)
        own.append(value if is_chief() else tf.zeros_like(value))
    for variable, value in zip(variables, _compiled_total()(own), strict=True):
        variable.assign(tf.cast(value, variable.dtype))


def vary_dropout(variables: Iterable[Any]) -> None:
    """Let each worker draw its own dropout: add its index to the seeds, which are the same on all workers."""
    if is_chief():
        return
    for variable in variables:
        if variable.name == "seed_generator_state":
            seed, drawn = variable.numpy().tolist()
            variable.assign([seed + index(), drawn])


def surplus_penalty(variables: Iterable[Any]) -> Tensor | float:
    """Return what each worker subtracts from its loss, so that the sum over workers has the weight penalties once."""
    if count() == 1:
        return 0.0
    penalties = [variable.regularizer(variable) for variable in variables if variable.regularizer is not None]
    return (1.0 - 1.0 / count()) * sum(penalties)


@contextlib.contextmanager
def lost_workers_named() -> Iterator[None]:
    """Raise InputError instead of TensorFlow's errors about a lost worker, with its address where it is known."""
    try:
        yield
    except Exception as error:
        problem = _loss(error)
        if problem is None:
            raise
        log.info("%s", error)
        raise InputError(f"{problem}; start all workers again with resume=true") from None


def _loss(error: Exception) -> str | None:
    """Return which worker is lost; None if an error has another cause."""
    if _cluster is None:
        return None
    import tensorflow as tf

    broken = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)
    if not isinstance(error, (*broken, tf.errors.DeadlineExceededError, tf.errors.FailedPreconditionError)):
        return None
    lost = _cluster.unreachable()
    if lost:
        return f"{', '.join(map(_cluster.named, lost))} {'has' if len(lost) == 1 else 'have'} ended"
    return "a worker was lost" if "Collective ops is aborted" in str(error) else None
