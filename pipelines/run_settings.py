"""Schemas of the sections that every run has, whatever its task."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trellis.components.choices import StoredWeights
from trellis.components.settings import (
    Count,
    CountOrZero,
    OpenSchema,
    Positive,
    Rate,
    Schema,
    Share,
    described,
    optional,
)
from trellis.components.urls import is_url


class Transfer(Schema):
    """Transfer from the language models of `init_from`."""

    parts: Literal["both", "embeddings", "encoder"] = described("which weights to copy")
    keep: CountOrZero | None = described(
        "add this number of the language models' most frequent words to the vocabulary; null: all"
    )
    frozen: bool = described("keep copied weights fixed")
    rate: Share = described("learning-rate factor of the top copied layer; squared for the layer below, and so on")
    unfreeze_every: CountOrZero = described(
        "epochs to keep the top copied layer fixed, and as many more for each layer below; 0: train all from the start"
    )


class Limit(Schema):
    """Less data, for a quick try."""

    sentences: Count | None = described("use only this many examples of each part; null: all")
    train: Share | None = described("taggers: use this share of the training sentences, drawn at random; null: all")
    overfit: bool = described("use the training examples as dev and test too")
    leave_out: Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*$")] | None = Field(
        description="taggers: leave this fold out of training, and write how probable its labels are to "
        "reports/left_out.jsonl; 2/5: the second of five; null: none",
        json_schema_extra={"expected": "a fold, such as 2/5, or null"},
    )


class Threads(Schema):
    """Threads of TensorFlow."""

    intra_op: Count | None = described("threads within an operation; null: by the number of cores")
    inter_op: Count | None = described("operations in parallel; null: by the number of cores")


class Profile(Schema):
    """Training steps to profile."""

    from_: Count = Field(alias="from", description="first step, counted from 1")
    to: Count = described("last step")


class Trainer(Schema):
    """How long to train, and which model to keep."""

    epochs: Count | None = described("maximum epochs; null (aligners): the sum of model.iterations")
    patience: Count = described("stop after this many epochs without a better dev score")
    keep: Literal["best", "last"] = described("keep the model with the best dev score, or the last one")
    monitor: Literal[
        "auto",
        "dev/f1",
        "dev/accuracy",
        "dev/macro_f1",
        "dev/loss",
        "dev/perplexity",
        "dev/bleu_tok_lc",
        "dev/bleu_13a",
        "dev/chrf",
    ] = described(
        "score that decides which epoch is best and when to stop; auto: F1 for entities, perplexity for language "
        "models, BLEU for translators, otherwise accuracy"
    )
    clip_norm: Positive | None = described("clip gradients to this global norm; null: no clipping")
    average: Rate | None = described(
        "decay of a moving average of the weights, which is scored and kept; null: no average"
    )
    steps_per_call: Count = described("training steps per call of the graph; always 1 with several workers")
    checkpoint_every: Count | None = described(
        "write a checkpoint after this number of steps too, not only after each epoch; null: after each epoch only"
    )
    tensorboard: bool = described("write TensorBoard logs to the folder tensorboard of the run")
    profile: Profile | None = described("training steps to profile, for TensorBoard; null: none")
    strategy: Literal["none", "multi_worker"] = described(
        "multi_worker: train together with the processes in TF_CONFIG, each on its share of every batch; none: alone"
    )
    connect_timeout: Positive = described("seconds to wait for the other workers at the start")
    threads: Threads = described("threads of TensorFlow")


class Tracking(OpenSchema):
    """Experiment tracking."""

    target: str = Field(alias="_target_", description="class of the tracker")
    uri: str | None = optional("MLflow server or database; null: sqlite:///mlflow.db in the current folder")
    experiment: Annotated[str, Field(min_length=1)] = optional("name of the MLflow experiment")
    register_: str | None = Field(
        alias="register",
        default=None,
        description="registered model to add the export to, as champion if it beats the current champion on dev",
    )


class Export(Schema):
    """The SavedModel for serving."""

    enabled: bool = described("write an export")
    dir: str | None = described("folder of the versions; by default exports/MODEL")
    upload: str | None = described(
        "URL to copy each export to, under the next version number there: s3://bucket/models/NAME; null: none"
    )
    weights: Literal["float32"] | StoredWeights = described(
        "how to store weights; int8: only embeddings, dense layers and softmaxes, with a scale per row or column"
    )
    precision: Share | None = optional(
        "keep entities whose probability reaches the threshold that gives this precision on dev; null: keep all"
    )
    batching: bool = described("let the graph itself batch concurrent requests")
    verify: bool = described("load the export in a clean process and compare its answers before publishing it")

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.enabled and self.dir is None:
            raise ValueError("export.dir=null: name a folder; export=off writes no export")
        if self.upload is not None and not is_url(self.upload):
            raise ValueError(f"export.upload={self.upload}: must be a URL, such as s3://bucket/models/NAME, or null")
        if self.upload is not None and not self.enabled:
            raise ValueError(f"export.upload={self.upload}: export=off writes no export to copy")
        return self
