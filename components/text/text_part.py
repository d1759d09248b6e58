"""Parts of a running text, in memory or on disk: what language models count and read."""

import abc
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import overload

import numpy as np
import tensorflow as tf

from trellis.components.readers.running_text import Document, ends_of_parts, longest_piece, piece_bounds
from trellis.components.readers.token_files import LINE_END, TokenFiles
from trellis.components.text.stream import BOUNDARY, Stream, TextStream
from trellis.components.text.vectorizer import TokenVectorizer

_LOOKED_UP = 1 << 16  # types at a time


class TextPart(Sequence[Document], abc.ABC):
    """A part of a running text: a sequence of documents of lines of tokens.

    Attributes:
        in_memory: whether its tokens are in memory.
    """

    in_memory: bool

    @property
    @abc.abstractmethod
    def lines(self) -> int:
        """The number of lines."""

    @property
    @abc.abstractmethod
    def tokens(self) -> int:
        """The number of tokens, line ends included."""

    @abc.abstractmethod
    def counts(self) -> Counter[str]:
        """Return how often each token occurs, in the order in which they first do."""

    @abc.abstractmethod
    def first_lines(self, count: int) -> "TextPart":
        """Return the first lines of the first document."""

    @abc.abstractmethod
    def beginnings(self, count: int) -> list[Document]:
        """Return the first lines of each document."""

    @abc.abstractmethod
    def stream(self, vectorizer: TokenVectorizer, unit: str, backwards: bool = False) -> TextStream:
        """Return the text as ids; see `Stream`."""

    @overload
    def __getitem__(self, index: int) -> Document: ...

    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...

    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        """Return a document, or several; of a text on disk, they are read now."""
        if isinstance(index, slice):
            return [self._document(each) for each in range(*index.indices(len(self)))]
        return self._document(range(len(self))[index])

    @abc.abstractmethod
    def _document(self, index: int) -> Document: ...


class TextInMemory(TextPart):
    """A part of a text whose tokens are in memory.

    Args:
        documents: documents of lines of tokens.
    """

    in_memory = True

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents

    def __len__(self) -> int:
        return len(self._documents)

    def _document(self, index: int) -> Document:
        return self._documents[index]

    @property
    def lines(self) -> int:
        """The number of lines."""
        return sum(map(len, self._documents))

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return sum(len(line) + 1 for document in self._documents for line in document)

    def counts(self) -> Counter[str]:
        """Return how often each token occurs."""
        return Counter(token for document in self._documents for line in document for token in line)

    def first_lines(self, count: int) -> "TextInMemory":
        """Return the first lines of the first document."""
        return TextInMemory([self._documents[0][:count]])

    def beginnings(self, count: int) -> list[Document]:
        """Return the first lines of each document."""
        return [document[:count] for document in self._documents]

    def stream(self, vectorizer: TokenVectorizer, unit: str, backwards: bool = False) -> Stream:
        """Return the text as ids."""
        return Stream(self._documents, vectorizer, unit, backwards)


