"""What a setting may be: the base of all schemas, and the ranges that many of them share.

A schema is a pydantic model that stands beside what it describes, in a `settings.py` that does not import TensorFlow.
It is the one place for the type of a key, its range or choices, and its meaning; defaults are in the YAML files of
`conf/`. Validation, `trellis train --explain` and the reference page are derived from it.
"""

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import annotated_types
from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveOrZero = Annotated[float, Field(ge=0)]


class Schema(BaseModel):
    """A section of the configuration: its keys, and for each a type, a range and a meaning."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class OpenSchema(Schema):
    """A section that takes further keys, of whatever its `_target_` takes."""

    model_config = ConfigDict(extra="allow")


def described(meaning: str) -> Any:
    """Return a required field with a meaning, one line that follows "KEY:"."""
    return Field(description=meaning)


def optional(meaning: str) -> Any:
    """Return a field with a meaning for a key that a section may lack."""
    return Field(default=None, description=meaning)


def matching(pattern: str, expected: str, meaning: str) -> Any:
    """Return a required field of text that matches a pattern; `expected` says in words what that is."""
    return Field(pattern=pattern, description=meaning, json_schema_extra={"expected": expected})


def section_of(annotation: Any) -> type[Schema] | None:
    """Return the schema that a field's type is, or has besides null; None if it is a value."""
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, Schema):
            return option
    return None


def key_of(name: str, field: FieldInfo) -> str:
    """Return the key of a field in the configuration."""
    return field.alias or name


def fields_of(schema: type[Schema]) -> dict[str, FieldInfo]:
    """Return the fields of a schema by their keys."""
    return {key_of(name, field): field for name, field in schema.model_fields.items()}


def expectation(field: FieldInfo) -> str:
    """Return what the value of a field must be, in words: `a whole number, at least 1, or null`."""
    if isinstance(field.json_schema_extra, dict) and "expected" in field.json_schema_extra:
        return str(field.json_schema_extra["expected"])
    return _in_words(field.annotation, tuple(field.metadata))


def _in_words(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    if typing.get_origin(annotation) is Annotated:
        inner, *more = typing.get_args(annotation)
        constraints = [c for m in more for c in (m.metadata if isinstance(m, FieldInfo) else [m])]
        return _in_words(inner, (*constraints, *metadata))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(annotation) if option is not type(None)]
        if all(typing.get_origin(option) is Literal for option in options):
            words = _either([choice for option in options for choice in typing.get_args(option)])
        else:
            words = " or ".join(_in_words(option, metadata) for option in options)
        return words if len(options) == len(typing.get_args(annotation)) else f"{words}, or null"
    if typing.get_origin(annotation) is Literal:
        return _either(typing.get_args(annotation))
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin in (list, tuple):
        return f"[{_in_words(arguments[0])}, …]" if arguments else "a list"
    if origin in (dict, Mapping):
        if len(arguments) < 2 or arguments[1] is Any:
            return "keys and values"
        if typing.get_origin(arguments[0]) is Literal:
            return f"{{KEY: {_in_words(arguments[1])}, …}}, KEY one of {_in_words(arguments[0])}"
        return f"{{KEY: {_in_words(arguments[1])}, …}}"
    if isinstance(origin, type) and issubclass(origin, Schema):
        return f"keys: {', '.join(fields_of(origin))}"
    kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    word = kinds.get(origin, "any value")
    if any(isinstance(constraint, annotated_types.MinLen) for constraint in metadata):
        word += " that is not empty"
    return word + _range(metadata)


def _either(choices: Sequence[Any]) -> str:
    """Return `a, b or c`."""
    *others, last = map(str, choices)
    return f"{', '.join(others)} or {last}" if others else last


def _range(metadata: tuple[Any, ...]) -> str:
    """Return `, at least 1`, ` above 0`, `, at least 0 and below 1` of constraints."""
    low = high = ""
    for constraint in metadata:
        if isinstance(constraint, annotated_types.Ge):
            low = f"at least {constraint.ge:g}"
        elif isinstance(constraint, annotated_types.Gt):
            low = f"above {constraint.gt:g}"
        elif isinstance(constraint, annotated_types.Le):
            high = f"at most {constraint.le:g}"
        elif isinstance(constraint, annotated_types.Lt):
            high = f"below {constraint.lt:g}"
    bounds = " and ".join(filter(None, (low, high)))
    if not bounds:
        return ""
    return f" {bounds}" if bounds.startswith("above") else f", {bounds}"


def _options(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)
