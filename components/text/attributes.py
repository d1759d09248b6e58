"""Meaning representations such as `name[Blue Spice], eatType[coffee shop]` as ids of their attributes, in graph."""

import re
from collections.abc import Iterable, Sequence

import tensorflow as tf

from trellis.components.readers.attributes import parse
from trellis.components.text.subwords import SPECIAL, UNKNOWN
from trellis.components.text.templates import Lookup
from trellis.components.types import Strings, Tensor

_FIRST_PLACEHOLDER = 0xE000  # characters for private use stand for the values of names


class AttributeVocabulary(tf.Module):
    """Ids of attributes. Those with open classes of values, such as names, are one id whatever the value.

    Args:
        names: the attributes by id, the first one being `len(SPECIAL)`: `name[value]`, or `name` of an open class.
        open_classes: the names of attributes whose values stand in texts as placeholders: one character each.

    Attributes:
        size: the number of ids.
    """

    def __init__(self, names: Sequence[str], open_classes: Sequence[str]) -> None:
        super().__init__(name="attributes")
        self.names, self.open_classes = tuple(names), tuple(open_classes)
        self.size = len(SPECIAL) + len(names)
        with tf.device("CPU"):
            ids = tf.range(len(SPECIAL), self.size)
            initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(list(names)), ids)
            self._ids: Lookup = tf.lookup.StaticHashTable(initializer, UNKNOWN)
            self._names = tf.constant(["", *SPECIAL[1:], *names])

    @classmethod
    def of(cls, texts: Iterable[str], open_classes: Sequence[str]) -> "AttributeVocabulary":
        """Return the vocabulary of the meaning representations of a training part."""
        names = {
            name if name in open_classes else f"{name}[{value}]"
            for text in set(texts)
            for name, value in parse(text).items()
        }
        return cls(sorted(names), open_classes)

    def encode(self, texts: Strings) -> tf.RaggedTensor:
        """Return the ids of meaning representations `(batch,)`: `(batch, attributes)` ragged int32."""
        with tf.device("CPU"):
            attributes = self._split(texts)
            keys = tf.strings.regex_replace(attributes.values, r"\s*\[\s*(.*?)\s*\]?$", r"[\1]")
            for name in self.open_classes:
                keys = tf.strings.regex_replace(keys, rf"^{re.escape(name)}\[.*", name)
            return attributes.with_values(self._ids.lookup(keys))

    def unknown(self, texts: Strings) -> Strings:
        """Return the attributes of meaning representations `(batch,)` that the vocabulary lacks, `(attributes,)`."""
        with tf.device("CPU"):
            ids = self.encode(texts).values
            written = tf.strings.regex_replace(self._split(texts).values, r"\s*$", "]")
            return tf.boolean_mask(written, ids == UNKNOWN)

    @staticmethod
    def _split(texts: Strings) -> tf.RaggedTensor:
        parts = tf.strings.split(texts, "]")
        parts = parts.with_values(tf.strings.regex_replace(parts.values, r"^[\s,]+", ""))
        return tf.ragged.boolean_mask(parts, parts != "")

    def pieces_of(self, ids: Tensor) -> Strings:
        """Return the names of ids, strings in the shape of `ids`; padding is the empty string."""
        with tf.device("CPU"):
            return tf.gather(self._names, ids)

    def fill(self, texts: Strings, representations: Strings) -> Strings:
        """Put the values of open classes where their placeholders are.

        Args:
            texts: `(batch, …)`.
            representations: `(batch,)`; the placeholder of an attribute that one lacks is removed.
        """

        def of_row(row: tuple[Strings, Strings]) -> Strings:
            text, representation = row
            for name, mark in self._marks():
                value = _value(representation, name)
                text = tf.strings.regex_replace(text, mark, tf.strings.regex_replace(value, r"\\", r"\\\\"))
            return text

        spec = tf.TensorSpec(texts.shape[1:], tf.string)
        return tf.map_fn(of_row, (texts, representations), fn_output_signature=spec)

    def abstract(self, texts: Strings, representations: Strings) -> Strings:
        """Put placeholders where the values of open classes are, in upper or lower case; the reverse of `fill`."""

        def of_row(row: tuple[Strings, Strings]) -> Strings:
            text, representation = row
            for name, mark in self._marks():
                value = _value(representation, name)
                pattern = tf.strings.join(["(?i)", tf.strings.regex_replace(value, r"([!-/:-@\[-`{-~])", r"\\\1")])
                text = tf.cond(value == "", lambda: text, lambda: tf.strings.regex_replace(text, pattern, mark))  # noqa: B023
            return text

        return tf.map_fn(of_row, (texts, representations), fn_output_signature=tf.TensorSpec([], tf.string))

    def _marks(self) -> list[tuple[str, str]]:
        return [(name, chr(_FIRST_PLACEHOLDER + index)) for index, name in enumerate(self.open_classes)]


def _value(representation: Strings, name: str) -> Strings:
    """Return the value of an attribute of a meaning representation, a scalar; "" if it has none."""
    pattern = rf"(?s)^(?:.*,)?\s*{re.escape(name)}\s*\[\s*([^\]]*?)\s*\].*$"
    has = tf.strings.regex_full_match(representation, pattern)
    return tf.where(has, tf.strings.regex_replace(representation, pattern, r"\1"), "")
