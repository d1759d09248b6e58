"""One vector in, a text out: a decoder that starts from the attributes of something."""

from typing import Any

import keras
import tensorflow as tf

from trellis.components.models.attribute_detector import AttributeDetector, Channel
from trellis.components.models.encoder_decoder import EncoderDecoder, Memory, scaled_embedding
from trellis.components.models.penalties import Penalty, is_off
from trellis.components.text.subwords import END, SPECIAL
from trellis.components.types import States, Tensor, TokenIds


@keras.saving.register_keras_serializable("trellis")
class VectorToText(EncoderDecoder):
    """A decoder of texts about something that is described by its attributes: ids or, equally, a multi-hot vector.

    The sum of the embeddings of the attributes, which is the product of the multi-hot vector and a matrix, initializes
    the decoder. With attention, the memory holds the embedding of each attribute and, last, this sum. The order of the
    attributes does not matter.

    A detector of attributes in texts, which its `fit` teaches, can tell the beam which hypotheses say what they
    should.

    Args:
        vocabulary, decoder, attention, dim, dropout, tied, label_smoothing: see `EncoderDecoder`.
        features: number of ids of attributes, padding included.
        units: width of the embeddings of attributes.
    """

    def __init__(
        self,
        vocabulary: int,
        features: int,
        *,
        units: int,
        **options: Any,
    ) -> None:
        super().__init__(vocabulary, **options)
        self.settings |= {"features": features, "units": units}
        self.attributes = scaled_embedding(features, units, "attributes")
        if self.attention is not None:
            self.attention.build((None, None, self.units), (None, None, units))
        self.detector = AttributeDetector(features - len(SPECIAL), name="detector")
        self.detector.build((None, None))
        self.build()

    def encode(self, source: TokenIds, training: bool = False) -> tuple[Memory, States]:
        mask = source != 0
        embedded = self.attributes(source)
        # The embedding of the end, which all sources have, is the bias.
        summary = tf.tanh(tf.reduce_sum(tf.where(mask[..., tf.newaxis], embedded, 0.0), axis=1))
        is_end = (source == END)[..., tf.newaxis]
        values = tf.where(is_end, summary[:, tf.newaxis], tf.tanh(embedded))
        return self.remember(self.between_dropout(values, training=training), mask, source, summary)

    def penalties(self, memory: Memory, coverage: float | Tensor = 0.0, channel: float | Tensor = 0.0) -> list[Penalty]:
        """Return what is added to the scores of hypotheses about sources.

        Args:
            memory, coverage: see `EncoderDecoder.penalties`.
            channel: weight of `Channel`, the log-probability of the attributes given the text.
        """
        penalties = super().penalties(memory, coverage)
        if is_off(channel):
            return penalties
        return [*penalties, Channel(self.detector, self.detector.present(memory.source), channel)]
