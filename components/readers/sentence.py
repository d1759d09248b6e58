"""The example that every tagging reader returns."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self


class Sentence(NamedTuple):
    """A sentence with one tag per token, as the file has them.

    Attributes:
        tokens: the words.
        tags: the tag of each token.
        columns: further annotations of each token, by the name of their column; None if none were requested.
    """

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    columns: dict[str, tuple[str, ...]] | None = None

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[str]], columns: Iterable[str] = ()) -> Self:
        """Return the sentence whose tokens are the rows: the word, its tag, and the value of each named column."""
        tokens, tags, *others = zip(*rows, strict=True)
        names = tuple(columns)
        return cls(tokens, tags, dict(zip(names, others, strict=True)) if names else None)
