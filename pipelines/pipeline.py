"""The flow of every pipeline: read → vectorise → batch → build → fit → evaluate → export."""

import contextlib
import errno
import json
import logging
import os
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import hydra
import keras
import tensorflow as tf
from omegaconf import OmegaConf

from trellis.components import transfer
from trellis.components.errors import InputError
from trellis.components.files import atomic_write
from trellis.components.layers.stored_weights import compressed
from trellis.components.saved_model import package, verification
from trellis.components.saved_model.versions import check_writable, write_version
from trellis.components.training import checkpoints
from trellis.components.training.progress import ProgressBar
from trellis.components.training.rates import PretrainedRates
from trellis.pipelines import summary
from trellis.pipelines.tracking import commit, fetched, is_better, tracked

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

    metrics: dict[str, float]
    folder: Path
    export: Path | None
    model: keras.Model | None

    @property
    def score(self) -> float:
        """The score of the best checkpoint on dev, for sweepers that optimize; without one the training loss."""
        return self.metrics.get("dev/best", self.metrics["train/loss"])


def run(config, folder):
    """Runs the pipeline that a configuration describes.

    Args:
        config: the composed configuration.
        folder: of this run; receives `checkpoints/` and `metrics.json`.

    Returns:
        a `Result`.

    Raises:
        InputError: something that the user gave is wrong.
    """
    if config.resume and (folder / "metrics.json").exists():
        metrics = json.loads((folder / "metrics.json").read_text())
        print(f"{folder} is finished already", flush=True)
        return Result(metrics, folder, None, None)
    target = hydra.utils.get_class(config.pipeline._target_)
    _prepare(config, getattr(target, "wide", False))
    if config.export.enabled:
        check_writable(config.export.dir)

    with tracked(config, folder) as tracker, _disk_errors(folder):
        task = target(config)
        task.read()
        log.info("%s", task.described())
        tracker.log_data(task)
        pretrained = _pretrained(config, task)
        if pretrained:
            task.vectorize(keep=transfer.most_frequent(pretrained, config.transfer.keep))
        else:
            task.vectorize()
        task.batch()
        if hasattr(task, "vectorizer"):
            _write_json(folder / transfer.VOCABULARY, task.vectorizer.words)
        model = task.build()
        _compressed(model, config)  # or it would be said after an hour of training that it cannot be
        rates = _start_from(pretrained, config, model, task) if pretrained else []
        _compile(model, task, config)

        metrics = _fit(model, task, config, folder, tracker, rates)
        model = checkpoints.load_best(folder / "checkpoints")
        weights = _compressed(model, config)
        if weights:
            with weights.in_place():
                found = task.evaluate(model)
            metrics |= {f"export/{name}": value for name, value in found.items() if name.count("/") == 1}
        metrics |= task.evaluate(model)
        # One step past the epochs, so that what a table of runs shows is the best model.
        tracker.log_metrics(metrics, step=metrics["train/epochs"] + 1)
        tracker.log_reports(task.reports(folder / "reports"))

        exported = None
        if config.export.enabled:
            exported = write_version(
                config.export.dir, lambda path: _package(path, model, task, config, metrics, weights)
            )
            try:
                tracker.log_model(exported, task, metrics)
            except BaseException:
                shutil.rmtree(exported)  # A run that failed leaves no export.
                raise
            package.put_beside(exported)
        _write_json(folder / "metrics.json", metrics)
    summary.show(config, metrics, folder, tracker, exported, task, weights)
    return Result(metrics, folder, exported, model)


def _compressed(model, config):
    """The weights as the export is to store them; None: as they are."""
    return None if config.export.weights == "float32" else compressed(model, config.export.weights)


def _package(path, model, task, config, metrics, weights):
    """Writes an export to a folder, and asks it in a process of its own whether it is well."""
    facts = {
        "data": task.described(),
        "licence": config.data.licence,
        "language": config.data.language,
        "commit": commit(),
        "created": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        **task.facts,
        "metrics": metrics,
        "config": OmegaConf.to_container(config, resolve=True),
    }
    package.write(path, task.module(model), config.model.name, task.texts, facts, weights, config.export.batching)
    if config.export.verify:
        verification.verify(path)


