"""The page of all settings, `docs/reference/settings.md`, from the schemas and the configuration tree.

python -m trellis.pipelines.reference > docs/reference/settings.md
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from omegaconf import OmegaConf

from trellis.components.readers.settings import KINDS, SCHEMAS
from trellis.components.settings import Schema, expectation, fields_of, section_of
from trellis.pipelines import settings
from trellis.pipelines.configuration import Tree, flatten

HEAD = """\
# Settings

Every key of every configuration: what it may be, and what it means. `trellis train … --explain KEY` shows the same for
one key, with its present value. (This page is written by `python -m trellis.pipelines.reference`.)

A run has the keys of [every run](#every-run), those of its [task](#tasks), of its [model](#models) and of its
[dataset](#datasets). On the command line, `group=choice` takes a file of `conf/GROUP/`, and `key=value` sets a key.
"""


def page(tree: Tree) -> str:
    """Return the page."""
    return "\n".join([HEAD, *_every_run(tree), *_tasks(tree), *_models(tree), *_datasets(tree)]) + "\n"


def _every_run(tree: Tree) -> Iterator[str]:
    yield "## Every run\n"
    yield from _table(settings.Run, defaults=flatten(tree.compose()), leave_out=("pipeline",))


def _tasks(tree: Tree) -> Iterator[str]:
    yield "## Tasks\n"
    configs = [tree.compose([f"model={model}"]) for model in tree.files("model")]
    for name, path in tree.files("pipeline").items():
        target = OmegaConf.load(path).pipeline._target_
        config = next(config for config in configs if config.pipeline._target_ == target)
        yield f"### `pipeline={name}`\n"
        yield from _table(settings.schema_of(config.pipeline._schema_), defaults=flatten(config))


def _models(tree: Tree) -> Iterator[str]:
    yield "## Models\n"
    by_schema: dict[str, dict[str, Mapping[str, object]]] = defaultdict(dict)
    for name in tree.files("model"):
        config = tree.compose([f"model={name}"])
        by_schema[config.model._schema_][name] = flatten(config)
    for schema_name, models in by_schema.items():
        schema = settings.schema_of(schema_name)
        # Other models of a kind start from the file that names the schema.
        first = max(name for name in models if "_schema_:" in tree.files("model")[name].read_text())
        others = [name for name in models if name != first]
        named = _listed(f"`model={name}`" for name in others)
        yield f"### {_summary(schema)}\n"
        yield f"`model={first}`{f', and with other defaults {named}' if others else ''}.\n"
        yield from _table(schema, prefix="model.", defaults=models[first])
        for name in others:
            differing = _differences(models[first], models[name])
            yield f"- `{name}`: {_listed(differing) if differing else 'the same defaults'}"
        yield ""


def _differences(base: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Return the defaults in which a model differs from another, except its name."""
    return [
        f"`{key}={settings.shown(value)}`"
        for key, value in other.items()
        if base.get(key) != value and key != "model.name" and not key.startswith(("tracking.", "export.", "data."))
    ]


def _datasets(tree: Tree) -> Iterator[str]:
    yield "## Datasets\n"
    by_schema: dict[type[Schema], dict[str, Path]] = defaultdict(dict)
    for name, path in tree.files("data").items():
        by_schema[SCHEMAS[OmegaConf.load(path).task]][name] = path
    for schema, files in by_schema.items():
        kinds = " or ".join(KINDS[kind] for kind, each in SCHEMAS.items() if each is schema)
        yield f"### {_summary(schema)}\n"
        yield f"Datasets of {kinds}: {_listed(f'`{name}`' for name in files)}.\n"
        yield from _table(schema, prefix="data.")


def _table(
    schema: type[Schema],
    prefix: str = "",
    defaults: Mapping[str, object] | None = None,
    leave_out: tuple[str, ...] = (),
) -> Iterator[str]:
    """Yield the rows of all keys of a schema and of its sections."""
    yield "| key | may be | " + ("default | " if defaults is not None else "") + "meaning |"
    yield "|---|---|" + ("---|" if defaults is not None else "") + "---|"
    for path, expected, meaning in _rows(schema, prefix):
        if path.startswith(leave_out) and leave_out:
            continue
        default = ""
        if defaults is not None:
            default = f" {_cell(defaults[path])} |" if path in defaults else " |"
        yield f"| `{path}` | {_escaped(expected)} |{default} {_escaped(meaning)} |"
    yield ""


def _rows(schema: type[Schema], prefix: str) -> Iterator[tuple[str, str, str]]:
    for key, field in fields_of(schema).items():
        section = section_of(field.annotation)
        if section is not None:
            yield from _rows(section, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", expectation(field), field.description or ""


def _summary(schema: type[Schema]) -> str:
    return (schema.__doc__ or schema.__name__).strip().splitlines()[0].rstrip(".")


def _cell(value: object) -> str:
    text = settings.shown(value)
    return f"`{_escaped(text)}`" if len(text) <= 60 else "a list" if isinstance(value, list) else "text"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items)


if __name__ == "__main__":
    sys.stdout.write(page(Tree()))
