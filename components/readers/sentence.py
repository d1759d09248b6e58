"""The example that every tagging reader returns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from trellis.components.types import FilePath

UNLABELLED = ""  # the tag of a token of training that may have any tag


@dataclass(frozen=True)
class Sentence:
    """A sentence with one tag per token, as the file has them.

    Attributes:
        tokens: the words.
        tags: the tag of each token; `UNLABELLED` where `tagged.unlabelled` found none.
        columns: further annotations of each token, by the name of their column; None if none were requested.
        lines: the line of each token in its file, from 1; empty where a reader does not say. Sentences are equal
            wherever they stand.
        file: their file, where a part has several; else None.
        document: the number of its document in the file; 0 for all where a reader does not say.
    """

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    columns: dict[str, tuple[str, ...]] | None = None
    lines: Sequence[int] = field(default=(), compare=False, repr=False)
    file: FilePath | None = field(default=None, compare=False, repr=False)
    document: int = field(default=0, compare=False, repr=False)

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Sequence[str]],
        columns: Iterable[str] = (),
        lines: Sequence[int] = (),
        document: int = 0,
    ) -> Self:
        """Return the sentence whose tokens are the rows: the word, its tag, and the value of each named column."""
        tokens, tags, *others = zip(*rows, strict=True)
        names = tuple(columns)
        # A copy: readers go on to use their list.
        kept: Sequence[int] = list(lines)
        if kept and kept[-1] - kept[0] == len(kept) - 1:
            kept = range(kept[0], kept[-1] + 1)
        return cls(tokens, tags, dict(zip(names, others, strict=True)) if names else None, kept, document=document)

    def cut(self, start: int, stop: int) -> "Sentence":
        """Return the tokens from `start` up to, not including, `stop`."""
        columns = None if self.columns is None else {name: each[start:stop] for name, each in self.columns.items()}
        rest = self.lines[start:stop], self.file, self.document
        return Sentence(self.tokens[start:stop], self.tags[start:stop], columns, *rest)


def document_numbers(sentences: Iterable[Sentence]) -> list[int]:
    """Return the number of the document of each sentence, from 0, whatever file it is in."""
    numbers: dict[tuple[FilePath | None, int], int] = {}
    return [numbers.setdefault((sentence.file, sentence.document), len(numbers)) for sentence in sentences]
