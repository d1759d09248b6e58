"""Tagged sentences on disk: their words and tags as numbers in memory-mapped files, written once and kept in a cache.

An entry of the cache is a folder, whose name is a hash of the files, of how they are read, and of the version of the
format:

    words.bin      the index of each word among the distinct ones, uint16 if there are few, else int32
    tags.bin       the index of each tag, likewise
    lines.bin      int32: the line of each word in its file; 0 where the reader does not say
    sentences.bin  int64: where each sentence begins in these
    places.bin     int32: the file and the document of each sentence
    meta.json      version, sizes, files, and the distinct words and tags; written last
"""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np

from trellis.components.errors import InputError
from trellis.components.readers import sources
from trellis.components.readers.disk_cache import Progress, kept
from trellis.components.readers.index_files import DTYPES, IndexWriter, Types
from trellis.components.readers.mapped_array import MappedArray
from trellis.components.readers.opening import COMPRESSIONS, size_of
from trellis.components.readers.sentence import Sentence
from trellis.components.readers.sources import Source, files_of
from trellis.components.types import FilePath
from trellis.components.urls import is_url

VERSION = 1
LARGE = 50e6  # bytes; in memory, sentences take about 45 times as much
_GROWTH = 4  # how many times larger a compressed file is, roughly
_FORMAT = "trellis sentence files"
_AT_A_TIME = 4096  # sentences that are read or written at once
_NUMBER, _BEGIN = np.dtype("<i4"), np.dtype("<i8")

Retag: TypeAlias = Callable[[Sentence], Sentence]


@dataclass(frozen=True)
class SentenceFiles:
    """What an entry holds.

    Attributes:
        words: the index of each word.
        tags: the index of each tag.
        lines: the line of each word.
        begins: where each sentence begins, and where the last one ends, `(sentences + 1,)`.
        places: the file and the document of each sentence, `(sentences, 2)`.
        distinct_words: the words by their indices, in the order in which they first occur.
        distinct_tags: the tags by their indices.
    """

    words: MappedArray
    tags: MappedArray
    lines: MappedArray
    begins: np.ndarray
    places: np.ndarray
    distinct_words: list[str]
    distinct_tags: list[str]


class StoredSentences(Sequence[Sentence]):
    """Sentences on disk, read when they are asked for.

    Args:
        stored: the files.
        paths: the files that the sentences are from; None where there is only one.
        rows: which of the sentences these are, ascending; by default all.
        changes: functions that each sentence goes through when it is read. They may change its tags, but not its
            words.

    Attributes:
        stored: the files.
        rows: see above.
    """

    def __init__(
        self,
        stored: SentenceFiles,
        paths: Sequence[FilePath | None] = (None,),
        rows: np.ndarray | None = None,
        changes: Sequence[Retag] = (),
    ) -> None:
        self.stored, self._paths, self._changes = stored, paths, tuple(changes)
        self.rows = np.arange(len(stored.places), dtype=np.int32) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Sentence: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredSentences": ...
    def __getitem__(self, index: int | slice) -> "Sentence | StoredSentences":
        if isinstance(index, slice):
            return StoredSentences(self.stored, self._paths, self.rows[index], self._changes)
        row = int(self.rows[index])
        return next(self._between(row, row + 1))

    def __iter__(self) -> Iterator[Sentence]:
        for start in range(0, len(self), _AT_A_TIME):
            for first, last in _runs(self.rows[start : start + _AT_A_TIME]):
                yield from self._between(first, last)

    def _between(self, first: int, last: int) -> Iterator[Sentence]:
        """Yield the sentences from one row up to another."""
        stored = self.stored
        bounds = stored.begins[first : last + 1].tolist()
        begin, end = bounds[0], bounds[-1]
        words, tags, lines = (each.range(begin, end).tolist() for each in (stored.words, stored.tags, stored.lines))
        spelled, named = stored.distinct_words, stored.distinct_tags
        for row, start, stop in zip(range(first, last), bounds, bounds[1:], strict=False):
            start, stop = start - begin, stop - begin
            file, document = stored.places[row].tolist()
            sentence = Sentence(
                tuple([spelled[index] for index in words[start:stop]]),
                tuple([named[index] for index in tags[start:stop]]),
                None,
                lines[start:stop] if lines[start] else (),
                self._paths[file],
                document,
            )
            for change in self._changes:
                sentence = change(sentence)
            yield sentence

    def changed(self, change: Retag) -> "StoredSentences":
        """Return these sentences with a change to their tags, which is made whenever one is read."""
        return StoredSentences(self.stored, self._paths, self.rows, (*self._changes, change))

    def selected(self, rows: Iterable[int]) -> "StoredSentences":
        """Return the sentences at ascending indices."""
        return StoredSentences(self.stored, self._paths, self.rows[np.fromiter(rows, np.int64)], self._changes)

    @property
    def lengths(self) -> np.ndarray:
        """The number of words of each sentence, `(sentences,)` int32."""
        return np.diff(self.stored.begins)[self.rows].astype(np.int32)

    def word_counts(self) -> Counter[str]:
        """Return how often each word occurs, in the order in which they first do."""
        size = len(self.stored.distinct_words)
        counts, places = np.zeros(size, np.int64), np.full(size, np.iinfo(np.int64).max)
        for start in range(0, len(self), _AT_A_TIME):
            rows = self.rows[start : start + _AT_A_TIME]
            begins = self.stored.begins
            words = np.concatenate(
                [self.stored.words.range(int(begins[first]), int(begins[last])) for first, last in _runs(rows)]
            )
            counts += np.bincount(words, minlength=size)
            found, within = np.unique(words, return_index=True)
            places[found] = np.minimum(places[found], (start << 32) + within)
        order = np.argsort(places, kind="stable")[: np.count_nonzero(counts)]
        return Counter({self.stored.distinct_words[index]: int(counts[index]) for index in order})


