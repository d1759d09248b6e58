"""Schemas of everything that is not a model, a dataset or an optimizer; validation of a whole configuration."""

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from trellis.components.choices import Case, Digits, StoredWeights, Tokenizer
from trellis.components.errors import InputError
from trellis.components.models.settings import Model, Order
from trellis.components.readers import settings as readers
from trellis.components.settings import (
    Count,
    CountOrZero,
    OpenSchema,
    Positive,
    PositiveOrZero,
    Rate,
    Schema,
    Share,
    described,
    expectation,
    fields_of,
    optional,
    section_of,
)
from trellis.components.text.settings import CASE, DIGITS, TOKENIZER
from trellis.components.training.settings import Optimizer, Schedule
from trellis.pipelines.configuration import first_line, plain

# Sections of every run


class Transfer(Schema):
    """What is taken over from the language models of `init_from`."""

    parts: Literal["both", "embeddings", "encoder"] = described("which weights are taken over")
    keep: CountOrZero | None = described(
        "their most frequent words that are known beside the training part's; null: all"
    )
    frozen: bool = described("pretrained weights stay as they are")
    rate: Share = described("share of the learning rate for the highest pretrained layer; its square for the next, …")
    unfreeze_every: CountOrZero = described(
        "epochs until the highest pretrained layer learns, as many more for the next"
    )


class Limit(Schema):
    """Less data, for trying."""

    sentences: Count | None = described("first examples of each part; null: all")
    overfit: bool = described("use the training examples for dev and test as well")


class Threads(Schema):
    """Threads of TensorFlow."""

    intra_op: Count | None = described("threads of one operation; null: by the number of cores")
    inter_op: Count | None = described("operations at a time; null: by the number of cores")


class Profile(Schema):
    """Training steps that TensorFlow's profiler watches."""

    from_: Count = Field(alias="from", description="the first step, counted from 1")
    to: Count = described("the last step")


class Trainer(Schema):
    """How long, and which model is kept."""

    epochs: Count | None = described("epochs at most; null (aligners): as many as model.iterations add up to")
    patience: Count = described("epochs without a better dev score before training stops")
    keep: Literal["best", "last"] = described("the model of the epoch with the best dev score, or of the last epoch")
    monitor: Literal["auto", "dev/f1", "dev/accuracy", "dev/macro_f1", "dev/loss", "dev/perplexity"] = described(
        "the score that decides; auto: f1 for entities, perplexity for language models, else accuracy"
    )
    clip_norm: Positive | None = described("global norm that gradients are clipped to; null: not clipped")
    average: Rate | None = described("decay of the moving average of the weights that is scored and kept; null: none")
    steps_per_call: Count = described("training steps in one call of the graph")
    tensorboard: bool = described("write loss and scores for TensorBoard, to the folder tensorboard of the run")
    profile: Profile | None = described("steps that TensorFlow's profiler watches, for TensorBoard; null: none")
    threads: Threads = described("threads of TensorFlow")


class Tracking(OpenSchema):
    """Where runs are recorded."""

    target: str = Field(alias="_target_", description="the tracker")
    uri: str | None = optional("tracking server or database; null: sqlite:///mlflow.db in the current folder")
    experiment: str = optional("name of the experiment")
    register_: str | None = Field(
        alias="register",
        default=None,
        description="name of a registered model that gets the export, as champion if it beats the present one on dev",
    )


class Export(Schema):
    """What is written for servers."""

    enabled: bool = described("write an export")
    dir: str | None = described("folder of the versions")
    weights: Literal["float32"] | StoredWeights = described(
        "how weights are stored; int8: embeddings, dense layers and softmaxes, with a scale a row or column"
    )
    batching: bool = described("the graph itself joins requests that arrive together")
    verify: bool = described("load it in a clean process and compare its answers before it is put in place")


# Sections of a task


