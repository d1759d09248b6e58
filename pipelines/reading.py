"""Find and read the files of a dataset as the configuration says, without TensorFlow.

Tasks read with these functions, and so does the check of the first lines before anything else starts.
"""

import inspect
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeGuard

import hydra
from omegaconf import DictConfig, OmegaConf

from trellis.components.errors import InputError, nearest
from trellis.components.readers import dataset, labelled, running_text
from trellis.components.readers import settings as readers
from trellis.components.readers.attributes import parse
from trellis.components.readers.bitext import SentencePair
from trellis.components.readers.labelled import Labelled
from trellis.components.readers.lines import first_lines
from trellis.components.readers.sources import Names, Source, files_of, find, names_files
from trellis.components.readers.token_files import Reading, are_large
from trellis.components.settings import fields_of
from trellis.components.types import FilePath
from trellis.components.urls import is_url
from trellis.pipelines.configuration import plain, tree_of_run
from trellis.pipelines.tagged_files import Storage, tagged_parts

Documents = Sequence[running_text.Document]

log = logging.getLogger(__name__)

FIRST = 3000  # lines of each file that are read before anything else starts
SETTLED = 2000  # the first of these, whose errors do not depend on what follows
READERS = ("trellis.components.readers.", "trellis.components.annotation.")


def check_first_lines(config: DictConfig) -> None:
    """Find the user's own files and read their first lines.

    Skip named datasets, which may have to be downloaded, and the user's own readers, which may import anything.

    Raises:
        InputError: there are no such files, or they cannot be read; names the file and line.
    """
    data = plain(config.data)
    reader = (data.get("reader") or {}).get("_target_", READERS[0])
    if data["path"] is None or str(data["path"]).startswith(dataset.PACKAGE) or not reader.startswith(READERS):
        return
    read: dict[str, Callable[..., tuple[Any, Mapping[str, Any]]]] = {
        "classes": labelled_texts,
        "language": _first_texts,
        "alignment": sentence_pairs,
        "attributes": attribute_texts,
    }
    if data["task"] not in read and "storage" in config.text:
        Storage(config.text.storage).check(data)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # warnings belong to the complete reading
    try:
        with first_lines(FIRST, 10 * FIRST) as cut:
            chosen: Callable[..., tuple[Any, Mapping[str, Any]]] = read.get(data["task"], tagged_parts)
            _, parts = chosen(data)
            for part in parts.values():
                for _ in part:
                    pass
    except InputError as error:
        located = re.search(r":(\d+): ", str(error))
        if not cut or (located and int(located[1]) <= SETTLED):
            raise
    finally:
        logging.disable(level)


# Texts about attributes


def attribute_texts(data: Mapping[str, Any]) -> tuple[Mapping[str, Source], Mapping[str, Sequence[Labelled]]]:
    """Return the files of a dataset and the texts of each part, labelled by their attributes."""
    files = dataset.locate(data["name"], data["files"], data["path"], data["download"])
    columns = data["columns"]
    return files, {
        part: [
            example
            for file in files_of(source)
            for example in labelled.read(file, text=columns["text"], label=columns["attributes"], check=parse)
        ]
        for part, source in files.items()
    }


# Labelled texts


def labelled_texts(data: Mapping[str, Any]) -> tuple[Mapping[str, Source], Mapping[str, Sequence[Labelled]]]:
    """Return the files of a dataset and the examples of each part; divides data that have no parts.

    The user's own data are a file, a folder with a file or folder for each part, or a folder with a file or folder for
    each class.
    """
    encoding = data.get("encoding") or "utf-8"
    options = {
        "text": data["columns"]["text"],
        "label": data["columns"]["label"],
        "header": data.get("header") is not False,
        "separator": data.get("separator"),
        "encoding": encoding,
    }
    files = _files_of_labels(data)
    parts: dict[str, Sequence[Labelled]] = {}
    for part in (part for part in dataset.PARTS if part in files):
        parts[part] = _labelled(files[part], options)
    shares = {part: share for part, share in (data["split"] or {}).items() if share is not None}
    if "examples" in files:
        examples = _labelled(files["examples"], options)
        return files, labelled.divide(examples, shares, data["split_seed"], str(files["examples"]))
    if not parts:
        source = f"data={data['name']}"
        return files, labelled.divide(labelled.read_classes(files, encoding), shares, data["split_seed"], source)
    if "dev" not in parts and "train" in parts and "dev" in shares:
        whole = shares["train"] + shares["dev"]
        shares = {part: shares[part] / whole for part in ("train", "dev")}
        log.warning("%s: no dev part; a share of %.2g of the train part is used as dev", files["train"], shares["dev"])
        parts |= labelled.divide(parts["train"], shares, data["split_seed"], str(files["train"]))
    return files, {part: parts[part] for part in dataset.PARTS if part in parts}


