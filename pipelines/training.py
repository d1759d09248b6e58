"""Training: the optimizer, the epochs, and which checkpoint is kept."""

import contextlib
import functools
import json
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import hydra
import keras
from omegaconf import DictConfig

from trellis.components import termination, workers
from trellis.components.errors import InputError
from trellis.components.metrics.direction import is_better
from trellis.components.training import checkpoints, data_parallel
from trellis.components.training.lbfgs import LBFGS
from trellis.components.training.profile import Profile
from trellis.components.types import Dataset
from trellis.pipelines import trial
from trellis.pipelines.configuration import plain
from trellis.pipelines.task import Batches, Loss, Metrics
from trellis.pipelines.terminal import Terminal
from trellis.pipelines.tracking.tracker import Tracker

log = logging.getLogger(__name__)

SHOWN_EVERY = 0.2  # seconds between updates of the bar


def compile_model(model: keras.Model, loss: Loss, config: DictConfig, steps: int, epochs: int) -> None:
    """Compile a model with the optimizer, schedule and clipping of the configuration.

    Args:
        steps: number of batches in an epoch.
        epochs: number of epochs of the whole training, for schedules that end with it.

    Raises:
        InputError: the optimizer does not take its settings, or does not suit the loss.
    """
    rate = hydra.utils.instantiate(
        config.schedule, config.optimizer.learning_rate, steps_per_epoch=steps, epochs=epochs
    )
    settings = plain(config.optimizer)
    optimizer_class = hydra.utils.get_class(settings.pop("_target_"))
    if config.trainer.average is not None:
        settings |= {"use_ema": True, "ema_momentum": config.trainer.average}
    objective = loss.of_batch
    if issubclass(optimizer_class, LBFGS):
        if loss.of_epoch is None:
            raise InputError(
                f"optimizer={optimizer_class.__name__.lower()}: suits only feature_crf and memm without model.l1; with "
                f"these settings, the loss of model={config.model.name} is not a smooth function of the weights alone"
            )
        objective, settings["steps"] = loss.of_epoch, steps
    settings |= {"learning_rate": rate, "global_clipnorm": config.trainer.clip_norm}
    try:
        optimizer = optimizer_class(**settings)
    except (TypeError, ValueError, ImportError) as error:
        raise InputError(f"optimizer: {str(error).splitlines()[0]}") from None
    # TensorFlow cannot sum over workers inside the loop that Keras builds for several steps per call.
    steps_per_call = min(config.trainer.steps_per_call, steps) if workers.count() == 1 else 1
    if workers.count() > 1 and type(model).train_step is keras.Model.train_step:
        model.train_step = functools.partial(data_parallel.train_step, model)
    model.compile(optimizer, loss=objective, steps_per_execution=steps_per_call, jit_compile=False)
    # Otherwise the first step would create these variables, and would be traced twice.
    optimizer.build(model.trainable_variables)


@dataclass(frozen=True)
class PartOfEpoch:
    """How far an unfinished epoch has come.

    Attributes:
        steps: the number of batches it has been trained on.
        seconds: how long that took.
    """

    steps: int
    seconds: float


@dataclass
class Progress:
    """How far training has come; stored with each checkpoint.

    Attributes:
        epochs: metrics of each finished epoch.
        best: the best value of the monitored score, and the epoch it was reached in.
        waited: epochs since then.
        part: of the epoch that follows; None at the end of an epoch.
    """

    epochs: list[Metrics] = field(default_factory=list)
    best: float | None = None
    best_epoch: int | None = None
    waited: int = 0
    part: PartOfEpoch | None = None


@dataclass(frozen=True)
class Policy:
    """Which model is kept, and when training ends.

    Attributes:
        monitor: the score that is watched.
        epochs: maximum number of epochs.
        patience: number of epochs without a better score after which training stops.
        keeps_last: keep the model of the last epoch instead of the best one, and never stop early.
        averaged: score and keep the moving average of the weights.
        checkpoint_every: write a checkpoint within an epoch after this number of steps, too; None: at its end only.
    """

    monitor: str
    epochs: int
    patience: int
    keeps_last: bool
    averaged: bool
    checkpoint_every: int | None = None


