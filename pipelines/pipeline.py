"""The flow of every pipeline: read → encode → batch → build → fit → evaluate → export."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import keras
import tensorflow as tf
from omegaconf import DictConfig

from trellis.components import transfer, workers
from trellis.components.command import DISK_ERRORS
from trellis.components.errors import InputError
from trellis.components.files import atomic_write
from trellis.components.metrics import segments
from trellis.components.quiet import silence_retracing
from trellis.components.training import checkpoints, graph_memory
from trellis.pipelines import comparison, distribution, summary, training
from trellis.pipelines.packaging import Exporter
from trellis.pipelines.pretraining import Pretraining
from trellis.pipelines.task import Metrics, Task
from trellis.pipelines.terminal import Terminal
from trellis.pipelines.tracking.lifecycle import tracked

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a run leaves.

    Attributes:
        metrics: scores by their names, as in `metrics.json`.
        folder: of the run, with its reports and checkpoints.
        export: the version that was written; None without an export.
        model: of the best epoch; None for a run that was finished before.
    """

    metrics: Metrics
    folder: Path
    export: Path | None
    model: keras.Model | None

    @property
    def score(self) -> float:
        """The score of the best checkpoint on dev, for sweepers that optimize; without one the training loss."""
        return self.metrics.get("dev/best", self.metrics["train/loss"])


def run(config: DictConfig, folder: Path, terminal: Terminal | None = None) -> Result:
    """Run the pipeline that a configuration describes.

    Args:
        config: the composed configuration.
        folder: of this run; receives `checkpoints/`, `reports/` and `metrics.json`.
        terminal: reports what the run does.

    Raises:
        InputError: something that the user gave is wrong.
    """
    task_class: type[Task[Any, Any, Any]] = hydra.utils.get_class(config.pipeline._target_)
    _prepare_process(config, task_class.wide)
    with workers.lost_workers_named():
        finished = workers.from_chief(lambda: _finished(config, folder))
        if finished is not None:
            print(f"{folder} is finished already", flush=True)
            return Result(finished, folder, None, None)
        with graph_memory.released_graphs():
            return _run(distribution.of_this_worker(config), task_class, folder, terminal)


def _finished(config: DictConfig, folder: Path) -> Metrics | None:
    """Return the metrics of a run that is to be resumed, if it came to its end."""
    path = folder / "metrics.json"
    metrics: Metrics | None = json.loads(path.read_text()) if config.resume and path.exists() else None
    return metrics


def _run(config: DictConfig, task_class: type[Task[Any, Any, Any]], folder: Path, terminal: Terminal | None) -> Result:
    task = task_class(config)
    exporter = Exporter(config)

    with terminal or Terminal() as terminal, tracked(config, folder, terminal) as tracker, _disk_errors(folder):
        terminal.line(f"on {_devices()}{distribution.place()}")
        terminal.phase("reading")
        data = task.read()
        log.info("%s", data.description)
        terminal.line(data.description)
        tracker.log_data(data)
        pretraining = Pretraining(config, task.embeds_words)
        terminal.phase("encoding")
        encoded = task.encode(data, keep=pretraining.words)
        batches = task.batch(encoded)
        if encoded.words is not None and workers.is_chief():
            with atomic_write(folder / transfer.VOCABULARY) as part:
                part.write_text(_as_json(encoded.words))

        terminal.phase("building the model")
        model = task.build(encoded, batches)
        exporter.compress(model)  # fails now rather than after training
        distribution.require_same(data, batches, model)
        before = task.diagnose(model, encoded) if workers.is_chief() else None
        callbacks = pretraining.apply(model, encoded)
        callbacks += training.board(config, folder / "tensorboard", batches.steps)
        training.compile_model(model, task.loss(encoded, batches), config, batches.steps, task.epochs)
        policy = training.Policy(
            monitor=task.monitor(encoded),
            epochs=task.epochs,
            patience=config.trainer.patience,
            keeps_last=task.keeps_last or config.trainer.keep == "last",
            averaged=config.trainer.average is not None,
            checkpoint_every=config.trainer.checkpoint_every,
        )
        evaluator, place = task.evaluator(model, encoded), folder / "checkpoints"
        metrics = training.fit(
            model, batches, evaluator.dev, policy, place, tracker, terminal, config.resume, callbacks
        )

        if not workers.is_chief():
            terminal.phase("waiting for worker 0")
            return Result(distribution.final(metrics), folder, None, model)
        terminal.phase("scoring")
        checkpoints.load_best_weights(model, place)
        weights = exporter.compress(model)
        if weights:
            with weights.in_place():
                scores = evaluator.held_out().metrics
            metrics |= {f"export/{name}": value for name, value in scores.items() if name.count("/") == 1}
        outcome = evaluator.held_out()
        metrics |= outcome.metrics
        tracker.log_final(metrics)
        terminal.phase("writing reports")
        diagnosis = None if before is None else {"before": before, "after": task.diagnose(model, encoded)}
        task.report(folder / "reports", model, encoded, outcome, diagnosis)
        if outcome.segments:
            segments.save(folder / comparison.FILE, outcome.segments)
        tracker.log_reports(folder / "reports")
        if (folder / "tensorboard").is_dir():
            tracker.log_folder(folder / "tensorboard")

        package = task.final_package(model, encoded, outcome)
        score = metrics.get("dev/best", metrics["train/loss"])
        # What could fail is done before the export is there, and the run is finished when the file gets its name.
        with (
            atomic_write(folder / "metrics.json") as part,
            exporter.written(package, data, metrics, weights, terminal) as export,
        ):
            part.write_text(_as_json(metrics))
            if export:
                terminal.phase("logging the model")
                tracker.log_model(export, package, policy.monitor, score)
        distribution.final(metrics)
    summary.show(config, metrics, folder, tracker, export, package, task.headline, weights)
    return Result(metrics, folder, export, model)


def _devices() -> str:
    """Return what TensorFlow computes on: the names of the GPUs, or the number of CPU cores."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return ", ".join(tf.config.experimental.get_device_details(gpu).get("device_name", "a GPU") for gpu in gpus)
    cores = os.cpu_count() or 1
    return f"{cores} CPU core{'s' * (cores != 1)}"


def _prepare_process(config: DictConfig, wide: bool) -> None:
    """Set threads, seed and precision, and wait for the other workers.

    Args:
        wide: whether one operation uses all cores, rather than two operations at a time.
    """
    silence_retracing()
    threads = config.trainer.threads
    cores = os.cpu_count() or 2
    try:
        # The matrices of one time step are small: two operations at a time beat two threads in one.
        narrow = max(1, cores // 2)
        tf.config.threading.set_intra_op_parallelism_threads(threads.intra_op or (cores if wide else narrow))
        tf.config.threading.set_inter_op_parallelism_threads(threads.inter_op or max(2, cores))
    except RuntimeError:
        log.info("TensorFlow is running already: trainer.threads has no effect")
    distribution.join(config)
    graph_memory.clear_session()
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.model.precision)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Raise InputError for a full disk or a folder without permission: the user can mend them."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise InputError(f"{error.filename or folder}: cannot be written ({os.strerror(error.errno)})") from None


def _as_json(values: Metrics | Sequence[str]) -> str:
    return json.dumps(values, indent=2) + "\n"
