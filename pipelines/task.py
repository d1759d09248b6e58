"""The contract between the pipeline and its tasks: what a new kind of task has to implement.

`pipeline.run` calls the methods of a `Task` in this order; each returns what the next ones take:

    data      = task.read()                         files → examples, a `Data`
    encoded   = task.encode(data, keep)             examples → ids and vocabularies, an `Encoded`
    batches   = task.batch(encoded)                 how the training part is fed, a `Batches`
    model     = task.build(encoded, batches)        a `keras.Model` that is not compiled
    evaluator = task.evaluator(model, encoded)      scores dev after each epoch, and all held-out parts at the end
    outcome   = evaluator.held_out()                those scores and what was scored, an `Outcome`
    task.report(folder, model, encoded, outcome)    tables and pictures for people
    package   = task.final_package(…, outcome)      what is exported, a `Package`; by default that of `task.package`

A task keeps nothing between them but its configuration: it is complete when it is constructed.
"""

import abc
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import keras
import numpy as np
import tensorflow as tf
from omegaconf import DictConfig

from trellis.components.errors import InputError
from trellis.components.metrics.segments import ScoredSegments
from trellis.components.readers import dataset
from trellis.components.readers.sentence_files import selected
from trellis.components.readers.sources import Source
from trellis.components.saved_model.export_module import ExportModule
from trellis.pipelines.configuration import plain
from trellis.pipelines.run_names import run_name, typed_overrides
from trellis.pipelines.settings import check_kind

Metrics = dict[str, float]
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Data:
    """The data of a task as they were read.

    Attributes:
        files: the file or files of each part, `{"train": Path, …}`.
        description: one line, for the log, MLflow and the model card.
    """

    files: Mapping[str, Source]
    description: str

    @property
    def digest(self) -> str:
        """Hash of the files."""
        return dataset.digest(self.files)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Data as ids and tensors.

    Attributes:
        words: the vocabulary of the word embeddings, in the order of ids; None where a model has none. It is stored
            with the checkpoints, for models that start from this one.
    """

    words: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Batches:
    """How the training part is fed.

    Attributes:
        steps: batches of an epoch.
        tokens: tokens of an epoch, for the speed that is shown.
        epoch_dataset: makes the dataset that `fit` iterates once per epoch. It takes a function that returns the index
            of the current epoch, so that a resumed run sees the batches that the interrupted run would have seen.
    """

    steps: int
    tokens: int
    epoch_dataset: Callable[[Callable[[], int]], tf.data.Dataset]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The scores of the best model.

    Attributes:
        metrics: `{"dev/f1": …, "test/f1": …}`; a name with two slashes, `test/f1/PER`, is a detail.
        segments: the statistics of the segments of test, or of dev without one, for `trellis compare`; None if the
            score of the task cannot be computed from such statistics.
    """

    metrics: Metrics
    segments: ScoredSegments | None = None


OutcomeT = TypeVar("OutcomeT", bound=Outcome)


def held_out_part(parts: Container[str]) -> str:
    """Return the part that a model is judged by: test, or dev without it."""
    return "test" if "test" in parts else "dev"


@dataclass(frozen=True, kw_only=True)
class Package:
    """What is exported.

    Attributes:
        module: the model with its signatures.
        texts: inputs of several lengths, as `module.examples` takes them: warm-up requests and golden answers.
        facts: about the model, for its metadata: labels, sizes of vocabularies.
        command: the subcommand of `trellis` that queries such an export.
        example: an example argument for this command.
        request: a row that MLflow's model takes.
        response: columns of its answer, `{name: "string" | "number" | "strings" | "numbers"}`.
    """

    module: ExportModule
    texts: Sequence[Any]
    facts: Mapping[str, Any]
    command: str = "predict"
    example: str
    request: Mapping[str, str]
    response: Mapping[str, str]


@dataclass(frozen=True)
class Loss:
    """A loss for `compile`.

    Attributes:
        of_batch: the loss of a batch; None where the model has its own training step.
        of_epoch: a loss whose mean over the batches of an epoch is the mean over its examples, for optimizers that use
            the whole epoch at once; None if the loss is not smooth in the weights.
    """

    of_batch: keras.losses.Loss | None = None
    of_epoch: keras.losses.Loss | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluator(Generic[OutcomeT]):
    """Scores a model with its current weights, through functions that are compiled once.

    Attributes:
        dev: scores on dev; called after each epoch.
        held_out: scores on dev and test, with the details that reports show; called at the end.
    """

    dev: Callable[[], Metrics]
    held_out: Callable[[], OutcomeT]


DataT = TypeVar("DataT", bound=Data)
EncodedT = TypeVar("EncodedT", bound=Encoded)


