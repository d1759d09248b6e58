"""Entities of tagged texts, in graph, for the signatures of taggers."""

import tensorflow as tf

from trellis.components.layers.sequence_head import SequenceHead
from trellis.components.metrics.calibration import CERTAIN, Calibration
from trellis.components.text.offsets import Offsets
from trellis.components.text.segments_in_graph import FoundSegments, find_segments
from trellis.components.text.tag_schemes import Segments
from trellis.components.types import Emissions, Lengths, Strings, TagIds, Tensor


class EntityReader:
    """Reads the entities of tagged texts, in graph.

    Args:
        segments: how the tags form entities.
        calibration: turns posteriors into probabilities, and has the threshold of the entities to keep.
    """

    def __init__(self, segments: Segments, calibration: Calibration) -> None:
        self._segments, self._threshold = segments, calibration.threshold
        self._scales = [calibration.of(name) for name in segments.names]

    def read(
        self,
        head: SequenceHead,
        emissions: Emissions,
        lengths: Lengths,
        text: Strings,
        offsets: Offsets,
        threshold: Tensor,
    ) -> dict[str, Tensor]:
        """Return the entities of the best tags, in the order of the text.

        Args:
            head: chooses the tags.
            emissions: `(batch, time, tags)`.
            lengths: `(batch,)`.
            text: the texts, `(batch,)`.
            offsets: the offsets of their tokens.
            threshold: `(batch,)`: keep entities of at least this probability; negative: the export's own threshold.

        Returns:
            `count (batch,)`, the number of entities; and of each, padded to `(batch, entities)` with at least one
            column: `type`, `text`, `start`, `end`, `start_byte`, `end_byte`, `start_token`, `end_token`, `probability`.
        """
        found, posteriors = best_segments(head, emissions, lengths, head.decode(emissions, lengths), self._segments)
        clipped = tf.clip_by_value(tf.cast(posteriors, tf.float32), CERTAIN, 1 - CERTAIN)
        log_odds = tf.math.log(clipped) - tf.math.log1p(-clipped)
        slopes, shifts = (
            tf.gather(tf.constant(values, tf.float32), found.kinds)
            for values in ([1 / scale.temperature for scale in self._scales], [scale.offset for scale in self._scales])
        )
        probabilities = tf.sigmoid(log_odds * slopes + shifts)
        kept = probabilities >= tf.gather(tf.where(threshold < 0, self._threshold, threshold), found.rows)
        found, probabilities = found.only(kept), tf.boolean_mask(probabilities, kept)
        first, last = (tf.stack([found.rows, token], axis=1) for token in (found.starts, found.stops - 1))
        places = {
            "start": tf.gather_nd(offsets.start, first),
            "end": tf.gather_nd(offsets.end, last),
            "start_byte": tf.gather_nd(offsets.start_byte, first),
            "end_byte": tf.gather_nd(offsets.end_byte, last),
        }
        size = places["end_byte"] - places["start_byte"]
        values = {
            "type": tf.gather(tf.constant(self._segments.names), found.kinds),
            "text": tf.strings.substr(tf.gather(text, found.rows), places["start_byte"], size),
            **places,
            "start_token": found.starts,
            "end_token": found.stops,
            "probability": probabilities,
        }
        return {"count": found.counts, **{name: found.padded(each) for name, each in values.items()}}


def best_segments(
    head: SequenceHead, emissions: Emissions, lengths: Lengths, tags: TagIds, segments: Segments
) -> tuple[FoundSegments, Tensor]:
    """Return the segments of tags, and the posterior probability of each, `(found,)`.

    Args:
        head: the head that chose the tags.
        emissions: `(batch, time, tags)`, real time steps first.
        lengths: `(batch,)`.
        tags: `(batch, time)`.
        segments: how tags form segments.
    """
    found = find_segments(tags, lengths, segments)
    starts, stops, kinds = (found.padded(values) for values in (found.starts, found.stops, found.kinds))
    return found, found.flat(head.span_marginals(emissions, lengths, starts, stops, kinds, segments))


def widest(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cut what `EntityReader.read` returns to the row with the most entities."""
    width = tf.maximum(tf.reduce_max(outputs["count"]), 1)
    return {name: values if name == "count" else values[:, :width] for name, values in outputs.items()}
