"""The interface of what turns texts into ids, in graph."""

from typing import Protocol

import tensorflow as tf

from trellis.components.types import Strings, Tensor, TokenIds


class Vocabulary(Protocol):
    """Pieces of texts by their ids.

    Attributes:
        size: the number of ids.
    """

    size: int

    def encode(self, texts: Strings) -> tf.RaggedTensor:
        """Return the ids of texts `(batch,)`: `(batch, pieces)` ragged int32."""

    def pieces_of(self, ids: TokenIds) -> Tensor:
        """Return the pieces of ids, strings in the shape of `ids`; padding is the empty string."""