def _runs(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the first row of each run of neighbours, and the row after its last: they are read at once."""
    for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
        yield int(run[0]), int(run[-1]) + 1


def changed(sentences: Sequence[Sentence], change: Retag) -> Sequence[Sentence]:
    """Return sentences with a change to their tags; those on disk are changed whenever they are read."""
    return sentences.changed(change) if isinstance(sentences, StoredSentences) else list(map(change, sentences))


def word_total(sentences: Sequence[Sentence]) -> int:
    """Return the number of words of sentences."""
    if isinstance(sentences, StoredSentences):
        return int(sentences.lengths.sum())
    return sum(len(sentence.tokens) for sentence in sentences)


def word_counts(sentences: Sequence[Sentence]) -> Counter[str]:
    """Return how often each word occurs in sentences, in the order in which they first do."""
    if isinstance(sentences, StoredSentences):
        return sentences.word_counts()
    return Counter(chain.from_iterable(sentence.tokens for sentence in sentences))


def selected(sentences: Sequence[Any], rows: Iterable[int]) -> Sequence[Any]:
    """Return the items at ascending indices; those on disk stay there."""
    if isinstance(sentences, StoredSentences):
        return sentences.selected(rows)
    return [sentences[row] for row in rows]


def are_large(source: Source) -> bool:
    """Return whether sentences are better kept on disk, by the size of their files, estimated for compressed ones."""
    files = [file for file in files_of(source) if is_url(file) or Path(file).is_file()]
    return sum(size_of(file) * (_GROWTH if str(file).endswith(COMPRESSIONS) else 1) for file in files) > LARGE


def open_sentences(
    source: Source, read: Callable[[FilePath], Iterable[Sentence]], how: Mapping[str, Any], folder: Path
) -> StoredSentences:
    """Return sentences from the cache, after writing them there if they are not.

    Args:
        source: the files.
        read: yields the sentences of one of them.
        how: what the result of `read` depends on, as values that JSON has.
        folder: of the cache.

    Raises:
        InputError: a file cannot be read, there is no sentence in it, or the folder cannot be written to.
    """
    files = files_of(source)
    for file in files:
        if not is_url(file) and not Path(file).is_file():
            raise InputError(f"text.storage=disk: {file} is not a file, so its sentences cannot be kept")
    digest = hashlib.sha256(json.dumps([_FORMAT, VERSION, how], sort_keys=True).encode())
    # In this order: where one file ends and another begins makes a difference.
    for file in files:
        digest.update(sources.digest(file))
    entry = folder / digest.hexdigest()[:32]
    stored = kept(entry, _load, lambda new: _write(new, source, read, entry))
    return StoredSentences(stored, files if len(files) > 1 else (None,))


def _load(entry: Path) -> SentenceFiles:
    """Return what an entry holds.

    Raises:
        ValueError, KeyError, TypeError, OSError: the entry is damaged.
    """
    meta = json.loads((entry / "meta.json").read_bytes())
    if meta["format"] != _FORMAT or meta["version"] != VERSION:
        raise ValueError(f"not {_FORMAT}, version {VERSION}")
    types = {name: DTYPES[meta["dtypes"][name]] for name in ("words", "tags")} | {"lines": _NUMBER}
    sizes = {name: meta["words"] * dtype.itemsize for name, dtype in types.items()}
    sizes |= {"sentences": meta["sentences"] * _BEGIN.itemsize, "places": meta["sentences"] * 2 * _NUMBER.itemsize}
    for name, size in sizes.items():
        found = (entry / f"{name}.bin").stat().st_size
        if found != size:
            raise ValueError(f"{name}.bin has {found} bytes, expected {size}")
    begins = np.fromfile(entry / "sentences.bin", _BEGIN)
    mapped = {name: MappedArray(entry / f"{name}.bin", dtype) for name, dtype in types.items()}
    return SentenceFiles(
        **mapped,
        begins=np.append(begins, meta["words"]),
        places=np.fromfile(entry / "places.bin", _NUMBER).reshape(-1, 2),
        distinct_words=meta["distinct_words"],
        distinct_tags=meta["distinct_tags"],
    )


def _write(folder: Path, source: Source, read: Callable[[FilePath], Iterable[Sentence]], entry: Path) -> None:
    """Write the sentences of files to a new folder.

    Args:
        entry: where it will be, for the log.
    """
    folder.mkdir()
    progress = Progress(source, entry, "words")
    distinct = {"words": Types(), "tags": Types()}
    buffers: dict[str, list[int]] = {name: [] for name in ("words", "tags", "lines", "sentences", "places")}
    with contextlib.ExitStack() as stack:
        indices = {
            name: stack.enter_context(contextlib.closing(IndexWriter(folder / f"{name}.bin"))) for name in distinct
        }
        numbers = {
            name: (stack.enter_context(open(folder / f"{name}.bin", "wb")), dtype)
            for name, dtype in (("lines", _NUMBER), ("sentences", _BEGIN), ("places", _NUMBER))
        }

        def flush() -> None:
            progress.reached(indices["words"].count)
            for name, writer in indices.items():
                writer.write(buffers[name], len(distinct[name]) - 1)
            for name, (file, dtype) in numbers.items():
                np.array(buffers[name], dtype).tofile(file)
            for buffer in buffers.values():
                buffer.clear()

        sentences = 0
        for number, file in enumerate(files_of(source)):
            before = sentences
            for sentence in read(file):
                if sentence.columns is not None:
                    raise InputError("text.storage=disk: data.reader.columns are kept in memory only")
                buffers["sentences"].append(indices["words"].count + len(buffers["words"]))
                buffers["words"].extend(map(distinct["words"].__getitem__, sentence.tokens))
                buffers["tags"].extend(map(distinct["tags"].__getitem__, sentence.tags))
                buffers["lines"].extend(sentence.lines or [0] * len(sentence.tokens))
                buffers["places"] += (number, sentence.document)
                sentences += 1
                if len(buffers["sentences"]) >= _AT_A_TIME:
                    flush()
            if sentences == before:
                raise InputError(f"{file}: no sentences in this file")
        flush()
        words = indices["words"].count
        dtypes = {name: writer.dtype.name for name, writer in indices.items()}
    meta = {
        "format": _FORMAT,
        "version": VERSION,
        "dtypes": dtypes,
        "words": words,
        "sentences": sentences,
        **{f"distinct_{name}": list(types) for name, types in distinct.items()},
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    progress.done(words)
