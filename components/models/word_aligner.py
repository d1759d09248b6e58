"""Word alignment models for both directions, trained by EM: an epoch of `fit` is an iteration."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trellis.components import workers
from trellis.components.alignment.co_occurrence import ClassPairs
from trellis.components.alignment.directed_batch import DirectedBatch
from trellis.components.layers.ibm1 import IBM1
from trellis.components.layers.keras_class_weight import refuses_class_weight
from trellis.components.layers.positions import (
    Diagonal,
    Jumps,
    Positions,
    PositionTable,
    Posteriors,
    Uniform,
    add_to,
)
from trellis.components.types import JSON, Tensor, TensorTree

STAGES: dict[str, type[Positions]] = {"ibm1": Uniform, "ibm2": PositionTable, "fast_align": Diagonal, "hmm": Jumps}


def batch_cells(iterations: Iterable[str], stepwise: float | None = None) -> int:
    """Return the number of word pairs of a batch: large, but smaller to fit a lattice or to update often.

    Both numbers are products of small primes, see `CoOccurrence`.
    """
    return 80_640 if "hmm" in iterations or stepwise else 1_774_080


@refuses_class_weight
@keras.saving.register_keras_serializable("trellis")
class WordAligner(keras.Model):
    """Source words generate target words, and the other way round.

    `fit` takes the batches of `CoOccurrence.dataset()`; the loss is the negative log-likelihood of each side given the
    other, in nats per word, before the epoch's update. Full-batch EM without a prior never raises it as long as the
    stage stays the same and the directions need not agree.

    Args:
        pairs, source_words, target_words: the number of co-occurring pairs and the sizes of the vocabularies.
        iterations: `{"ibm1": 5, "hmm": 5}`: which models to train in turn, each starting from the word translations of
            the previous one, and for how many epochs; the last one takes all further epochs.
        agreement: count only links that both directions see (Liang, Taskar and Klein 2006).
        levels: `(pairs, source classes, target classes)` of each level of back-off, from coarse to fine.
        strength, concentration: see `IBM1`.
        null_probability: `{stage: probability}` where it is not the stage's default.
        stepwise: None for full-batch EM; otherwise the exponent by which later batches count less (Liang and Klein
            2009), above 0.5 and at most 1.
        sizes: `(source length, target length)` of all sentence pairs; only Model 2 needs them.
    """

    def __init__(
        self,
        pairs: int,
        source_words: int,
        target_words: int,
        iterations: Mapping[str, int],
        agreement: bool = False,
        levels: Iterable[Sequence[int]] = (),
        strength: float = 0.0,
        concentration: float = 0.0,
        null_probability: Mapping[str, float] | None = None,
        stepwise: float | None = None,
        sizes: Iterable[Sequence[int]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        levels, sizes = [list(level) for level in levels], [list(size) for size in sizes]
        null_probability = dict(null_probability or {})
        self.settings: JSON = {
            "pairs": pairs,
            "source_words": source_words,
            "target_words": target_words,
            "iterations": dict(iterations),
            "agreement": agreement,
            "levels": levels,
            "strength": strength,
            "concentration": concentration,
            "null_probability": null_probability,
            "stepwise": stepwise,
            "sizes": sizes,
        }
        self.sizes, self.agreement, self.stepwise = (pairs, source_words, target_words), agreement, stepwise
        self.iterations = dict(iterations)
        # For each direction the lexicon, then the positions of each stage.
        self.directions: list[list[Any]] = []
        for forward, given, words in ((True, source_words, target_words), (False, target_words, source_words)):
            name = "forward" if forward else "reverse"
            lexicon_levels = [(level[0], level[1 if forward else 2]) for level in levels]
            lexicon = IBM1(pairs, given, words, lexicon_levels, strength, concentration, name=f"{name}_lexicon")
            positions = []
            for stage in self.iterations:
                options: dict[str, Any] = {"name": f"{name}_{stage}"}
                if stage in null_probability:
                    options["null_probability"] = null_probability[stage]
                if stage == "ibm2":
                    options |= {"sizes": sizes, "forward": forward}
                positions.append(STAGES[stage](**options))
            self.directions.append([lexicon, *positions])
        self.done = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="iterations")
        self.batches = self.add_weight(shape=(), initializer="ones", trainable=False, name="batches")
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")
        self._loss = keras.metrics.Mean(name="loss")
        self.built = True

    @property
    def metrics(self) -> list[Any]:
        return [self._loss]

    def adapt(self, words: ClassPairs, levels: Iterable[ClassPairs] = (), batches: int = 1) -> None:
        """Store which words co-occur, and the number of batches in an epoch.

        Args:
            words: the pairs of words of the corpus.
            levels: the class pairs of each level of back-off, from coarse to fine.
        """
        levels = list(levels)
        self.batches.assign(batches)
        for forward, (lexicon, *_) in zip((True, False), self.directions, strict=True):
            lexicon.adapt(words, levels, forward)

    def fit(self, x: Any, callbacks: Sequence[keras.callbacks.Callback] | None = None, **kwargs: Any) -> Any:
        """Train as every `fit` does; the tables are updated after each epoch or, stepwise, after each batch."""
        if "steps_per_epoch" not in kwargs and self._can_repeat(x):
            # Starting a new iterator in every epoch takes tf.data a tenth of an iteration.
            kwargs["steps_per_epoch"], x = int(x.cardinality()), x.repeat()
        return super().fit(x, callbacks=[_Iteration(), *(callbacks or ())], **kwargs)

    def _can_repeat(self, dataset: Any) -> bool:
        """Return whether no call of several steps, and no replica, would reach into the next epoch."""
        steps = int(dataset.cardinality()) if isinstance(dataset, tf.data.Dataset) else 0
        alone = self.distribute_strategy.num_replicas_in_sync == 1
        return bool(alone and steps > 0 and steps % self.steps_per_execution == 0)

    def stage(self, trained: bool = True) -> Tensor:
        """Return the index of the stage of the last epoch that was trained, or of the next one; a scalar tensor."""
        epoch = tf.convert_to_tensor(self.done) - (1 if trained else 0)
        ends = tf.cumsum(list(self.iterations.values()))[:-1]
        return tf.reduce_sum(tf.cast(epoch >= ends, tf.int32))

    def _by_stage(self, branch: Callable[[int], TensorTree], trained: bool = False) -> TensorTree:
        """Return `branch(stage)` for the stage of the last epoch or of the next one."""
        if len(self.iterations) == 1:
            return branch(0)
        branches = [lambda index=index: branch(index) for index in range(len(self.iterations))]
        return tf.switch_case(self.stage(trained), branches)

    def call(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Return posteriors of links by the stage that was trained last, `(tokens, source)`, forward and reverse."""
        directed = self._both_directions(batch)

        def cells(stage: int) -> list[Tensor]:
            return [posteriors.cells for posteriors in self._posteriors(directed, stage)]

        links: list[Tensor] = self._by_stage(cells, trained=True)
        return links

    def _both_directions(self, batch: Mapping[str, Tensor]) -> tuple[DirectedBatch, DirectedBatch]:
        forward = DirectedBatch(batch, self.sizes)
        return forward, forward.reversed()

    def _posteriors(self, directed: Iterable[DirectedBatch], stage: int) -> list[Posteriors]:
        return [
            lexicon.posteriors(batch, positions[stage])
            for batch, (lexicon, *positions) in zip(directed, self.directions, strict=True)
        ]

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Any) -> dict[str, Tensor]:
        batch, *others = keras.utils.unpack_x_y_sample_weight(batch)
        if any(other is not None for other in others):
            raise ValueError("word alignment takes the batches of CoOccurrence.dataset(), without y and sample_weight")
        both = self._both_directions(batch)
        cells, null, nats, statistics = self._by_stage(lambda stage: self._expectation(both, stage))
        weighted = self._fade(self.stepwise) if self.stepwise else lambda counts: counts
        # Outside of the branches, because replicas cannot synchronize inside them.
        for directed, direction_cells, direction_null, values, (lexicon, *positions) in zip(
            both, cells, null, statistics, self.directions, strict=True
        ):
            lexicon.count(directed, weighted(direction_cells), weighted(direction_null))
            learned = (position.counts for position in positions if position.counts is not None)
            for counts, value in zip(learned, values, strict=True):
                add_to(counts, weighted(value))
        if self.stepwise:
            self._by_stage(self._maximize)
            self.steps.assign_add(1.0)
        words = tf.add_n([tf.reduce_sum(directed.real) for directed in both])
        self._loss.update_state(nats / words, sample_weight=words)
        return {"loss": self._loss.result()}

    def _expectation(
        self, both: Sequence[DirectedBatch], stage: int
    ) -> tuple[list[Tensor], list[Tensor], Tensor, list[list[Tensor]]]:
        """E-step: return what to count of cells, of NULL and of every stage's positions, by direction; and the nats."""
        posteriors, statistics = self._posteriors(both, stage), []
        for directed, of_direction, (_, *positions) in zip(both, posteriors, self.directions, strict=True):
            observed = positions[stage].statistics(directed, of_direction)
            learned = (position for position in positions if position.counts is not None)
            statistics.append(
                [observed if position is positions[stage] else tf.zeros(position.counts.shape) for position in learned]
            )
        forward, reverse = posteriors
        cells = [forward.cells, reverse.cells]
        if self.agreement:
            cells = [forward.cells * reverse.cells] * 2
        nats = -(forward.log_likelihood + reverse.log_likelihood)
        return cells, [forward.null, reverse.null], nats, statistics

    def _fade(self, exponent: float) -> Callable[[Tensor], Tensor]:
        """Decay all counts, and return a function that scales those of a batch as if it were the corpus."""
        rate = (tf.convert_to_tensor(self.steps) + 2.0) ** -exponent
        for lexicon, *positions in self.directions:
            learned = (position.counts for position in positions if position.counts is not None)
            for counts in (lexicon.counts, lexicon.null_counts, *learned):
                counts.assign(counts * (1.0 - rate))
        weight = rate * tf.convert_to_tensor(self.batches)
        return lambda counts: counts * weight

    def sum_counts(self) -> None:
        """End an E-step: add up the counts and the loss of all workers that train together."""
        parts = [part for direction in self.directions for part in direction]
        counts = [variable for part in parts for variable in part.variables if variable.name.endswith("counts")]
        workers.sum_variables([*counts, *self._loss.variables])

    def reset_counts(self) -> None:
        """Start an E-step."""
        for direction in self.directions:
            for part in direction:
                part.reset_counts()

    def _maximize(self, stage: int) -> Tensor:
        for lexicon, *positions in self.directions:
            lexicon.maximize()
            positions[stage].maximize()
        return tf.constant(0)

    @tf.function(autograph=False)
    def maximize(self) -> None:
        """M-step: update the tables of the current stage."""
        self._by_stage(self._maximize)

    def get_config(self) -> JSON:
        return {**self.settings, "name": self.name}


class _Iteration(keras.callbacks.Callback):
    """Make an epoch an iteration of EM."""

    def on_epoch_begin(self, epoch: int, logs: JSON | None = None) -> None:
        if not self.model.stepwise:
            self.model.reset_counts()

    def on_epoch_end(self, epoch: int, logs: JSON | None = None) -> None:
        if not self.model.stepwise:
            self.model.sum_counts()
            self.model.maximize()
        if workers.count() > 1 and logs is not None:  # for the callbacks that follow
            logs["loss"] = float(self.model.metrics[0].result())
        self.model.done.assign_add(1)