def _labelled(source: Source, options: Mapping[str, Any]) -> list[Labelled]:
    """Return the examples of files, or of a folder with a file or folder for each class."""
    examples = []
    for file in files_of(source):
        if not is_url(file) and Path(file).is_dir():
            examples += labelled.read_classes(labelled.classes_of(file), options["encoding"])
        else:
            examples += labelled.read(file, **options)
    return examples


def _files_of_labels(data: Mapping[str, Any]) -> Mapping[str, Source]:
    """Return the files or folders of parts or of classes, or one file of examples."""
    path = data["path"]
    if data["files"] is not None:
        return dataset.locate(data["name"], data["files"], path, data["download"])
    if isinstance(path, dict):
        if set(path) & {*dataset.PARTS, "examples"}:
            dataset.check_names("data.path", path, [*dataset.PARTS, "examples"])
        return {name: find(file) for name, file in path.items()}
    if names_files(path):
        return {"examples": find(path)}
    path = Path(str(path))
    if not path.exists():
        raise InputError(f"data.path: {path}: no such file or folder")
    if path.is_file():
        return {"examples": path}
    named = dataset.parts_in(path)
    if "train" in named:
        for part, found in named.items():
            if len(found) > 1:
                names = ", ".join(file.name for file in found)
                raise InputError(
                    f"{path}: several files for the {part} part ({names}); data.path={{{part}: …}} chooses"
                )
        return {part: files[0] for part, files in named.items()}
    return labelled.parts_of(path) or labelled.classes_of(path)


# Running text


def texts(data: Mapping[str, Any]) -> tuple[Mapping[str, Source], Mapping[str, Documents]]:
    """Return the file and the documents of each part; divides a text that has no parts."""
    files, options = files_of_text(data), asdict(how_to_read(data))
    if "text" not in files:
        return files, {part: running_text.read(file, **options) for part, file in files.items()}
    return files, running_text.divide(running_text.read(files["text"], **options), shares_of(data), files["text"])


def _first_texts(data: Mapping[str, Any]) -> tuple[Mapping[str, Source], Mapping[str, Documents]]:
    """Return what `texts` does, within `first_lines`; large texts are decoded but kept nowhere."""
    files, how = files_of_text(data), how_to_read(data)
    if not are_large(files.values()):
        return texts(data)
    for file in chain.from_iterable(map(running_text.document_files, files.values())):
        for _ in running_text.read_document(file, how.encoding, how.column):
            pass
    return files, {}


def how_to_read(data: Mapping[str, Any]) -> Reading:
    """Return how the files of a running text are read."""
    return Reading(
        unit=data["unit"],
        keep_blank=data["lines"] != "sentences",
        encoding=data.get("encoding") or "utf-8",
        column=data.get("column") or "text",
    )


def shares_of(data: Mapping[str, Any]) -> dict[str, float]:
    """Return the share of each part of a text that is to be divided."""
    return {part: share for part, share in data["split"].items() if share is not None}


def files_of_text(data: Mapping[str, Any]) -> Mapping[str, Source]:
    """Return the files of each part; or `{"text": files}` of a text that is to be divided."""
    path, named = data["path"], data["files"]
    if isinstance(path, dict):
        known = ["text"] if data["split"] and "text" in path else list(named or dataset.PARTS)
        dataset.check_names("data.path", path, known)
        return {part: find(path[part]) for part in known if part in path}
    if names_files(path):
        return {"text": find(path)}
    place = Path(str(path))  # a folder such as 2024 is a number on the command line
    if named and (path is None or place.is_dir() or str(path).startswith(dataset.PACKAGE)):
        return dataset.locate(data["name"], named, path, data["download"])
    if not place.exists():
        raise InputError(f"data.path: {path}: no such file or folder")
    found = dataset.parts_in(place, ".txt") if place.is_dir() else {}
    if not named and {"train", "dev"} <= set(found):
        return dataset.in_folder(place, {part: f"{part}.txt" for part in dataset.PARTS if part in found})
    return {"text": place}


# Sentence pairs


def bitext(name: str) -> dict[str, Any]:
    """Return the configuration of another dataset, for `data.also`."""
    files = tree_of_run().files("data")
    datasets = {choice: plain(OmegaConf.load(file)) for choice, file in files.items()}
    bitexts = {choice: data for choice, data in datasets.items() if data.get("task") == "alignment"}
    if name not in bitexts:
        raise InputError(f"data.also: no bitext {name!r}; did you mean {nearest(name, bitexts)}?")
    return bitexts[name]


