"""Word alignment models for both directions, trained by EM: an epoch of `fit` is an iteration."""

import keras
import tensorflow as tf

from trellis.components.alignment.directed_batch import DirectedBatch
from trellis.components.layers.ibm1 import IBM1
from trellis.components.layers.positions import Diagonal, Jumps, PositionTable, Uniform, add_to

STAGES = {"ibm1": Uniform, "ibm2": PositionTable, "fast_align": Diagonal, "hmm": Jumps}


def batch_cells(iterations, stepwise=None):
    """Pairs of words for a batch: many, but fewer where a lattice is to fit, or updates are to be many.

    Both are products of small primes, see `CoOccurrence`.
    """
    return 80_640 if "hmm" in iterations or stepwise else 1_774_080


@keras.saving.register_keras_serializable("trellis")
class WordAligner(keras.Model):
    """Source words generate target words, and the other way round.

    `fit` takes the batches of `CoOccurrence.dataset()`; the loss is the negative log-likelihood of both sides given
    the other one, in nats a word, before the epoch's update. Full-batch EM without prior never raises it as long as the
    stage stays the same and the directions do not have to agree.

    Args:
        pairs, source_words, target_words: sizes.
        iterations: `{"ibm1": 5, "hmm": 5}`: which models to train one after the other, each with the word translations
            of the one before, and for how many epochs; the last goes on for ever.
        agreement: count only links that both directions see (Liang, Taskar and Klein 2006).
        levels: `(pairs, source classes, target classes)` of each level of back-off, from coarse to fine.
        strength, concentration: see `IBM1`.
        null_probability: `{stage: probability}` where it is not the stage's own.
        stepwise: None for full-batch EM; else the power with which later batches count less (Liang and Klein 2009),
            above 0.5, at most 1.
        sizes: `(source length, target length)` of all sentence pairs; Model 2 alone wants them.
    """

    def __init__(
        self,
        pairs,
        source_words,
        target_words,
        iterations,
        agreement=False,
        levels=(),
        strength=0.0,
        concentration=0.0,
        null_probability=None,
        stepwise=None,
        sizes=(),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "pairs": pairs,
            "source_words": source_words,
            "target_words": target_words,
            "iterations": dict(iterations),
            "agreement": agreement,
            "levels": [list(level) for level in levels],
            "strength": strength,
            "concentration": concentration,
            "null_probability": dict(null_probability or {}),
            "stepwise": stepwise,
            "sizes": [list(size) for size in sizes],
        }
        self.sizes, self.agreement, self.stepwise = (pairs, source_words, target_words), agreement, stepwise
        self.iterations = dict(iterations)
        self.directions = []
        for forward, given, words in ((True, source_words, target_words), (False, target_words, source_words)):
            name = "forward" if forward else "reverse"
            of_direction = [(level[0], level[1 if forward else 2]) for level in levels]
            lexicon = IBM1(pairs, given, words, of_direction, strength, concentration, name=f"{name}_lexicon")
            positions = []
            for stage in self.iterations:
                options = {"name": f"{name}_{stage}"}
                if stage in (null_probability or {}):
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
    def metrics(self):
        return [self._loss]

    def adapt(self, words, levels=(), batches=1):
        """Takes over which words meet, `ClassPairs`s of `CoOccurrence`, and the number of batches of an epoch."""
        self.batches.assign(batches)
        for forward, (lexicon, *_) in zip((True, False), self.directions, strict=True):
            lexicon.adapt(words, levels, forward)

    def fit(self, x, callbacks=None, **kwargs):
        """As every `fit`; the tables are updated at the end of each epoch, or, stepwise, after each batch."""
        if "steps_per_epoch" not in kwargs and self._may_go_on(x):
            # To begin anew in every epoch takes tf.data a tenth of an iteration.
            kwargs["steps_per_epoch"], x = int(x.cardinality()), x.repeat()
        return super().fit(x, callbacks=[_Iteration(), *(callbacks or ())], **kwargs)

    def _may_go_on(self, dataset):
        """Whether no call of several steps and no replica would be given a batch of the next epoch."""
        steps = int(dataset.cardinality()) if isinstance(dataset, tf.data.Dataset) else 0
        alone = self.distribute_strategy.num_replicas_in_sync == 1
        return alone and steps > 0 and steps % self.steps_per_execution == 0

    def stage(self, trained=True):
        """Number of the stage of the last epoch that was trained, or of the one that comes; a scalar tensor."""
        epoch = tf.convert_to_tensor(self.done) - (1 if trained else 0)
        ends = tf.cumsum(list(self.iterations.values()))[:-1]
        return tf.reduce_sum(tf.cast(epoch >= ends, tf.int32))

    def _by_stage(self, branch, trained=False):
        if len(self.iterations) == 1:
            return branch(0)
        return tf.switch_case(self.stage(trained), [lambda n=n: branch(n) for n in range(len(self.iterations))])

    def call(self, batch):
        """Posteriors of links by the stage that was trained last, `(tokens, source)` forward and in reverse."""
        grids = self._grids(batch)
        return self._by_stage(lambda stage: [each.cells for each in self._posteriors(grids, stage)], trained=True)

    def _grids(self, batch):
        grid = DirectedBatch(batch, self.sizes)
        return grid, grid.reversed()

    def _posteriors(self, grids, stage):
        return [
            lexicon.posteriors(grid, positions[stage])
            for grid, (lexicon, *positions) in zip(grids, self.directions, strict=True)
        ]

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch):
        if isinstance(batch, tuple):
            (batch,) = batch
        grids = self._grids(batch)
        cells, null, nats, statistics = self._by_stage(lambda stage: self._expectation(grids, stage))
        weighted = self._fade() if self.stepwise else lambda counts: counts
        # Added outside of the choice of stages, inside of which replicas could not wait for each other.
        for grid, of_cells, of_null, each, (lexicon, *positions) in zip(
            grids, cells, null, statistics, self.directions, strict=True
        ):
            lexicon.count(grid, weighted(of_cells), weighted(of_null))
            learned = (position.counts for position in positions if position.counts is not None)
            for counts, values in zip(learned, each, strict=True):
                add_to(counts, weighted(values))
        if self.stepwise:
            self._by_stage(self._maximize)
            self.steps.assign_add(1.0)
        words = tf.add_n([tf.reduce_sum(grid.real) for grid in grids])
        self._loss.update_state(nats / words, sample_weight=words)
        return {"loss": self._loss.result()}

    def _expectation(self, grids, stage):
        """E-step: what to count of cells, of NULL and of every stage's positions, in both directions; and the nats."""
        both, statistics = self._posteriors(grids, stage), []
        for grid, posteriors, (_, *positions) in zip(grids, both, self.directions, strict=True):
            seen = positions[stage].statistics(grid, posteriors)
            learned = (position for position in positions if position.counts is not None)
            statistics.append([seen if p is positions[stage] else tf.zeros(p.counts.shape) for p in learned])
        cells = [posteriors.cells for posteriors in both]
        if self.agreement:
            cells = [cells[0] * cells[1]] * 2
        nats = -(both[0].log_likelihood + both[1].log_likelihood)
        return cells, [posteriors.null for posteriors in both], nats, statistics

    def _fade(self):
        """Makes what was counted before weigh less; a function that makes a batch weigh as if it were the corpus."""
        rate = (tf.convert_to_tensor(self.steps) + 2.0) ** -self.stepwise
        for lexicon, *positions in self.directions:
            for counts in (lexicon.counts, lexicon.null_counts, *(p.counts for p in positions if p.counts is not None)):
                counts.assign(counts * (1.0 - rate))
        weight = rate * tf.convert_to_tensor(self.batches)
        return lambda counts: counts * weight

    def reset_counts(self):
        for lexicon, *positions in self.directions:
            for each in (lexicon, *positions):
                each.reset_counts()

    def _maximize(self, stage):
        for lexicon, *positions in self.directions:
            lexicon.maximize()
            positions[stage].maximize()
        return tf.constant(0)

    @tf.function(autograph=False)
    def maximize(self):
        """M-step."""
        self._by_stage(self._maximize)

    def get_config(self):
        return {**self.settings, "name": self.name}


class _Iteration(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if not self.model.stepwise:
            self.model.reset_counts()

    def on_epoch_end(self, epoch, logs=None):
        if not self.model.stepwise:
            self.model.maximize()
        self.model.done.assign_add(1)