class Sections(Schema):
    """The sections of a task, and what its models learn from.

    Attributes:
        needs, accepts, sample: as in `trellis.pipelines.task.Task`.
    """

    needs: ClassVar[str]
    accepts: ClassVar[tuple[str, ...]]
    sample: ClassVar[str]


def check_kind(config: DictConfig, needs: str, accepts: Sequence[str], sample: str) -> None:
    """Raise InputError where the dataset is of another kind than the model learns from."""
    if config.data.task not in accepts:
        raise InputError(
            f"model={config.model.name} needs {needs}; data={config.data.name} has "
            f"{readers.KINDS.get(config.data.task, config.data.task)} (try data={sample})"
        )


class Batching(Schema):
    """What batches of several tasks have."""

    max_shapes: Count = described("distinct shapes of training batches, at most")
    evaluation_tokens: Count = described("cells (sentences × time steps) of a batch in evaluation")


class TaggingText(Schema):
    """How tokens are read."""

    case: Case = described(CASE)
    digits: Digits = described(DIGITS)
    min_count: Count = described("words that occur less often are read as the unknown word")
    max_characters: Count = described("characters of a word that are read: the first and the last half of longer ones")
    tokenizer: Tokenizer = described(TOKENIZER)


class TaggingBatching(Batching):
    """Batches of sentences."""

    tokens: Count = described("cells (sentences × time steps) of a training batch")
    sentences: Count | None = described("sentences of every training batch, instead of tokens; null: by tokens")


class TaggingSections(Sections):
    """Sections of taggers."""

    needs = "tagged sentences"
    accepts = ("ner", "pos")
    sample = "sample_ner"

    text: TaggingText = described("how tokens are read")
    batching: TaggingBatching = described("batches")


class ClassificationText(Schema):
    """How texts are read."""

    case: Case | None = described(f"{CASE}; null: what the data say")
    digits: Digits = described(DIGITS)
    min_count: Count = described("words that occur less often are read as the unknown word")
    tokenizer: Tokenizer | None = described(f"{TOKENIZER}; null: what the data say")


class ClassificationBatching(Batching):
    """Batches of texts."""

    sentences: Count = described("texts of a training batch")


class ClassificationSections(Sections):
    """Sections of classifiers."""

    needs = "labelled texts"
    accepts = ("classes",)
    sample = "sample_sentiment"

    text: ClassificationText = described("how texts are read")
    batching: ClassificationBatching = described("batches")


class AlignmentText(Schema):
    """How words are read."""

    case: Case = described(CASE)
    max_words: int | None = Field(
        ge=2, description="most frequent words of each side; all others are one unknown word; null: all words"
    )


class AlignmentBatching(Schema):
    """Batches of sentence pairs."""

    cells: Count | None = described(
        "source words × target words of a batch; null: 80640 with an HMM or stepwise, else 1774080"
    )
    folder: str | None = described("a folder for batches, where the corpus is larger than memory; null: in memory")


class AlignmentReport(Schema):
    """What aligners report."""

    lexicon_cutoff: Rate = described("translations that are less probable are not in the lexicon")
    posteriors: bool = described("also write posteriors.npz, the probability of every link")


class AlignmentSections(Sections):
    """Sections of aligners."""

    needs = "sentence pairs"
    accepts = ("alignment",)
    sample = "sample_bitext"

    text: AlignmentText = described("how words are read")
    batching: AlignmentBatching = described("batches")
    report: AlignmentReport = described("reports")


class LanguageText(Schema):
    """How tokens are read."""

    case: Case = described(CASE)
    digits: Digits = described(DIGITS)
    min_count: Count | None = described(
        "words that occur less often are unknown; null: 2, and 1 for characters and for texts that hold <unk>"
    )


class LanguageBatching(Batching):
    """Segments or lines."""

    carry: bool | None = described(
        "segments of running text with carried states, or each line on its own; null: by the data"
    )
    rows: Count = described("texts read side by side, where states are carried")
    length: Count = described("tokens of a segment: as far as gradients reach back")
    tokens: Count = described("cells of a training batch of lines")
    evaluation_rows: Count = described("texts read side by side in evaluation")
    evaluation_length: Count = described("tokens of a segment in evaluation")


