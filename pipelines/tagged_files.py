"""Find and read the files of tagged sentences, and of texts with entities, without TensorFlow."""

import hashlib
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
import numpy as np

from trellis.components.annotation.annotated_text import AnnotatedText
from trellis.components.annotation.formats import as_sentences
from trellis.components.choices import Misfits, Tokenizer
from trellis.components.errors import InputError
from trellis.components.readers import conll, conllu, dataset, tagged
from trellis.components.readers.disk_cache import default_folder
from trellis.components.readers.sentence import Sentence
from trellis.components.readers.sentence_files import StoredSentences, are_large, open_sentences, selected
from trellis.components.readers.sources import Source, contents, files_of, find, names_files
from trellis.components.types import FilePath

TaggedPart = Sequence[AnnotatedText | Sentence]  # of one kind

log = logging.getLogger(__name__)


# Readers that keep a file in memory, and functions that yield the same sentences and do not.
_STREAMS: Mapping[Callable[..., list[Sentence]], Callable[..., Iterator[Sentence]]] = {
    conll.read: conll.stream,
    conllu.read: conllu.stream,
}


@dataclass(frozen=True)
class Storage:
    """Where sentences of training are kept.

    Attributes:
        kind: `memory`, `disk`, or `auto`: on disk if the files are large and the format can be read in pieces.
        folder: of the cache; None: the usual one.
    """

    kind: str = "memory"
    folder: str | None = None

    def check(self, data: Mapping[str, Any]) -> None:
        """Raise InputError if the sentences of a dataset cannot be kept there."""
        if self.kind == "disk" and data["reader"].get("columns"):
            raise InputError(
                "text.storage=disk: data.reader.columns are kept in memory only; leave them out, or set "
                "text.storage=memory"
            )

    def is_disk(self, source: Source, data: Mapping[str, Any]) -> bool:
        """Return whether the sentences of a source are kept on disk."""
        if self.kind != "auto":
            return self.kind == "disk"
        read = hydra.utils.get_method(data["reader"]["_target_"])
        return read in _STREAMS and not data["reader"].get("columns") and are_large(source)

    def open(self, source: Source, data: Mapping[str, Any], options: Mapping[str, Any]) -> StoredSentences:
        """Return sentences on disk."""
        target = data["reader"]["_target_"]
        read = hydra.utils.get_method(target)
        stream: Callable[..., Iterable[object]] = _STREAMS.get(read, read)

        def sentences(file: FilePath) -> Iterator[Sentence]:
            for each in stream(file, **options):
                if not isinstance(each, Sentence):
                    raise InputError(
                        f"text.storage=disk: {file} has texts with offsets, which are kept in memory only; "
                        "trellis convert writes CoNLL columns"
                    )
                yield each

        folder = default_folder() if self.folder is None else Path(self.folder)
        code = hashlib.sha256(Path(inspect.getfile(read)).read_bytes()).hexdigest()
        stored = open_sentences(source, sentences, {"reader": target, "code": code, **options}, folder)
        tagged.check(source, stored)
        return stored


def tagged_parts(
    data: Mapping[str, Any],
    storage: Storage = Storage(),
) -> tuple[Mapping[str, Source], Mapping[str, TaggedPart]]:
    """Return the file of each part, and its sentences or its texts, which have no tokens yet.

    Args:
        data: the dataset.
        storage: of the training part, and of a file that is to be divided.
    """
    storage.check(data)
    files = _files_of_sentences(data)
    options = {name: value for name, value in data["reader"].items() if name != "_target_"}
    if "format" in data:
        options["form"] = data["format"]
    read = hydra.utils.get_method(data["reader"]["_target_"])
    parts: dict[str, TaggedPart] = {}
    for part, source in files.items():
        if part in ("train", "all") and storage.is_disk(source, data):
            parts[part] = storage.open(source, data, options)
        else:
            parts[part] = _tagged(source, lambda file: read(file, **options))
    shares = {part: share for part, share in (data.get("split") or {}).items() if share is not None}
    if "all" in parts:
        whole = divided(parts["all"], shares, data["split_seed"], files["all"])
        return dict.fromkeys(whole, files["all"]), whole
    if "dev" not in parts and "train" in parts and shares:
        kept = shares["train"] + shares["dev"]
        shares = {part: shares[part] / kept for part in ("train", "dev")}
        log.warning("%s: no dev part; a share of %.2g of the train part is used as dev", files["train"], shares["dev"])
        parts |= divided(parts["train"], shares, data["split_seed"], files["train"])
        files = {**files, "dev": files["train"]}
    return files, {part: parts[part] for part in files}