@contextlib.contextmanager
def _disk_errors(folder):
    """A full disk or a folder without permission is the user's to mend: one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise InputError(f"{error.filename or folder}: cannot be written ({os.strerror(error.errno)})") from None


def _prepare(config, wide):
    if config.trainer.keep not in ("best", "last"):
        raise InputError(f"trainer.keep={config.trainer.keep}: must be best or last")
    threads = config.trainer.threads
    cores = os.cpu_count() or 2
    try:
        # The matrices of one time step are small: two operations at a time beat two threads in one.
        narrow = max(1, cores // 2)
        tf.config.threading.set_intra_op_parallelism_threads(threads.intra_op or (cores if wide else narrow))
        tf.config.threading.set_inter_op_parallelism_threads(threads.inter_op or max(2, cores))
    except RuntimeError:
        log.info("TensorFlow is running already: trainer.threads has no effect")
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.model.precision)


def _pretrained(config, task):
    """The language models that `init_from` names."""
    if config.init_from is None:
        return []
    if not getattr(task, "embeds_words", False):
        raise InputError(f"init_from: model={config.model.name} has no word vectors to set; neural models have")
    sources = [config.init_from] if isinstance(config.init_from, str) else list(config.init_from)
    return [transfer.read(fetched(source, config)) for source in sources]


def _start_from(pretrained, config, model, task):
    """Puts the weights of language models into the model; returns callbacks."""
    settings = config.transfer
    groups, (matched, new) = transfer.apply(
        pretrained,
        model,
        task.vectorizer.words,
        embeddings=settings.parts != "encoder",
        encoder=settings.parts != "embeddings",
    )
    log.warning("init_from: %d words have pretrained vectors, %d are new", matched, new)
    return [PretrainedRates(groups, settings.frozen, settings.rate, settings.unfreeze_every)]


def _compile(model, task, config):
    rate = hydra.utils.instantiate(
        config.schedule,
        config.optimizer.learning_rate,
        steps_per_epoch=task.steps,
        epochs=config.trainer.epochs,
    )
    settings = dict(OmegaConf.to_container(config.optimizer, resolve=True))
    target = settings.pop("_target_")
    average = config.trainer.average
    if average is not None:
        settings |= {"use_ema": True, "ema_momentum": average}
    loss, target = task.loss, hydra.utils.get_class(target)
    if getattr(target, "full_batch", False):
        if not hasattr(task, "whole_loss") or "dropout" in config.model or config.model.get("l1"):
            raise InputError(
                f"optimizer={target.__name__.lower()}: for feature_crf and memm without model.l1; the loss of "
                f"model={config.model.name} as it is here is no smooth function of the weights alone"
            )
        loss, settings["steps"] = task.whole_loss, task.steps
    try:
        optimizer = target(**settings | {"learning_rate": rate, "global_clipnorm": config.trainer.clip_norm})
    except (TypeError, ValueError, ImportError) as error:
        raise InputError(f"optimizer: {str(error).splitlines()[0]}") from None
    steps = min(config.trainer.steps_per_call, task.steps)
    model.compile(optimizer, loss=loss, steps_per_execution=steps, jit_compile=False)
    # A first step that has these variables to make is traced twice.
    optimizer.build(model.trainable_variables)


def _fit(model, task, config, folder, tracker, callbacks):
    """Trains up to the last epoch or until patience runs out; leaves `checkpoints/best.keras`."""
    state = checkpoints.restore(model, folder / "checkpoints") if config.resume else None
    watch = _Epochs(model, task, config, folder / "checkpoints", tracker, state)
    bar = ProgressBar(config.trainer.epochs, task.steps, watch, watch.first_epoch)
    try:
        if not watch.finished:
            model.fit(
                task.training(lambda: watch.epoch),
                initial_epoch=watch.first_epoch,
                epochs=config.trainer.epochs,
                callbacks=[watch, bar, *callbacks],
                verbose=0,
                shuffle=False,
            )
    finally:
        bar.stop()
    return watch.metrics()


class _Epochs(keras.callbacks.Callback):
    """After each epoch: score on dev, log, keep the best model, write a checkpoint, and stop when it is enough."""

    def __init__(self, model, task, config, folder, tracker, state):
        super().__init__()
        self.task, self.config, self.folder, self.tracker = task, config, folder, tracker
        self.monitor = task.monitor
        self.label = self.monitor.replace("/", " ").replace("f1", "F1").replace("aer", "AER")
        self.keeps_last = config.trainer.keep == "last" or getattr(task, "keeps_last", False)
        state = state or {"epochs": [], "best": None, "best_epoch": None, "waited": 0}
        self.history, self.best = state["epochs"], state["best"]
        self.best_epoch, self.waited = state["best_epoch"], state["waited"]
        self.first_epoch = self.epoch = len(self.history)
        self.score = self.history[-1][self.monitor] if self.history else None
        self.tokens_per_second = self.history[-1]["train/tokens_per_second"] if self.history else None
        self.finished = self.waited >= config.trainer.patience or self.first_epoch >= config.trainer.epochs
        self.score_dev = task.dev_scorer(model)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        done = (batch + 1) / self.task.steps
        self.tokens_per_second = done * self.task.training_tokens / (time.perf_counter() - self.began)

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.began
        loss = float(logs["loss"])
        if not abs(loss) < float("inf"):
            raise InputError(
                f"the loss is {loss} in epoch {epoch + 1}; lower optimizer.learning_rate or trainer.clip_norm"
            )
        self.tokens_per_second = self.task.training_tokens / seconds
        metrics = {
            "train/loss": loss,
            "train/tokens_per_second": self.tokens_per_second,
            "train/step_ms": 1000 * seconds / self.task.steps,
            "train/learning_rate": float(self.model.optimizer.learning_rate),
            **{f"train/{name}": float(value) for name, value in logs.items() if name != "loss"},
        }
        with self._averaged_weights():
            metrics |= self.score_dev()
            self.score = metrics[self.monitor]
            if self.keeps_last or self.best is None or is_better(self.score, self.best, self.monitor):
                self.best, self.best_epoch, self.waited = self.score, epoch + 1, 0
                checkpoints.save_best(self.model, self.folder)
            else:
                self.waited += 1
        self.history.append(metrics)
        self.tracker.log_metrics(metrics, step=epoch + 1)
        log.info("epoch %d: %s", epoch + 1, json.dumps(metrics))
        state = {"epochs": self.history, "best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}
        checkpoints.save(self.model, self.folder, state)
        if self.waited >= self.config.trainer.patience:
            self.model.stop_training = True

    def _averaged_weights(self):
        return _Averaged(self.model) if self.config.trainer.average is not None else _AsTheyAre()

    def metrics(self):
        """Of the whole run: the first epoch compiles, so speeds are the medians of the others where there are any."""
        timed = self.history[1:] or self.history
        kept = {"dev/best": self.best} if self.monitor.startswith("dev/") else {}
        if kept and not self.keeps_last:
            kept["dev/best_epoch"] = self.best_epoch
        return {
            "train/loss": self.history[-1]["train/loss"],
            "train/tokens_per_second": statistics.median(each["train/tokens_per_second"] for each in timed),
            "train/step_ms": statistics.median(each["train/step_ms"] for each in timed),
            "train/epochs": len(self.history),
            **kept,
        }


class _AsTheyAre:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


class _Averaged:
    """Within it the model has the optimizer's moving average of its weights (Polyak and Juditsky 1992)."""

    def __init__(self, model):
        self.model = model

    def __enter__(self):
        self.weights = [variable.numpy() for variable in self.model.trainable_variables]
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def __exit__(self, *_):
        for variable, value in zip(self.model.trainable_variables, self.weights, strict=True):
            variable.assign(value)


def _write_json(path, values):
    with atomic_write(path) as part:
        part.write_text(json.dumps(values, indent=2) + "\n")
