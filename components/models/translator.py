"""Texts to texts: a recurrent encoder, and a decoder that attends to its states."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from trellis.components.models.encoder_decoder import EncoderDecoder, Memory, scaled_embedding
from trellis.components.models.recurrent_stack import CELLS
from trellis.components.types import States, TokenIds


@keras.saving.register_keras_serializable("trellis")
class Translator(EncoderDecoder):
    """An encoder-decoder of texts (Sutskever et al. 2014; Bahdanau et al. 2015; Luong et al. 2015).

    Args:
        vocabulary, decoder, attention, dim, dropout, tied, label_smoothing: see `EncoderDecoder`.
        source_vocabulary: number of source ids; None if both languages share one vocabulary and its embeddings.
        encoder: `{"cell", "layers", "units", "bidirectional"}`, the units in each direction.
    """

    def __init__(
        self,
        vocabulary: int,
        source_vocabulary: int | None = None,
        *,
        encoder: Mapping[str, Any],
        **options: Any,
    ) -> None:
        super().__init__(vocabulary, **options)
        self.source_vocabulary = source_vocabulary
        self.settings |= {"source_vocabulary": source_vocabulary, "encoder": dict(encoder)}
        shared = source_vocabulary is None
        self.source_embedding = (
            None if shared else scaled_embedding(source_vocabulary or 0, self.dim, "source_embedding")
        )
        self.bidirectional = encoder["bidirectional"]
        self.encoder = []
        for depth in range(encoder["layers"]):
            layer = CELLS[encoder["cell"]](
                encoder["units"],
                return_sequences=True,
                return_state=True,
                recurrent_dropout=self.settings["dropout"]["recurrent"],
                name=f"encoder_{depth + 1}",
            )
            if self.bidirectional:
                layer = keras.layers.Bidirectional(layer, name=f"encoder_{depth + 1}")
            self.encoder.append(layer)
        self.states_per_direction = 2 if encoder["cell"] == "lstm" else 1
        width = encoder["units"] * (1 + self.bidirectional)
        if self.attention is not None:
            self.attention.build((None, None, self.units), (None, None, width))
        self.build()

    def encode(self, source: TokenIds, training: bool = False) -> tuple[Memory, States]:
        mask = source != 0
        hidden = self.embed(source, self.source_embedding or self.embedding, training)
        for depth, layer in enumerate(self.encoder):
            if depth:
                hidden = self.between_dropout(hidden, training=training)
            hidden, *states = layer(hidden, mask=mask, training=training)
        # The last hidden state of each direction.
        summary = tf.concat(states[:: self.states_per_direction], axis=-1)
        return self.remember(self.between_dropout(hidden, training=training), mask, source, summary)
