"""The example that every tagging reader yields."""

from typing import NamedTuple


class Sentence(NamedTuple):
    """Tokens with a tag each, as the file has them; and, by name, what other columns say of each of them."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    columns: dict[str, tuple[str, ...]] | None = None

    @classmethod
    def of_rows(cls, rows, columns=()):
        """A sentence of a row for each token: itself, its tag, and what each of the named columns says of it."""
        tokens, tags, *others = zip(*rows, strict=True)
        return cls(tokens, tags, dict(zip(columns, others, strict=True)) if columns else None)
