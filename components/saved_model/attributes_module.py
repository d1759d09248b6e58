"""A model that puts attributes into words as a SavedModel."""

from collections.abc import Callable, Mapping

import tensorflow as tf

from trellis.components.models.encoder_decoder import EncoderDecoder
from trellis.components.saved_model.translator_module import TranslatorModule
from trellis.components.text.attributes import AttributeVocabulary
from trellis.components.text.subwords import END, PAD, Subwords
from trellis.components.types import Lengths, Strings, Tensor, TokenIds


class AttributesModule(TranslatorModule):
    """The signatures of `TranslatorModule` for a model of attributes.

    A text is a meaning representation, `name[Blue Spice], eatType[pub]`, and its translations are texts about it. The
    values of open classes are copied from one to the other. A length is limited by `count` alone, and a word of a
    source, in alignments, is an attribute. `translate` has one more scalar, the weight `channel` of the noisy channel
    (see `VectorToText.penalties`).

    Args:
        model: a model of attributes.
        attributes: ids of attributes.
        target: subwords of texts in which placeholders stand for the values of open classes.
        settings: see `TranslatorModule`.
    """

    SETTINGS = (*TranslatorModule.SETTINGS, "channel")

    def __init__(
        self, model: EncoderDecoder, attributes: AttributeVocabulary, target: Subwords, settings: Mapping[str, float]
    ) -> None:
        self._attributes = attributes
        super().__init__(model, attributes, target, settings)

    def _checked(self, function: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
        """Refuse attributes that the model does not know.

        It does so before requests are joined: a mistake in one must not fail the others.
        """

        def checked(text: Strings, *others: Tensor) -> dict[str, Tensor]:
            unknown = self._attributes.unknown(text)
            shown = tf.strings.reduce_join(tf.strings.regex_replace(unknown, r"\[(.*)\]", r" = \1"), separator=", ")
            message = tf.strings.join(["unknown attribute: ", shown])
            with tf.control_dependencies([tf.debugging.Assert(tf.size(unknown) == 0, [message])]):
                return function(tf.identity(text), *others)

        return checked

    def _limits(self, source: TokenIds, count: Tensor) -> Lengths | Tensor:
        del source
        return count

    def _abstract(self, text: Strings, translation: Strings) -> Strings:
        return self._attributes.abstract(translation, text)

    def _finished(self, text: Strings, found: Strings) -> Strings:
        return self._attributes.fill(found, text)

    def _source_words(self, source: TokenIds) -> Tensor:
        words = tf.where((source == PAD) | (source == END), -1, tf.range(tf.shape(source)[1]))
        return tf.one_hot(words, tf.shape(source)[1])
