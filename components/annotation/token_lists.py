"""Lists of tokens and tags, JSON or Parquet, as the library `datasets` of Hugging Face writes them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trellis.components.annotation.records import Record, read_records
from trellis.components.errors import InputError, nearest
from trellis.components.readers import tables
from trellis.components.readers.parquet import METADATA, features_of, import_pyarrow, is_named_parquet, open_parquet
from trellis.components.readers.sentence import Sentence
from trellis.components.types import JSON, FilePath
from trellis.components.urls import is_url

WORDS = ("tokens", "words")
TAGS = ("ner_tags", "ner", "tags", "labels", "pos_tags", "upos", "pos", "xpos", "chunk_tags")
_INFO = "dataset_info.json"


def is_parquet(path: FilePath) -> bool:
    """Return whether a file is Parquet, by its first bytes; a URL by its name."""
    if is_url(path):
        return is_named_parquet(path)
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False


def is_record(fields: Any) -> bool:
    """Return whether a record of a JSON file has lists of tokens and tags."""
    if not isinstance(fields, dict):
        return False
    words = [fields[name] for name in WORDS if name in fields]
    return any(_is_list_of(values, str) for values in words) and any(name in fields for name in TAGS)


def read(
    path: FilePath,
    word: str | None = None,
    tag: str | None = None,
    names: Sequence[str] | None = None,
    encoding: str = "utf-8",
) -> list[Sentence]:
    """Read sentences; those without tokens are left out.

    Tags that are numbers get their names from `names`, from the metadata that `datasets` writes into Parquet files, or
    from `dataset_info.json` in the folder of a JSON file.

    Args:
        path: the file, JSON lines, JSON or Parquet.
        word: the field of tokens; None: `tokens` or `words`.
        tag: the field of tags; None: `ner_tags`, or another usual name.
        names: the names of tags that are numbers, from 0.
        encoding: of a JSON file.

    Raises:
        InputError: a record lacks a field, its tokens and tags differ in number, or a number has no name; names the
            file and line.
    """
    records, features = (
        _parquet_records(path) if is_parquet(path) else (read_records(path, encoding), _features_beside(path))
    )
    sentences = []
    for record in records:
        if not isinstance(record.value, dict):
            raise InputError(f"{record.place}: expected an object with tokens and tags")
        words = _field(record, "word", word, WORDS)
        chosen = _field(record, "tag", tag, TAGS)
        values = _tags(record, chosen, names or _names(features, chosen))
        tokens = record.value[words]
        if not _is_list_of(tokens, str):
            raise InputError(f"{record.place}: {words} is not a list of words")
        if len(tokens) != len(values):
            raise InputError(f"{record.place}: {len(tokens)} {words}, but {len(values)} {chosen}")
        if tokens:
            lines = [record.line] * len(tokens) if record.line else ()
            sentences.append(Sentence(tuple(tokens), tuple(values), None, lines))
    return sentences


def _is_list_of(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _field(record: Record, key: str, name: str | None, usual: Sequence[str]) -> str:
    if name is not None and name not in record.value:
        fields = (tables.shown([each]) for each in record.value)
        raise InputError(f"{record.place}: no {key}={name}; did you mean {nearest(name, fields)}?")
    found = name or next((each for each in usual if each in record.value), None)
    if found is None:
        present = tables.shown(record.value)
        raise InputError(
            f"{record.place}: none of {', '.join(usual)} among its fields ({present}); name it: "
            f"data.reader.{key}=… or --{key} …"
        )
    return found


def _tags(record: Record, field: str, names: Sequence[str] | None) -> list[str]:
    values = record.value[field]
    if _is_list_of(values, str):
        return list(values)
    if not _is_list_of(values, int) or not _is_list_of([not isinstance(value, bool) for value in values], bool):
        raise InputError(f"{record.place}: {field} is not a list of tags")
    if names is None:
        raise InputError(
            f"{record.place}: {field} are numbers without names; give them: "
            f"data.reader.names=[O,B-PER,…], --names O,B-PER,…, or {_INFO} in the folder"
        )
    for value in values:
        if not 0 <= value < len(names):
            raise InputError(f"{record.place}: {field} has {value}, but names go from 0 to {len(names) - 1}")
    return [names[value] for value in values]


def _features_beside(path: FilePath) -> Mapping[str, Any]:
    """Return the features of `dataset_info.json` in the folder of a file; none if there is no such file."""
    file = Path(path).parent / _INFO
    if not file.is_file():
        return {}
    try:
        features = json.loads(file.read_text(encoding="utf-8")).get("features")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: not what `datasets` writes ({str(error).splitlines()[0]})") from None
    return features if isinstance(features, dict) else {}


def _names(features: Mapping[str, Any], field: str) -> list[str] | None:
    """Return the names of the classes of a list feature."""
    feature = features.get(field)
    while isinstance(feature, list | dict):
        if isinstance(feature, list):
            feature = feature[0] if feature else None
        elif _is_list_of(feature.get("names"), str):
            return list(feature["names"])
        else:
            feature = feature.get("feature")
    return None


def _parquet_records(path: FilePath) -> tuple[Iterable[Record], Mapping[str, Any]]:
    with open_parquet(path) as file:
        rows, features = file.read().to_pylist(), features_of(file.schema_arrow)
    return (Record(f"{path}: row {number}", 0, row) for number, row in enumerate(rows, 1)), features


def records(sentences: Iterable[Sentence], field: str) -> Iterator[JSON]:
    """Yield the record of each sentence for a JSON file; `field` is the name of its tags."""
    for number, sentence in enumerate(sentences):
        yield {"id": str(number), "tokens": list(sentence.tokens), field: list(sentence.tags)}


def write_parquet(path: Path, sentences: Sequence[Sentence], field: str) -> None:
    """Write a Parquet file whose tags are numbers, with their names where `datasets` looks for them.

    Args:
        path: the file.
        sentences: what to write.
        field: the name of the column of tags.
    """
    pyarrow = import_pyarrow()
    tags = sorted({tag for sentence in sentences for tag in sentence.tags}, key=lambda tag: (tag != "O", tag[2:], tag))
    numbers = {tag: number for number, tag in enumerate(tags)}
    features = {
        "id": {"dtype": "string", "_type": "Value"},
        "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"},
        field: {"feature": {"names": tags, "_type": "ClassLabel"}, "_type": "Sequence"},
    }
    table = pyarrow.table(
        {
            "id": pyarrow.array([str(number) for number in range(len(sentences))], pyarrow.string()),
            "tokens": pyarrow.array([sentence.tokens for sentence in sentences], pyarrow.list_(pyarrow.string())),
            field: pyarrow.array(
                [[numbers[tag] for tag in sentence.tags] for sentence in sentences], pyarrow.list_(pyarrow.int64())
            ),
        }
    )
    info = json.dumps({"info": {"features": features}}).encode()
    pyarrow.parquet.write_table(table.replace_schema_metadata({METADATA: info}), path)
