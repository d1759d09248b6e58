"""Training by several workers: how a run joins them, and what it leaves to the chief."""

import copy
import logging
from typing import Any

import keras
import tensorflow as tf
from omegaconf import DictConfig

from trellis.components import cluster, workers
from trellis.components.errors import InputError
from trellis.pipelines.configuration import flatten
from trellis.pipelines.task import Batches, Data, Metrics

log = logging.getLogger(__name__)

# Settings that machines may differ in.
OF_A_MACHINE = (
    "resume",
    "data.path",
    "text.cache",
    "export.",
    "tracking.",
    "trainer.connect_timeout",
    "trainer.threads.",
)


def join(config: DictConfig) -> None:
    """Wait for the other workers, if the run has any; let it train alone otherwise.

    Raises:
        InputError: `TF_CONFIG` is wrong, a worker is missing, or it was started with other settings.
    """
    if config.trainer.strategy == "none":
        workers.train_alone()
        return
    facts = {key: value for key, value in flatten(config).items() if not key.startswith(OF_A_MACHINE)}
    workers.connect(cluster.from_environment(), facts, config.trainer.connect_timeout)


def of_this_worker(config: DictConfig) -> DictConfig:
    """Return the configuration of a run on this worker: all but the chief record, profile and export nothing."""
    if workers.is_chief():
        return config
    own = copy.deepcopy(config)
    own.tracking = {"_target_": "trellis.pipelines.tracking.tracker.NullTracker"}
    own.trainer.tensorboard, own.trainer.profile, own.export.enabled = False, None, False
    return own


def place() -> str:
    """Return which worker this is, to follow the name of its devices."""
    return f", worker {workers.index()} of {workers.count()}" if workers.count() > 1 else ""


def require_same(data: Data, batches: Batches, model: keras.Model) -> None:
    """Check that this worker has the data and the model of the chief.

    Raises:
        InputError: it has not.
    """
    own: dict[str, Any] = {
        "data": data.description,
        "batches": batches.steps,
        "tokens": batches.tokens,
        "weights": [list(map(int, variable.shape)) for variable in model.variables],
    }
    for key, value in workers.from_chief(lambda: own).items():
        if own[key] != value:
            raise InputError(f"worker {workers.index()} has other {key} than worker 0: {own[key]}, not {value}")


def final(metrics: Metrics) -> Metrics:
    """Return the metrics of the chief, on all workers, when its run is finished."""
    try:
        return workers.from_chief(lambda: metrics)
    except tf.errors.OpError as error:
        if not workers.is_chief():
            raise
        log.warning("a worker was lost after the last epoch: %s", error)
        return metrics