class TextOnDisk(TextPart):
    """A part of a text whose tokens are on disk.

    Args:
        text: the text.
        begin: the position of the first token.
        end: the position after the last one; by default the end of the text.
        is_cut: whether the part ends in the middle of a line, and gets a line end there.
    """

    in_memory = False

    def __init__(self, text: TokenFiles, begin: int = 0, end: int | None = None, is_cut: bool = False) -> None:
        self.text, self.begin = text, begin
        self.end = len(text.tokens) if end is None else end
        self.is_cut = is_cut
        inside = text.documents[(text.documents > begin) & (text.documents < self.end)]
        # Where documents begin, counted from the beginning of the part.
        self.documents = np.append(0, inside - begin)

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return self.end - self.begin + self.is_cut

    @cached_property
    def _line_range(self) -> tuple[int, int]:
        """The numbers of the lines that begin after the beginning of the part, and before its end."""
        first, last = self.text.lines.search([self.begin + 1, self.end]).tolist()
        return first, last

    @property
    def lines(self) -> int:
        """The number of lines."""
        first, last = self._line_range
        return last - first + 1

    def line_starts(self) -> np.ndarray:
        """Return where lines begin, counted from the beginning of the part, `(lines,)`."""
        return np.append(0, self.text.lines.range(*self._line_range) - self.begin)

    @cached_property
    def type_counts(self) -> np.ndarray:
        """How often each type occurs, `(types,)`."""
        counts = np.zeros(len(self.text.types), np.int64)
        for tokens in self.text.tokens.chunks(self.begin, self.end):
            counts += np.bincount(tokens, minlength=len(counts))
        counts[LINE_END] += self.is_cut
        return counts

    def counts(self) -> Counter[str]:
        """Return how often each token occurs; in the order of the part, if it is the first one of its text."""
        types, counts = self.text.types, self.type_counts
        return Counter({types[index]: int(counts[index]) for index in np.flatnonzero(counts).tolist() if index})

    def first_lines(self, count: int) -> "TextOnDisk":
        """Return the first lines of the first document."""
        bounds = np.append(self.line_starts()[: count + 1], self.tokens)
        end = min(int(bounds[count]) if count < len(bounds) else self.tokens, self._document_end(0))
        is_cut = self.is_cut and end == self.tokens
        return TextOnDisk(self.text, self.begin, self.begin + end - is_cut, is_cut)

    def _document_end(self, index: int) -> int:
        return int(self.documents[index + 1]) if index + 1 < len(self) else self.tokens

    def _document(self, index: int) -> Document:
        return self._decoded(int(self.documents[index]), self._document_end(index), self.lines)

    def beginnings(self, count: int) -> list[Document]:
        """Return the first lines of each document."""
        return [self._decoded(int(self.documents[i]), self._document_end(i), count) for i in range(len(self))]

    def _decoded(self, begin: int, end: int, count: int) -> Document:
        """Return the first lines between two positions of the part."""
        first, last = self.text.lines.search([self.begin + begin + 1, self.begin + end]).tolist()
        starts = self.text.lines.range(first, min(last, first + count)) - self.begin
        bounds = [begin, *starts.tolist()]
        if len(bounds) <= count:
            bounds.append(end)
        types, document = self.text.types, []
        for start, stop in pairwise(bounds):
            # Without the line end, which is not in the file where the part is cut.
            indices = self.text.tokens.range(self.begin + start, self.begin + stop - 1)
            document.append([types[index] for index in indices.tolist()])
        return document

    def characters(self, begin: int, end: int) -> int:
        """Return the number of characters of the tokens between two positions of the text; a line end is one."""
        return sum(int(self.text.sizes[tokens].sum()) for tokens in self.text.tokens.chunks(begin, end))

    def stream(self, vectorizer: TokenVectorizer, unit: str, backwards: bool = False) -> "StreamOnDisk":
        """Return the text as ids."""
        return StreamOnDisk(self, vectorizer, unit, backwards)