class Generation(Schema):
    """The export's default signature, and the samples in the reports."""

    count: Count = described("tokens to generate at most")
    temperature: PositiveOrZero = described("0: always the most probable token")
    top_k: CountOrZero = described("draw from so many most probable tokens; 0: all")
    top_p: Share = described("draw from the most probable tokens that reach this together")
    repetition: PositiveOrZero = described("nats that a token loses for having been generated before")
    unknown: bool = described("whether the unknown word may be generated")


class LanguageReport(Schema):
    """What language models report."""

    mixture: Order | None = described("order of the n-gram model that perplexities are also reported with; null: none")


class Diagnostics(Schema):
    """Measurements for teaching."""

    gradient_flow: bool = described("measure the gradient that reaches each time step, before and after training")


class LanguageModelingSections(Sections):
    """Sections of language models."""

    needs = "running text"
    accepts = ("language",)
    sample = "sample_text"

    text: LanguageText = described("how tokens are read")
    batching: LanguageBatching = described("batches")
    generation: Generation = described("how texts are generated")
    report: LanguageReport = described("reports")
    diagnostics: Diagnostics = described("measurements")


class Pipeline(Schema):
    """Which task runs."""

    target: str = Field(alias="_target_", description="the task: a subclass of trellis.pipelines.task.Task")
    schema_: str | None = Field(
        alias="_schema_", default=None, description="where the sections of the task are described"
    )


class Run(Schema):
    """Keys and sections of every run; those of `data`, `model` and the task are added by `schema_of`."""

    seed: CountOrZero = described("a fixed seed gives the same metrics twice")
    resume: bool = described("go on where the last unfinished run of the same configuration was stopped")
    init_from: str | list[str] | None = described(
        "language models to start from: a run's folder, an export, models:/NAME@champion; or [forwards, backwards]"
    )
    transfer: Transfer = described("what is taken over from init_from")
    limit: Limit = described("less data, for trying")
    trainer: Trainer = described("how long to train, and which model is kept")
    optimizer: Optimizer = described("the optimizer")
    schedule: Schedule = described("how the learning rate changes")
    tracking: Tracking = described("where runs are recorded")
    export: Export = described("what is written for servers")
    pipeline: Pipeline = described("which task runs")


@dataclass(frozen=True)
class Key:
    """A key of a configuration, with what is known of it.

    Attributes:
        path: `model.units`.
        value: as it is set now.
        expected: what it may be, in words; None where no schema describes it.
        meaning: one line; None where no schema describes it.
    """

    path: str
    value: Any
    expected: str | None
    meaning: str | None


def schema_of(name: str) -> type[Schema]:
    """Return the schema that a `_schema_` names.

    Raises:
        InputError: there is no such schema.
    """
    module, _, attribute = name.rpartition(".")
    try:
        schema = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        raise InputError(f"_schema_={name}: no such schema") from None
    if not (isinstance(schema, type) and issubclass(schema, Schema)):
        raise InputError(f"_schema_={name}: is not a trellis.components.settings.Schema")
    return schema


def sections(config: DictConfig) -> dict[str, type[Schema] | None]:
    """Return the schema of each section that is not one of `Run`; None for a section without one."""
    found: dict[str, type[Schema] | None] = {"data": readers.SCHEMAS.get(OmegaConf.select(config, "data.task"))}
    named = OmegaConf.select(config, "model._schema_")
    found["model"] = schema_of(named) if named else None
    named = OmegaConf.select(config, "pipeline._schema_")
    for key, field in (fields_of(schema_of(named)) if named else {}).items():
        found[key] = section_of(field.annotation)
    return found


# What concerns training by gradients only.
OF_GRADIENTS = (
    "optimizer",
    "schedule",
    "init_from",
    "transfer",
    "trainer.clip_norm",
    "trainer.average",
    "trainer.steps_per_call",
)