def _tagged(source: Source, read: Callable[[FilePath], TaggedPart]) -> TaggedPart:
    """Return the texts or sentences of files; those of several files know which one they are from."""
    files = files_of(source)
    content: list[Any] = []
    for file in files:
        found = read(file)
        sentences = [each for each in found if isinstance(each, Sentence)]
        if sentences or not found:
            tagged.check(file, sentences)
        content += found if len(files) == 1 else (replace(each, file=file) for each in found)
    if len({type(each) for each in content}) > 1:
        raise InputError(f"{source}: some of these files have texts with spans, others have tokens; convert one kind")
    return content


def tagged_sentences(
    data: Mapping[str, Any],
    tokenizer: Tokenizer,
    storage: Storage = Storage(),
) -> tuple[Mapping[str, Source], dict[str, Sequence[Sentence]]]:
    """Return the file and the sentences of each part.

    Args:
        data: the dataset.
        tokenizer: how texts without tokens are split.
        storage: see `tagged_parts`.
    """
    files, parts = tagged_parts(data, storage)
    spans: Misfits = data.get("spans") or "error"
    by_line = bool(data.get("lines"))
    sentences: dict[str, Sequence[Sentence]] = {
        part: content
        if isinstance(content, StoredSentences)
        else as_sentences(files[part], content, tokenizer, spans, by_line)
        for part, content in parts.items()
    }
    for part, own in sentences.items():
        if not own:
            raise InputError(f"{files[part]}: no words in the texts of this file")
    return files, sentences


def _files_of_sentences(data: Mapping[str, Any]) -> Mapping[str, Source]:
    """Return the file or folder of each part, or `{"all": path}` of texts that are to be divided."""
    path = data["path"]
    if data["files"] is not None:
        return dataset.locate(data["name"], data["files"], path, data["download"])
    if isinstance(path, dict):
        dataset.check_names("data.path", path, dataset.PARTS)
        return {part: find(path[part]) for part in dataset.PARTS if part in path}
    if names_files(path):
        return {"all": find(path)}
    place = Path(str(path))
    if not place.exists():
        raise InputError(f"data.path: {path}: no such file or folder")
    found = dataset.parts_in(place, ".ann") if place.is_dir() else {}
    if place.is_file() or (not found and any(place.glob("*.ann"))):
        return {"all": place}
    folders = {
        part: [entry for entry in sorted(place.iterdir()) if entry.is_dir() and entry.name.lower() in names]
        for part, names in dataset.USUAL_NAMES.items()
    }
    files = {part: found.get(part) or folders[part] for part in dataset.PARTS}
    for part, several in files.items():
        if len(several) > 1:
            names = ", ".join(entry.name for entry in several)
            raise InputError(f"{path}: several files for the {part} part ({names}); choose: data.path={{{part}: …}}")
    if not files["train"]:
        raise InputError(f"{path}: no train part in this folder; {contents(place)}")
    return {part: entries[0] for part, entries in files.items() if entries}


def divided(content: TaggedPart, shares: Mapping[str, float], seed: int, source: Source) -> dict[str, TaggedPart]:
    """Divide texts or sentences into parts at random, each in the original order.

    Raises:
        InputError: there are no shares, or a part would be empty.
    """
    if not shares:
        raise InputError(f"{source}: one file for all parts; data.split={{train: 0.8, dev: 0.1, test: 0.1}} divides it")
    order = np.random.default_rng(seed).permutation(len(content))
    ends = np.round(np.cumsum([0, *shares.values()]) * len(content)).astype(int)
    rows = {part: sorted(order[start:end]) for part, (start, end) in zip(shares, pairwise(ends), strict=True)}
    if not all(rows.values()):
        raise InputError(
            f"{source}: {len(content)} texts are too few for {', '.join(shares)}; give the parts as files, or fewer "
            "parts: data.split={train: 0.7, dev: 0.3, test: null}"
        )
    return {part: selected(content, own) for part, own in rows.items()}
