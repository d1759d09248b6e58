"""The example that every tagging reader yields."""

from typing import NamedTuple


class Sentence(NamedTuple):
    """Tokens with a tag each, as the file has them."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