class StreamOnDisk(TextStream):
    """A text on disk as one run of ids, which are looked up when they are read.

    Args:
        part: the text.
        vectorizer: from `vocabulary`.
        unit: `words` or `characters`.
        backwards: whether to read each document from its end to its beginning.
    """

    in_memory = False

    def __init__(self, part: TextOnDisk, vectorizer: TokenVectorizer, unit: str, backwards: bool = False) -> None:
        self._part, self._unit, self._backwards = part, unit, backwards
        self.documents = part.documents
        types = part.text.types
        self._ids = np.empty(len(types), np.int32)
        for first in range(0, len(types), _LOOKED_UP):
            of_types = vectorizer.word_ids(tf.constant(types[first : first + _LOOKED_UP], tf.string))
            self._ids[first : first + _LOOKED_UP] = of_types.numpy()
        self._ids[LINE_END] = BOUNDARY

    def __len__(self) -> int:
        return self._part.tokens

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Return the ids at positions."""
        part, ends_line = self._part, None
        if self._backwards:
            document = np.searchsorted(self.documents, positions, side="right") - 1
            begins, ends = self.documents[document], np.append(self.documents[1:], len(self))[document]
            # Line ends stay behind their lines: all but the last token of a document in reverse, then a line end.
            ends_line = positions == ends - 1
            positions = np.where(ends_line, begins, ends - 2 - (positions - begins))
        if part.is_cut:
            beyond = positions == len(self) - 1
            ends_line = beyond if ends_line is None else ends_line | beyond
            positions = np.minimum(positions, len(self) - 2)
        ids = self._ids[part.text.tokens.take(part.begin + positions)]
        return ids if ends_line is None else np.where(ends_line, BOUNDARY, ids)

    @property
    def ids(self) -> np.ndarray:
        """All ids, in memory."""
        return self.at(np.arange(len(self)))

    @cached_property
    def lines(self) -> np.ndarray:
        """Where lines begin."""
        starts = self._part.line_starts()
        if not self._backwards:
            return starts
        lengths = np.diff(np.append(starts, len(self)))
        bounds = np.append(np.searchsorted(starts, self.documents), len(starts))
        lengths = np.concatenate([lengths[first:last][::-1] for first, last in pairwise(bounds.tolist())])
        return np.append(0, np.cumsum(lengths)[:-1])

    @cached_property
    def characters(self) -> int:
        """The number of characters."""
        part = self._part
        characters = part.characters(part.begin, part.end) + part.is_cut
        if self._unit == "characters":
            return characters
        lengths = np.diff(np.append(part.line_starts(), part.tokens))
        return characters + int(np.maximum(lengths - 2, 0).sum())

    def counts(self, size: int) -> np.ndarray:
        """Return how often each id occurs."""
        counts = np.zeros(size, np.int64)
        np.add.at(counts, self._ids, self._part.type_counts)
        return counts


def divide_on_disk(text: TokenFiles, shares: Mapping[str, float], source: object) -> dict[str, TextOnDisk]:
    """Divide a text into consecutive parts where `running_text.divide` does.

    Args:
        text: the text.
        shares: `{part: share of all characters}`, which add up to 1.
        source: the name of the text, for messages.

    Raises:
        InputError: there are fewer tokens than parts.
    """
    whole = TextOnDisk(text)
    starts = whole.line_starts()
    before = _characters_before(text, starts)
    sizes = np.diff(before)
    longest = longest_piece(int(before[-1]), len(starts), shares)
    bounds = np.append(starts, whole.tokens)
    begins, of_pieces, goes_on, last = [], [], [], 0
    for line in np.flatnonzero(sizes > longest).tolist():
        first, end = int(bounds[line]), int(bounds[line + 1])
        cuts = [first + bound for bound in piece_bounds(end - 1 - first, int(sizes[line]), longest)][:-1]
        begins += [starts[last:line], np.array(cuts)]
        # Each piece has a line end, as the line itself has.
        inner = [whole.characters(start, stop) + 1 for start, stop in pairwise(cuts)]
        of_pieces += [sizes[last:line], np.array([*inner, whole.characters(cuts[-1], end)])]
        goes_on += [np.zeros(line - last, bool), np.arange(len(cuts)) < len(cuts) - 1]
        last = line + 1
    begin = np.concatenate([*begins, starts[last:], [whole.tokens]])
    is_cut = np.concatenate([*goes_on, np.zeros(len(starts) - last, bool)])
    ends = ends_of_parts(np.concatenate([*of_pieces, sizes[last:]]), shares, source)
    return {
        part: TextOnDisk(text, int(begin[first]), int(begin[end]), bool(is_cut[end - 1]))
        for part, (first, end) in zip(shares, pairwise(ends), strict=True)
    }


def _characters_before(text: TokenFiles, starts: np.ndarray) -> np.ndarray:
    """Return the number of characters before each line, and of the whole text, `(lines + 1,)`."""
    before = np.empty(len(starts) + 1, np.int64)
    total, position = 0, 0
    for tokens in text.tokens.chunks(0, len(text.tokens)):
        running = np.append(0, np.cumsum(text.sizes[tokens], dtype=np.int64))
        first, last = np.searchsorted(starts, [position, position + len(tokens)])
        before[first:last] = total + running[starts[first:last] - position]
        total, position = total + int(running[-1]), position + len(tokens)
    before[-1] = total
    return before
