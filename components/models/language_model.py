"""Neural language models: what was read, as features; a softmax over the vocabulary; truncated back-propagation."""

import keras
import numpy as np
import tensorflow as tf

from trellis.components.layers.feature_scores import FeatureScores
from trellis.components.layers.peephole import PeepholeLSTM
from trellis.components.layers.stored_weights import Embedding
from trellis.components.layers.word_softmax import WordSoftmax
from trellis.components.models import recurrent_stack

CELLS = {**recurrent_stack.CELLS, "peephole": PeepholeLSTM}


class _Reader(keras.Model):
    """What all language models share: training on segments of text, and the distribution after what was read.

    A reader has `initial_states(batch)`, `read(tokens, states, lengths, training) -> features, states`,
    `log_probabilities(features)` and `token_log_probabilities(features, targets, training)`. Ids are 0 for padding;
    `boundary` ends a document and is read before its first word.
    """

    def __init__(self, vocabulary, boundary, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary, self.boundary = vocabulary, boundary
        self._loss = keras.metrics.Mean(name="loss")
        self._norm = keras.metrics.Mean(name="gradient_norm")
        self._clipped = keras.metrics.Mean(name="clipped")
        self._carried = None

    @property
    def metrics(self):
        return [self._loss, self._norm, self._clipped]

    def adapt(self, counts):
        """Starts from the unigram distribution; counts of each id, `(vocabulary,)`."""
        self.softmax.adapt(counts)

    def carry(self, rows):
        """Keeps the states of `rows` rows from one training step to the next."""
        # Plain variables: what is carried is no weight of the model.
        self._carried = [tf.Variable(state, trainable=False) for state in self.initial_states(rows)]

    def train_step(self, data):
        """One segment of each row.

        Args:
            data: `{"tokens": (rows, time)}` and, where states are carried, `"starts": (rows,)`, whether a document
                begins; and targets `(rows, time)`, 0 at padding.
        """
        inputs, targets = data
        if self._carried is None:
            states = self.initial_states(tf.shape(targets)[0])
        else:
            states = forgotten(self._carried, inputs["starts"])
        counted = tf.cast(targets != 0, tf.float32)
        tokens = tf.maximum(tf.reduce_sum(counted), 1.0)
        with tf.GradientTape() as tape:
            features, states = self.read(inputs["tokens"], states, training=True)
            nats = -self.token_log_probabilities(features, targets, training=True)
            loss = tf.reduce_sum(nats * counted) / tokens
            total = tf.add_n([loss, *self.losses])
            scaled = self.optimizer.scale_loss(total)
        if self._carried is not None:
            # Truncated here: no gradient reaches the segment before.
            for variable, state in zip(self._carried, states, strict=True):
                variable.assign(tf.stop_gradient(state))
        gradients = tape.gradient(scaled, [each.value for each in self.trainable_variables])
        norm, limit = tf.linalg.global_norm(gradients), self.optimizer.global_clipnorm
        self._norm.update_state(norm)
        self._clipped.update_state(0.0 if limit is None else tf.cast(norm > limit, tf.float32))
        self.optimizer.apply(gradients, self.trainable_variables)
        self._loss.update_state(loss, sample_weight=tokens)
        return {each.name: each.result() for each in self.metrics}

    def call(self, tokens, training=False):
        """Log-probabilities of each token of documents `(batch, time)`, in nats; 0 at padding."""
        before = tf.pad(tokens[:, :-1], [[0, 0], [1, 0]], constant_values=self.boundary)
        features, _ = self.read(before, self.initial_states(tf.shape(tokens)[0]), training=training)
        return tf.where(tokens == 0, 0.0, self.token_log_probabilities(features, tokens))

    def build(self, shape=None):
        """Makes all weights."""
        del shape
        if not self.built:
            features, _ = self.read(tf.ones([1, 1], tf.int32), self.initial_states(1))
            self.log_probabilities(features)
            self.built = True

    def log_probabilities(self, features):
        """Of every id after features `(…, dim)`: `(…, vocabulary)`."""
        return self.softmax(features)

    def token_log_probabilities(self, features, targets, training=False):
        """Of one id each: `(…)`."""
        return self.softmax.token_log_probabilities(features, targets, training)

    def get_config(self):
        return {"vocabulary": self.vocabulary, "boundary": self.boundary, "name": self.name, **self.settings}


def forgotten(states, starts):
    """States `(rows, …)` without those of the rows where something new starts."""
    keep = tf.logical_not(starts)[:, tf.newaxis]
    return [tf.where(keep, state, tf.zeros((), state.dtype)) for state in states]


class Windows:
    """Of readers that know the last `context` words alone: these are their state."""

    def initial_states(self, batch):
        return [tf.zeros([batch, self.context - 1], tf.int32)]

    def seen(self, tokens, states, lengths):
        """What stands before and in the segment, and the state after it."""
        seen = tf.concat([states[0], tf.cast(tokens, tf.int32)], axis=1)
        time = tf.shape(tokens)[1]
        ends = tf.fill([tf.shape(tokens)[0]], time) if lengths is None else tf.cast(lengths, tf.int32)
        after = tf.gather(seen, ends[:, tf.newaxis] + tf.range(self.context - 1), batch_dims=1)
        return seen, [after]


@keras.saving.register_keras_serializable("trellis")
class RecurrentLanguageModel(_Reader):
    """Mikolov et al. 2010 with SimpleRNN, Sundermeyer et al. 2012 with LSTM; GRU and peephole LSTM as well.

    Args:
        vocabulary: number of ids.
        boundary: id of the end of a document.
        cell: `rnn`, `lstm`, `gru` or `peephole`; layers: how many; units: of each.
        dim: width of the embeddings.
        dropout: rates `{"input", "between", "output", "recurrent"}`.
        tied: whether the softmax shares the embeddings; with other widths, features are first projected to `dim`.
        softmax: `{"kind", "samples", "cutoffs"}`, see `WordSoftmax`.
        backwards: told by the pipeline: texts are read from their ends.
    """

    def __init__(
        self,
        vocabulary,
        boundary=2,
        *,
        cell,
        layers,
        units,
        dim,
        dropout,
        tied,
        softmax,
        backwards=False,
        **kwargs,
    ):
        super().__init__(vocabulary, boundary, **kwargs)
        self.settings = {
            "cell": cell,
            "layers": layers,
            "units": units,
            "dim": dim,
            "dropout": dict(dropout),
            "tied": tied,
            "softmax": dict(softmax),
            "backwards": backwards,
        }
        self.units = units
        self.embedding = Embedding(
            vocabulary, dim, embeddings_initializer=keras.initializers.RandomUniform(-0.1, 0.1), name="embedding"
        )
        self.recurrent = [
            CELLS[cell](
                units,
                return_sequences=True,
                return_state=True,
                recurrent_dropout=dropout["recurrent"],
                name=f"{cell}_{depth + 1}",
            )
            for depth in range(layers)
        ]
        rates = [dropout["input"], *[dropout["between"]] * (layers - 1), dropout["output"]]
        self.dropouts = [keras.layers.Dropout(rate, name=f"dropout_{index}") for index, rate in enumerate(rates)]
        self.projection = keras.layers.Dense(dim, name="projection") if tied and dim != units else None
        self.softmax = WordSoftmax(vocabulary, embedding=self.embedding if tied else None, name="softmax", **softmax)
        self.states_a_layer = 2 if cell in ("lstm", "peephole") else 1
        self.build()

    def initial_states(self, batch):
        """Zeros: `(batch, units)` for each state of each layer."""
        dtype = self.embedding.compute_dtype
        return [tf.zeros([batch, self.units], dtype) for _ in range(self.states_a_layer * len(self.recurrent))]

    def read(self, tokens, states, lengths=None, training=False):
        """Reads on.

        Args:
            tokens: `(batch, time)` ids. states: of what was read before. lengths: `(batch,)` real tokens, or None.

        Returns:
            features `(batch, time, units)`, those after each token; and the states after the last real one.
        """
        mask = None if lengths is None else tf.sequence_mask(lengths, tf.shape(tokens)[1])
        one = tokens.shape[1] == 1 and mask is None and not training
        features, after = self.embedding(tokens), []
        for depth, layer in enumerate(self.recurrent):
            features = self.dropouts[depth](features, training=training)
            before = list(states[depth * self.states_a_layer :][: self.states_a_layer])
            if one:
                # A single token needs no loop over time.
                features, left = layer.cell(features[:, 0], before)
                features = features[:, tf.newaxis]
            else:
                features, *left = layer(features, initial_state=before, mask=mask, training=training)
            after += left
        if self.projection is not None:
            features = self.projection(features)
        return self.dropouts[-1](features, training=training), after


@keras.saving.register_keras_serializable("trellis")
class FeedForwardLanguageModel(Windows, _Reader):
    """The neural probabilistic language model of Bengio et al. 2003: the last words' embeddings, a hidden layer.

    Args:
        vocabulary, boundary, dim, tied, softmax: as of `RecurrentLanguageModel`.
        context: words that are looked at.
        units: of the hidden layer.
        dropout: rates `{"input", "output"}`.
    """

    def __init__(self, vocabulary, boundary=2, *, context, units, dim, dropout, tied, softmax, **kwargs):
        super().__init__(vocabulary, boundary, **kwargs)
        self.settings = {
            "context": context,
            "units": units,
            "dim": dim,
            "dropout": dict(dropout),
            "tied": tied,
            "softmax": dict(softmax),
        }
        self.context = context
        self.embedding = Embedding(
            vocabulary, dim, embeddings_initializer=keras.initializers.RandomUniform(-0.1, 0.1), name="embedding"
        )
        # One matrix over the concatenated embeddings of the context is a convolution over time.
        self.hidden = keras.layers.Conv1D(units, context, activation="tanh", name="hidden")
        self.projection = keras.layers.Dense(dim, name="projection") if tied and dim != units else None
        self.dropouts = [keras.layers.Dropout(dropout[name], name=f"{name}_dropout") for name in ("input", "output")]
        self.softmax = WordSoftmax(vocabulary, embedding=self.embedding if tied else None, name="softmax", **softmax)
        self.build()

    def read(self, tokens, states, lengths=None, training=False):
        """See `RecurrentLanguageModel.read`; the states are the last words."""
        seen, after = self.seen(tokens, states, lengths)
        features = self.dropouts[0](self.embedding(seen), training=training)
        features = self.dropouts[1](self.hidden(features), training=training)
        return features if self.projection is None else self.projection(features), after


@keras.saving.register_keras_serializable("trellis")
class MaximumEntropyLanguageModel(Windows, _Reader):
    """A log-linear model of the next word over features of the context (Rosenfeld 1996).

    Args:
        vocabulary, boundary: as of `RecurrentLanguageModel`.
        templates: which words of the context are features, `word[0]` being the last one read; see
            `trellis.components.text.templates`.
        words: how many of the most frequent words are told apart in contexts.
        buckets, l1, l2: see `FeatureScores`.
    """

    def __init__(self, vocabulary, boundary=2, *, templates, words, buckets, l1=0.0, l2=0.0, **kwargs):
        super().__init__(vocabulary, boundary, **kwargs)
        self.settings = {"templates": list(templates), "words": words, "buckets": buckets, "l1": l1, "l2": l2}
        self.words = min(words + 2, vocabulary)
        self.scores = FeatureScores(self.words, templates, vocabulary, buckets, l1, l2, name="scores")
        parsed = self.scores._parsed
        offsets = [offset for _, offset in (*parsed.singles, *(part for each in parsed.conjunctions for part in each))]
        if max(offsets) > 0:
            raise ValueError("model.templates: a language model may not look at words to come; offsets are at most 0")
        self.context = 1 - min(offsets)
        self.build()

    def read(self, tokens, states, lengths=None, training=False):
        """See `RecurrentLanguageModel.read`; features are the scores of all words already."""
        del training
        seen, after = self.seen(tokens, states, lengths)
        known = tf.where(seen < self.words, seen, 1)
        return self.scores(known[..., tf.newaxis])[:, self.context - 1 :], after

    def adapt(self, counts):
        """Starts from the unigram distribution; counts of each id, `(vocabulary,)`."""
        counts = np.asarray(counts, float) + 1.0
        self.scores.bias.assign(np.log(counts / counts.sum()))

    def log_probabilities(self, features):
        """Of every id: `(…, vocabulary)`."""
        return tf.nn.log_softmax(features + tf.one_hot(0, self.vocabulary, on_value=-1e9))

    def token_log_probabilities(self, features, targets, training=False):
        """Of one id each: `(…)`."""
        del training
        scores = features + tf.one_hot(0, self.vocabulary, on_value=-1e9)
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(targets, scores)