class Task(abc.ABC, Generic[DataT, EncodedT, OutcomeT]):
    """One kind of task under one configuration.

    Args:
        config: the whole composed configuration.

    Attributes:
        needs: what a model of this task learns from, for messages: "tagged sentences".
        accepts: the values of `data.task` whose datasets have that.
        sample: a sample dataset that has that.
        monitors: what `trainer.monitor` may be; `auto` is the first one.
        headline: the scores that the summary of a run shows, without their part; all of them if it is empty.
        embeds_words: whether its models have word vectors, which `init_from` can set.
        wide: whether most of the work is large matrix products, for which all cores take one operation together.
        grows: whether its training part can be a part of the whole, see `limit.train` and `limit.leave_out`.
        keeps_last: whether the result is the model of the last epoch, whatever its score on dev.
        has_precision_dial: whether an export can drop answers below a probability, see `export.precision`.

    Raises:
        InputError: the data are of another kind, or `trainer.monitor` names a score that this task does not have.
    """

    needs: ClassVar[str]
    accepts: ClassVar[tuple[str, ...]]
    sample: ClassVar[str]
    monitors: ClassVar[tuple[str, ...]]
    headline: ClassVar[tuple[str, ...]] = ()
    embeds_words: ClassVar[bool] = False
    wide: ClassVar[bool] = False
    grows: ClassVar[bool] = False
    keeps_last: ClassVar[bool] = False
    has_precision_dial: ClassVar[bool] = False

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        check_kind(config, self.needs, self.accepts, self.sample)
        asked = config.trainer.monitor
        if asked != "auto" and asked not in self.monitors:
            raise InputError(f"trainer.monitor={asked}: model={config.model.name} has {', '.join(self.monitors)}")
        share = config.limit.get("train")
        if share is not None and not self.grows:
            raise InputError(f"limit.train={share:g}: has no effect on model={config.model.name}; use limit.sentences")
        fold = config.limit.get("leave_out")
        if fold is not None and not self.grows:
            raise InputError(f"limit.leave_out={fold}: has no effect on model={config.model.name}; it is for taggers")
        precision = config.export.get("precision")
        if precision is not None and not self.has_precision_dial:
            raise InputError(
                f"export.precision={precision:g}: model={config.model.name} finds no entities; only taggers do"
            )

    @property
    def epochs(self) -> int:
        """The number of epochs to train for."""
        return int(self.config.trainer.epochs)

    def monitor(self, encoded: EncodedT) -> str:
        """Return the score that chooses the best epoch."""
        del encoded
        asked = self.config.trainer.monitor
        return self.monitors[0] if asked == "auto" else str(asked)

    @abc.abstractmethod
    def read(self) -> DataT:
        """Read every part of the data.

        Raises:
            InputError: a file is missing or broken; names the file and line.
        """

    @abc.abstractmethod
    def encode(self, data: DataT, keep: Sequence[str] = ()) -> EncodedT:
        """Adapt the vocabularies on the training part and turn every part into tensors.

        Args:
            keep: words to know besides those of the training part.
        """

    @abc.abstractmethod
    def batch(self, encoded: EncodedT) -> Batches:
        """Group the training part into batches."""

    @abc.abstractmethod
    def build(self, encoded: EncodedT, batches: Batches) -> keras.Model:
        """Build the model, not compiled."""

    def loss(self, encoded: EncodedT, batches: Batches) -> Loss:
        """Return the loss to compile the model with; by default its own training step computes it."""
        del encoded, batches
        return Loss()

    @abc.abstractmethod
    def evaluator(self, model: keras.Model, encoded: EncodedT) -> Evaluator[OutcomeT]:
        """Return what scores a model."""

    def diagnose(self, model: keras.Model, encoded: EncodedT) -> Mapping[str, Any] | None:
        """Measure something before training and again after it, for the reports; by default nothing."""
        del model, encoded
        return None

    @abc.abstractmethod
    def report(
        self,
        folder: Path,
        model: keras.Model,
        encoded: EncodedT,
        outcome: OutcomeT,
        diagnosis: Mapping[str, Any] | None = None,
    ) -> None:
        """Write tables and pictures to a folder.

        Args:
            diagnosis: `{"before": …, "after": …}` of `diagnose`, where it measures something.
        """

    @abc.abstractmethod
    def package(self, model: keras.Model, encoded: EncodedT) -> Package:
        """Return what is exported."""

    def final_package(self, model: keras.Model, encoded: EncodedT, outcome: OutcomeT) -> Package:
        """Return what is exported, now that the scores are known; by default what `package` returns."""
        del outcome
        return self.package(model, encoded)

    # What several tasks have in common

    def plain(self, section: str) -> dict[str, Any]:
        """Return a section of the configuration as plain data, resolved."""
        return plain(self.config[section])

    def run_name(self, reports: Path) -> str:
        """Return the name of the run whose reports are in a folder."""
        return run_name(self.config, typed_overrides(reports.parent))

    def model_options(self, *others: str) -> dict[str, Any]:
        """Return the section `model` without the keys that the function that builds it does not take.

        Args:
            others: further keys to leave out.
        """
        return {
            key: value for key, value in self.plain("model").items() if key not in ("precision", "_schema_", *others)
        }

    def require_parts(self, parts: Mapping[str, Sequence[Any]]) -> None:
        """Raise InputError where there is nothing to train on, or nothing to choose the best epoch by."""
        for part in ("train", "dev"):
            if not parts.get(part):
                raise InputError(f"data={self.config.data.name}: no examples in its {part} part; one is needed")

    def limited(
        self,
        parts: Mapping[str, Sequence[Item]],
        first: Callable[[Sequence[Item], int], Sequence[Item]] | None = None,
    ) -> dict[str, Sequence[Item]]:
        """Return the parts as `limit` has them: the first examples, a share of train drawn at random, and with
        `overfit` the examples of train everywhere.

        Args:
            first: takes a number of examples from a part; by default the first ones.

        Raises:
            InputError: there is no train or no dev part.
        """
        self.require_parts(parts)
        limit = self.config.limit.sentences
        if limit is not None:
            parts = {part: (first or (lambda items, n: items[:n]))(items, limit) for part, items in parts.items()}
        share = self.config.limit.get("train")
        if share is not None:
            # Of larger shares, smaller ones are a part.
            order = np.random.default_rng(self.config.seed).permutation(len(parts["train"]))
            rows = sorted(order[: max(1, round(share * len(order)))])
            parts = {**parts, "train": selected(parts["train"], rows)}
        if self.config.limit.overfit:
            parts = dict.fromkeys(parts, parts["train"])
        return dict(parts)