def fit(
    model: keras.Model,
    batches: Batches,
    score_dev: Callable[[], Metrics],
    policy: Policy,
    folder: Path,
    tracker: Tracker,
    terminal: Terminal,
    resume: bool,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Metrics:
    """Train until the last epoch or until patience runs out, and write `best.keras` to the checkpoint folder.

    If several workers train together, only the chief scores and writes, and all workers follow its scores.

    Args:
        score_dev: returns the scores on dev; called after each epoch.
        resume: continue from the checkpoint in the folder, if there is one.

    Returns:
        loss and speeds of the whole run; speeds are medians over all epochs except the first, which compiles.

    Raises:
        InputError: the loss is not finite, or the checkpoint cannot be used.
    """
    state = workers.from_chief(lambda: checkpoints.restore(model, folder) if resume else None)
    workers.copy_from_chief(checkpoints.variables_of(model))
    workers.vary_dropout(model.variables)
    progress = _progress(state, batches.steps, folder / checkpoints.LAST)
    watch = EpochEnd(batches, score_dev, policy, folder, tracker, terminal, progress)
    if state is not None:
        part = "" if progress.part is None else f" and {progress.part.steps} of {batches.steps} steps of the next one"
        terminal.line(f"resuming after epoch {watch.first_epoch} of {policy.epochs}{part}")
    if not watch.finished:
        terminal.phase("compiling the first step")
        dataset = batches.epoch_dataset(lambda: watch.epoch)
        first = watch.first_epoch
        if progress.part is not None:
            _train(model, dataset.skip(progress.part.steps), first, first + 1, [watch, *callbacks])
            # Keras puts averages in place of the weights at the end of `fit`, and asks for the first batch of an epoch
            # before the epoch begins.
            checkpoints.restore(model, folder)
            first = watch.epoch = first + 1
        if not model.stop_training and first < policy.epochs:
            _train(model, dataset, first, policy.epochs, [watch, *callbacks])
    return _summary(watch.progress, policy)


def _train(
    model: keras.Model, dataset: Dataset, first: int, last: int, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Train from the epoch `first` up to `last`, counted from 0."""
    model.fit(dataset, initial_epoch=first, epochs=last, callbacks=list(callbacks), verbose=0, shuffle=False)


def _progress(state: dict[str, Any] | None, steps: int, path: Path) -> Progress:
    """Return the progress that a checkpoint stores.

    Args:
        state: of the checkpoint; None: there is none.
        steps: number of batches in an epoch.
        path: the checkpoint, for messages.

    Raises:
        InputError: it is damaged.
    """
    try:
        progress = Progress() if state is None else Progress(**state)
        # Later code relies on these types.
        if not all(float(epoch["train/loss"]) == epoch["train/loss"] for epoch in progress.epochs):
            raise ValueError("a loss is not a number")
        part = None if progress.part is None else PartOfEpoch(**cast(dict[str, Any], progress.part))
        if part is not None and not (0 < int(part.steps) < steps and float(part.seconds) >= 0):
            raise ValueError(f"it ends {part.steps} steps into an epoch of {steps}")
        return replace(progress, waited=int(progress.waited), part=part)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{path}: damaged checkpoint ({error}); delete it to start this run again") from None


def _summary(progress: Progress, policy: Policy) -> Metrics:
    timed = progress.epochs[1:] or progress.epochs
    metrics: Metrics = {
        "train/loss": progress.epochs[-1]["train/loss"],
        "train/tokens_per_second": statistics.median(epoch["train/tokens_per_second"] for epoch in timed),
        "train/step_ms": statistics.median(epoch["train/step_ms"] for epoch in timed),
        "train/epochs": len(progress.epochs),
    }
    if policy.monitor.startswith("dev/") and progress.best is not None and progress.best_epoch is not None:
        metrics["dev/best"] = progress.best
        if not policy.keeps_last:
            metrics["dev/best_epoch"] = progress.best_epoch
    return metrics


def board(config: DictConfig, folder: Path, steps: int) -> list[keras.callbacks.Callback]:
    """Return the callbacks that write for TensorBoard, as `trainer.tensorboard` and `trainer.profile` say.

    Args:
        folder: where they write.
        steps: number of batches in an epoch.
    """
    callbacks: list[keras.callbacks.Callback] = []
    if config.trainer.tensorboard:
        if find_spec("tensorboard") is None:
            extra = "pip install 'trellis-sequence[tensorboard]'"
            raise InputError(f"trainer.tensorboard=true: tensorboard is not installed; {extra}")
        callbacks.append(keras.callbacks.TensorBoard(str(folder), write_graph=False))
    profile = config.trainer.profile
    if profile is not None:
        callbacks.append(Profile(folder, profile["from"], profile["to"], steps))
    return callbacks


class EpochEnd(keras.callbacks.Callback):
    """After each epoch: score on dev, log, keep the best model, write a checkpoint, and stop when training is finished.

    Within an epoch: show the progress, and write checkpoints where the policy asks for them.

    Args:
        progress: that of the run before it was resumed.
    """

    def __init__(
        self,
        batches: Batches,
        score_dev: Callable[[], Metrics],
        policy: Policy,
        folder: Path,
        tracker: Tracker,
        terminal: Terminal,
        progress: Progress,
    ) -> None:
        super().__init__()
        self.batches, self.score_dev, self.policy = batches, score_dev, policy
        self.folder, self.tracker, self.terminal, self.progress = folder, tracker, terminal, progress
        self.first_epoch = self.epoch = len(progress.epochs)
        self.began = self.shown = 0.0
        self.resumed_at = self.saved_at = 0  # steps into this epoch

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.progress.waited >= self.policy.patience or self.first_epoch >= self.policy.epochs

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock; continue where an unfinished epoch was interrupted."""
        part, self.progress.part = self.progress.part, None
        self.epoch, self.began = epoch, time.perf_counter() - (part.seconds if part else 0)
        self.resumed_at = self.saved_at = part.steps if part else 0
        if part:
            checkpoints.restore_within_epoch(self.model, self.folder)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Write a checkpoint if it is time, and show loss and speed on a terminal."""
        termination.check()
        now, step = time.perf_counter(), self.resumed_at + batch + 1
        every = self.policy.checkpoint_every
        if every and step // every > self.saved_at // every and step < self.batches.steps:
            progress = replace(self.progress, part=PartOfEpoch(step, now - self.began))
            checkpoints.save(self.model, self.folder, asdict(progress), within_epoch=True)
            self.saved_at = step
        # Only a few times a second: reading the loss waits for the step.
        if not self.terminal.is_live or now - self.shown < SHOWN_EVERY:
            return
        self.shown = now
        done = step / self.batches.steps
        self.terminal.training(
            f"epoch {self.epoch + 1}/{self.policy.epochs}",
            (self.epoch + done) / self.policy.epochs,
            self._line(float((logs or {})["loss"]), done * self.batches.tokens / (now - self.began)),
        )

    def _line(self, loss: float, tokens_per_second: float) -> str:
        """Return the text of the progress bar, and of the line of a finished epoch."""
        parts = [f"loss {loss:.3f}"]
        if self.progress.epochs and self.policy.monitor != "train/loss":
            name = self.policy.monitor.replace("/", " ").replace("f1", "F1").replace("aer", "AER")
            parts.append(f"{name} {self.progress.epochs[-1][self.policy.monitor]:.4f}")
        return "  ".join([*parts, f"{tokens_per_second:,.0f} tokens/s"])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Score on dev, log, write checkpoints, and stop if patience has run out."""
        seconds, logs = time.perf_counter() - self.began, logs or {}
        loss = float(logs["loss"])
        if not abs(loss) < float("inf"):
            raise InputError(
                f"the loss is {loss} in epoch {epoch + 1}; lower optimizer.learning_rate or trainer.clip_norm"
            )
        tokens_per_second = self.batches.tokens / seconds
        self.terminal.phase(f"epoch {epoch + 1}/{self.policy.epochs}: scoring")
        metrics: Metrics = {
            "train/loss": loss,
            "train/tokens_per_second": tokens_per_second,
            "train/step_ms": 1000 * seconds / self.batches.steps,
            "train/learning_rate": float(self.model.optimizer.learning_rate),
            **{f"train/{name}": float(value) for name, value in logs.items() if name != "loss"},
        }
        with averaged_weights(self.model) if self.policy.averaged else contextlib.nullcontext():
            metrics |= workers.from_chief(self.score_dev)
            self._keep(metrics[self.policy.monitor], epoch)
        self.progress.epochs.append(metrics)
        self.terminal.line(f"epoch {epoch + 1}/{self.policy.epochs}  {self._line(loss, tokens_per_second)}")
        self.tracker.log_metrics(metrics, step=epoch + 1)
        log.info("epoch %d: %s", epoch + 1, json.dumps(metrics))
        if workers.is_chief():
            checkpoints.save(self.model, self.folder, asdict(self.progress))
        trial.report(metrics[self.policy.monitor], epoch + 1)
        logs |= metrics  # for the callbacks that follow
        if self.progress.waited >= self.policy.patience:
            self.model.stop_training = True

    def _keep(self, score: float, epoch: int) -> None:
        """Write the model if it is the one to keep."""
        progress, policy = self.progress, self.policy
        if policy.keeps_last or progress.best is None or is_better(score, progress.best, policy.monitor):
            progress.best, progress.best_epoch, progress.waited = score, epoch + 1, 0
            if workers.is_chief():
                checkpoints.save_best(self.model, self.folder)
        else:
            progress.waited += 1


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Replace a model's weights by their moving average (Polyak and Juditsky 1992) within the block."""
    weights = [variable.numpy() for variable in model.trainable_variables]
    model.optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, weights, strict=True):
            variable.assign(value)