def sentence_pairs(
    data: Mapping[str, Any], limit: int | None = None
) -> tuple[dict[str, Source], dict[str, Iterator[SentencePair]]]:
    """Return the files and an iterator over the sentence pairs of each part of a dataset."""
    read = hydra.utils.get_method(data["reader"]["_target_"])
    of_parts, path = _files_of_pairs(data, read)
    named: dict[str, Names] = {}
    for part, files in of_parts.items():
        if isinstance(files, dict):
            named |= {f"{part}.{role}": file for role, file in files.items()}
        else:
            named[part] = files
    located = dataset.locate(data["name"], named, path, data["download"], data.get("folder"))
    options = {name: value for name, value in data["reader"].items() if name != "_target_"} | {"strict": data["strict"]}
    if "keep_empty" in inspect.signature(read).parameters:
        # A pair with an empty side is left out, but keeps its line in alignments.txt.
        options["keep_empty"] = True
    parts: dict[str, Iterator[SentencePair]] = {}
    for part, files in of_parts.items():
        if isinstance(files, dict):
            roles = _file_by_file(part, {role: located[f"{part}.{role}"] for role in files})
            pairs = chain.from_iterable(read(**own, **options) for own in roles)
        else:
            pairs = chain.from_iterable(read(file, **options) for file in files_of(located[part]))
        parts[part] = islice(_not_empty(pairs, f"data={data['name']}: no sentence pairs in its {part} part"), limit)
    return located, parts


def _file_by_file(part: str, roles: Mapping[str, Source]) -> list[dict[str, FilePath]]:
    """Return `{role: file}` of each file of a part; the first files belong together, and so do the second ones.

    Raises:
        InputError: a role has more files than another.
    """
    files = {role: files_of(source) for role, source in roles.items()}
    if len({len(own) for own in files.values()}) > 1:
        counts = ", ".join(f"{part}.{role} {len(own)}" for role, own in files.items())
        raise InputError(f"data.path: line-parallel files must be as many on each side; there are {counts}")
    return [dict(zip(files, own, strict=True)) for own in zip(*files.values(), strict=True)]


def with_held_out_parts(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dataset with the dev and test parts that are in the folder of its training part.

    The files of a part are named like those of train, except for the name of the part: `valid.de` beside `train.de`.
    """
    path, files = data["path"], dict(data["files"])
    train = files.get("train")
    if isinstance(path, str) and not path.startswith(dataset.PACKAGE) and _are_names(train):
        for part in dataset.PARTS[1:]:
            for name in sorted(dataset.USUAL_NAMES[part]):
                named = {role: file.replace("train", name) for role, file in train.items()}
                present = [Path(path, f"{file}{suffix}").is_file() for file in named.values() for suffix in ("", ".gz")]
                if part not in files and named != train and sum(present) >= len(named):
                    files[part] = named
    return {**data, "files": files}


def _files_of_pairs(
    data: Mapping[str, Any], read: Callable[..., Any]
) -> tuple[dict[str, Names | dict[str, Names]], str | dict[str, Names] | None]:
    """Return the files of each part and `data.path`; a path that names files itself decides which there are.

    Raises:
        InputError: there is no such part, or the reader takes no such file.
    """
    path = data["path"]
    if names_files(path) and not is_url(path):
        raise InputError(f"data.path: {path} names files, but not of which part; data.path={{train: …, dev: …}}")
    files: dict[str, Names | dict[str, Names]] = {}
    for name, file in (path if isinstance(path, dict) else data["files"]).items():
        part, _, role = name.partition(".")
        before = files.get(part, {})
        added = {role: file} if role else file
        files[part] = {**before, **added} if isinstance(before, dict) and isinstance(added, dict) else added
    key = "data.path" if isinstance(path, dict) else "data.files"
    # Further parts are trained on too, unless their names look misspelt.
    others = data["files"] if isinstance(path, dict) else files
    others = [part for part in others if not get_close_matches(part, dataset.PARTS)]
    dataset.check_names(key, files, [*dataset.PARTS, *others])
    parameters = inspect.signature(read).parameters
    options = {*data["reader"], "strict", "keep_empty", *fields_of(readers.Reader)}
    known = [name for name in parameters if name not in options]
    needed = [name for name in known if parameters[name].default is inspect.Parameter.empty]
    for part, roles in files.items():
        if not isinstance(roles, dict):
            if len(needed) > 1:
                raise InputError(f"{key}: {part} is one file, but the reader needs {' and '.join(needed)}")
            continue
        dataset.check_names(f"{key}.{part}", roles, known)
        for role in needed:
            if role not in roles:
                raise InputError(f"{key}: no {part}.{role}, which the reader needs")
    if not isinstance(path, dict):
        return files, path
    return files, {
        f"{part}.{role}" if role else part: file
        for part, roles in files.items()
        for role, file in (roles.items() if isinstance(roles, dict) else [("", roles)])
    }


def _are_names(roles: object) -> TypeGuard[dict[str, str]]:
    """Return whether a part has a file name for each role."""
    return isinstance(roles, dict) and all(isinstance(name, str) for name in roles.values())


def _not_empty(pairs: Iterator[SentencePair], message: str) -> Iterator[SentencePair]:
    """Yield the pairs; raise InputError if there is none."""
    empty = True
    for pair in pairs:
        empty = empty and not all(pair[:2])
        yield pair
    if empty:
        raise InputError(message)
