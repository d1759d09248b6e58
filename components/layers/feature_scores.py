"""The scores of feature templates: the log-linear model under a classical CRF or MEMM (Lafferty et al. 2001)."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from trellis.components.text.templates import parse
from trellis.components.types import JSON, Shape, Tensor


@keras.saving.register_keras_serializable("trellis")
class FeatureScores(keras.layers.Layer):
    """Sum a weight for each tag over all features of a time step.

    A feature is the value of an attribute at an offset; each has its own weight for each tag. Conjunctions are hashed:
    the ids of their parts become one of `buckets` ids, so rare conjunctions may share weights.

    Args:
        vocabulary: number of attribute ids, 0 meaning no value.
        templates: as in a configuration, see `trellis.components.text.templates`.
        units: number of tags.
        buckets: number of hash buckets for each conjunction.
        l1, l2: penalties on the weights, for the whole table.

    Input: attribute ids `(batch, time, attributes)` in the order of the templates, 0 at padding.
    Output: `(batch, time, units)`.
    """

    def __init__(
        self,
        vocabulary: int,
        templates: Iterable[str],
        units: int,
        buckets: int = 2**18,
        l1: float = 0.0,
        l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary, self.templates, self.units = vocabulary, list(templates), units
        self.buckets, self.l1, self.l2 = buckets, l1, l2
        self._parsed = parse(self.templates)

    @property
    def offsets(self) -> list[int]:
        """The offset of each attribute that a template reads, conjunctions included."""
        parsed = self._parsed
        return [offset for _, offset in (*parsed.singles, *(part for parts in parsed.conjunctions for part in parts))]

    def build(self, shape: Shape) -> None:
        penalty = keras.regularizers.L1L2(self.l1, self.l2) if self.l1 or self.l2 else None

        def weight(name: str, *shape: int) -> Any:
            return self.add_weight(shape=shape, initializer="zeros", regularizer=penalty, name=name)

        self._offsets = sorted({offset for _, offset in self._parsed.singles})
        self._tables = [weight(f"offset_{offset}", self.vocabulary, self.units) for offset in self._offsets]
        conjunctions = range(len(self._parsed.conjunctions))
        self._hashed = [weight(f"conjunction_{index}", self.buckets, self.units) for index in conjunctions]
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.built = True

    def call(self, attributes: Tensor) -> Tensor:
        scores = self.bias + tf.zeros([*tf.unstack(tf.shape(attributes)[:2]), self.units], self.compute_dtype)
        for offset, table in zip(self._offsets, self._tables, strict=True):
            columns = [column for column, template_offset in self._parsed.singles if template_offset == offset]
            ids = _shifted(tf.gather(attributes, columns, axis=2), offset)
            known = tf.cast(ids != 0, self.compute_dtype)[..., tf.newaxis]
            scores += tf.reduce_sum(tf.gather(tf.convert_to_tensor(table), ids) * known, axis=2)
        for parts, table in zip(self._parsed.conjunctions, self._hashed, strict=True):
            key, known = tf.zeros(tf.shape(attributes)[:2], tf.int64), True
            for column, offset in parts:
                ids = _shifted(attributes[:, :, column], offset)
                key = key * 1_000_003 + tf.cast(ids, tf.int64)
                known &= ids != 0
            buckets = tf.cast(key * 0x9E3779B97F4A7C1 % self.buckets, tf.int32)
            rows = tf.gather(tf.convert_to_tensor(table), buckets)
            scores += rows * tf.cast(known, self.compute_dtype)[..., tf.newaxis]
        return scores

    def compute_output_shape(self, shape: Shape) -> Shape:
        return (*shape[:2], self.units)

    def get_config(self) -> JSON:
        return {
            **super().get_config(),
            "vocabulary": self.vocabulary,
            "templates": self.templates,
            "units": self.units,
            "buckets": self.buckets,
            "l1": self.l1,
            "l2": self.l2,
        }


def _shifted(ids: Tensor, offset: int) -> Tensor:
    """Return the ids `(batch, time, …)` of `offset` time steps later, 0 beyond the ends."""
    if offset == 0:
        return ids
    rest = [[0, 0]] * (ids.shape.rank - 2)
    if offset > 0:
        return tf.pad(ids, [[0, 0], [0, offset], *rest])[:, offset:]
    return tf.pad(ids, [[0, 0], [-offset, 0], *rest])[:, :offset]
