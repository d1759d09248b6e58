"""The example that every tagging reader yields."""

from typing import NamedTuple


class Sentence(NamedTuple):
    """Tokens with a tag each, as the file has them; and, by name, what other columns say of each of them."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    columns: dict[str, tuple[str, ...]] | None = None
