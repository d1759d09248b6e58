"""Schemas of tasks and of a whole configuration, and validation against them."""

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from trellis.components.errors import InputError
from trellis.components.models.settings import Model
from trellis.components.readers import settings as readers
from trellis.components.settings import (
    CountOrZero,
    Schema,
    described,
    expectation,
    fields_of,
    section_of,
)
from trellis.components.training.settings import Optimizer, Schedule
from trellis.pipelines.configuration import first_line, plain
from trellis.pipelines.run_settings import Export, Limit, Tracking, Trainer, Transfer
from trellis.pipelines.sections import Sections


def check_kind(config: DictConfig, needs: str, accepts: Sequence[str], sample: str) -> None:
    """Raise InputError if the model cannot learn from a dataset of this kind."""
    if config.data.task not in accepts:
        raise InputError(
            f"model={config.model.name} needs {needs}; data={config.data.name} has "
            f"{readers.KINDS.get(config.data.task, config.data.task)} (try data={sample})"
        )


class Pipeline(Schema):
    """The task to run."""

    target: str = Field(alias="_target_", description="a subclass of trellis.pipelines.task.Task")
    schema_: str | None = Field(alias="_schema_", default=None, description="schema of the sections of the task")


class Run(Schema):
    """Keys and sections of every run, except those of `data`, `model` and the task: see `sections`."""

    seed: CountOrZero = described("random seed; the same seed gives the same metrics")
    resume: bool = described("continue the last unfinished run with the same configuration")
    init_from: str | list[str] | None = described(
        "language model to start from: a run folder, an export, or models:/NAME@champion; or [forward, backward]"
    )
    transfer: Transfer = described("transfer from init_from")
    limit: Limit = described("less data, for a quick try")
    trainer: Trainer = described("how long to train, and which model to keep")
    optimizer: Optimizer = described("the optimizer")
    schedule: Schedule = described("learning-rate schedule")
    tracking: Tracking = described("experiment tracking")
    export: Export = described("the SavedModel for serving")
    pipeline: Pipeline = described("the task to run")


@dataclass(frozen=True)
class Key:
    """A key of a configuration, its value and its description.

    Attributes:
        path: such as `model.units`.
        value: the current value.
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


# Keys and sections that have an effect on training by gradients only.
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
        InputError: a value is invalid; the message names the key, the value, and what is valid.
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
    check_section(Run, {key: value for key, value in values.items() if key in fields_of(Run)}, "")
    for key, schema in others.items():
        if schema is not None and key in values:
            check_section(schema, values[key], f"{key}.")
    _check_strategy(config, task, others["model"])
    _check_checkpoints(config, others["model"])


def _check_strategy(config: DictConfig, task: type[Schema] | None, model: type[Schema] | None) -> None:
    """Raise InputError if `trainer.strategy` does not suit the model."""
    strategy = config.trainer.strategy
    task_distributes = task is not None and issubclass(task, Sections) and task.distributes
    model_distributes = model is None or not issubclass(model, Model) or model.distributes
    if strategy != "none" and not (task_distributes and model_distributes):
        raise InputError(f"trainer.strategy={strategy}: model={config.model.name} is trained by one process alone")


def _check_checkpoints(config: DictConfig, model: type[Schema] | None) -> None:
    """Raise InputError if `trainer.checkpoint_every` does not suit the model."""
    trainer = config.trainer
    if trainer.checkpoint_every is None:
        return
    key = f"trainer.checkpoint_every={trainer.checkpoint_every}"
    if model is not None and issubclass(model, Model) and not model.by_gradients:
        raise InputError(f"{key}: model={config.model.name} counts over whole epochs; set it to null")
    if trainer.strategy != "none":
        raise InputError(f"{key}: several workers write checkpoints after whole epochs only; set it to null")


def check_section(schema: type[Schema], values: Any, prefix: str) -> None:
    """Check the values of a section.

    Args:
        schema: the schema of the section.
        values: its keys and values.
        prefix: goes before the keys in messages, such as `model.`.

    Raises:
        InputError: a value is invalid.
    """
    try:
        schema.model_validate(values)
    except ValidationError as error:
        raise InputError(_message(schema, values, prefix, error)) from None


def _message(schema: type[Schema], values: Any, prefix: str, error: ValidationError) -> str:
    """Return one line about the first invalid value."""
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