def unused_keys(config: DictConfig) -> tuple[str, ...]:
    """Return the keys and sections that have no effect on the model of a configuration."""
    named = OmegaConf.select(config, "model._schema_")
    schema = schema_of(named) if named else None
    return OF_GRADIENTS if schema and issubclass(schema, Model) and not schema.by_gradients else ()


def validate(config: DictConfig) -> None:
    """Check every value of a configuration.

    Raises:
        InputError: a value cannot be; names the key, the value, and what it may be.
    """
    try:
        OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key or str(error)
        raise InputError(f"{key}: not given; set it on the command line: {key}=…") from None
    except OmegaConfBaseException as error:
        raise InputError(first_line(error)) from None
    values = plain(config)
    others = sections(config)
    named = OmegaConf.select(config, "pipeline._schema_")
    task = schema_of(named) if named else None
    if task and issubclass(task, Sections):
        check_kind(config, task.needs, task.accepts, task.sample)
    _check(Run, {key: value for key, value in values.items() if key in fields_of(Run)}, "")
    for key, schema in others.items():
        if schema is not None and key in values:
            _check(schema, values[key], f"{key}.")


def _check(schema: type[Schema], values: Any, prefix: str) -> None:
    try:
        schema.model_validate(values)
    except ValidationError as error:
        raise InputError(_message(schema, values, prefix, error)) from None


def _message(schema: type[Schema], values: Any, prefix: str, error: ValidationError) -> str:
    """Return one line on the first value that cannot be."""
    first = error.errors()[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    path, field, value = _field_at(schema, values, first["loc"])
    key = prefix + ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"{key}: no such key"
    if first["type"] == "missing":
        return f"{key}: not given"
    section = section_of(field.annotation) if field else None
    if section is not None and not isinstance(value, dict):
        keys = list(fields_of(section))
        return f"{key}={shown(value)}: is a section of {', '.join(keys)}; write {key}.{keys[0]}={shown(value)}"
    several = " (several values: KEY=1,2,3 or KEY=range(1,4))" if re.fullmatch(r"\d+\.\.\d+", str(value)) else ""
    return f"{key}={shown(value)}: must be {expectation(field) if field else 'another value'}{several}"


def _field_at(schema: type[Schema], values: Any, location: tuple[Any, ...]) -> tuple[list[str], FieldInfo | None, Any]:
    """Follow a location down to the last key that a schema describes; return its path, field and value."""
    path: list[str] = []
    field: FieldInfo | None = None
    level: type[Schema] | None = schema
    for step in location:
        if level is None:
            break
        known = fields_of(level)
        path.append(str(step))
        values = values.get(step) if isinstance(values, dict) else None
        field = known.get(str(step))
        level = section_of(field.annotation) if field else None
    return path, field, values


def shown(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value)


def explain(config: DictConfig) -> Iterator[Key]:
    """Yield every key of a configuration with its value, what it may be and what it means."""
    others = sections(config)
    for key, value in plain(config, resolve=False).items():
        if key in fields_of(Run):
            yield from _explained(key, value, fields_of(Run)[key])
        elif others.get(key) is not None:
            yield from _explained_section(f"{key}.", value, others[key])
        else:
            yield from _unknown(key, value)


def _explained(path: str, value: Any, field: FieldInfo) -> Iterator[Key]:
    schema = section_of(field.annotation)
    if schema is not None and isinstance(value, dict):
        yield from _explained_section(f"{path}.", value, schema)
    else:
        yield Key(path, value, expectation(field), field.description)


def _explained_section(prefix: str, values: Any, schema: type[Schema] | None) -> Iterator[Key]:
    known = fields_of(schema) if schema else {}
    for key, value in values.items():
        if key in known:
            yield from _explained(f"{prefix}{key}", value, known[key])
        else:
            yield from _unknown(f"{prefix}{key}", value)


def _unknown(path: str, value: Any) -> Iterator[Key]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _unknown(f"{path}.{key}", each)
    else:
        yield Key(path, value, None, None)
