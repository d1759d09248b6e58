"""Neural language models: features of the tokens read so far, a softmax, and truncated back-propagation."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trellis.components import workers
from trellis.components.layers.feature_scores import FeatureScores
from trellis.components.layers.keras_class_weight import refuses_class_weight
from trellis.components.layers.peephole import PeepholeLSTM
from trellis.components.layers.stored_weights import Embedding
from trellis.components.layers.word_softmax import WordSoftmax
from trellis.components.models import recurrent_stack
from trellis.components.types import JSON, Lengths, Shape, States, Tensor, TokenIds

CELLS = {**recurrent_stack.CELLS, "peephole": PeepholeLSTM}


class LanguageModel(keras.Model, abc.ABC):
    """The interface of all language models: read text, then return the distribution of the next token.

    Generation and exports use nothing else.

    Attributes:
        vocabulary: number of ids; 0 is padding and never predicted.
        boundary: id of the end of a document, which is also read before its first token.
    """

    vocabulary: int
    boundary: int

    @abc.abstractmethod
    def initial_states(self, batch: Tensor) -> States:
        """Return the states before anything was read, `(batch, …)` each."""

    @abc.abstractmethod
    def read(
        self, tokens: TokenIds, states: States, lengths: Lengths | None = None, training: bool = False
    ) -> tuple[Tensor, States]:
        """Read tokens, starting from the given states.

        Args:
            tokens: `(batch, time)` ids.
            states: from `initial_states`, or what an earlier call returned.
            lengths: `(batch,)` real tokens, or None if all are real.

        Returns:
            Features after each token, `(batch, time, …)`; and the states after the last real one.
        """

    @abc.abstractmethod
    def log_probabilities(self, features: Tensor) -> Tensor:
        """Return the log-probability of every id after features `(…, dim)`: `(…, vocabulary)`."""

    @abc.abstractmethod
    def token_log_probabilities(self, features: Tensor, targets: TokenIds, training: bool = False) -> Tensor:
        """Return the log-probability of one target `(…)` for each feature vector `(…, dim)`: `(…)`."""

    def call(self, tokens: TokenIds, training: bool = False) -> Tensor:
        """Return the log-probability of each token of documents `(batch, time)`, in nats; 0 at padding."""
        before = tf.pad(tokens[:, :-1], [[0, 0], [1, 0]], constant_values=self.boundary)
        features, _ = self.read(before, self.initial_states(tf.shape(tokens)[0]), training=training)
        return tf.where(tokens == 0, 0.0, self.token_log_probabilities(features, tokens))


class WindowLanguageModel(LanguageModel):
    """A language model that predicts from the last `context` tokens only.

    Its state is the last `context - 1` tokens that it has read.

    Attributes:
        context: number of tokens that features depend on.
    """

    context: int

    def initial_states(self, batch: Tensor) -> States:
        return [tf.zeros([batch, self.context - 1], tf.int32)]

    def extend(self, tokens: TokenIds, states: States, lengths: Lengths | None) -> tuple[TokenIds, States]:
        """Return the tokens of the state followed by those of the segment, and the state after it."""
        window = tf.concat([states[0], tf.cast(tokens, tf.int32)], axis=1)
        time = tf.shape(tokens)[1]
        ends = tf.fill([tf.shape(tokens)[0]], time) if lengths is None else tf.cast(lengths, tf.int32)
        after = tf.gather(window, ends[:, tf.newaxis] + tf.range(self.context - 1), batch_dims=1)
        return window, [after]


@refuses_class_weight
class TrainableLanguageModel(LanguageModel):
    """A language model that `fit` trains by gradient descent on segments of text.

    Subclasses set `settings` (their constructor arguments) and `softmax`.

    Args:
        vocabulary: number of ids.
        boundary: id of the end of a document.
    """

    built: bool
    settings: JSON
    softmax: WordSoftmax

    def __init__(self, vocabulary: int, boundary: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocabulary, self.boundary = vocabulary, boundary
        self._loss = keras.metrics.Mean(name="loss")
        self._norm = keras.metrics.Mean(name="gradient_norm")
        self._clipped = keras.metrics.Mean(name="clipped")
        self.carried: list[Any] = []

    @property
    def metrics(self) -> list[Any]:
        return [self._loss, self._norm, self._clipped]

    def adapt(self, counts: npt.ArrayLike) -> None:
        """Start from the unigram distribution.

        Args:
            counts: occurrences of each id, `(vocabulary,)`.
        """
        self.softmax.adapt(counts)

    def carry(self, rows: int) -> None:
        """Carry the states of `rows` rows from one training step to the next."""
        # Plain variables: what is carried is not a weight of the model.
        self.carried = [tf.Variable(state, trainable=False) for state in self.initial_states(rows)]

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Train on one segment of each row.

        Args:
            data: inputs, targets and optional weights. Inputs are `{"tokens": (rows, time)}` and, if states are
                carried, `"starts": (rows,)`, whether a document begins in each row. Targets are `(rows, time)`, 0 at
                padding. Weights are `(rows,)`.
        """
        inputs, targets, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if not self.carried:
            states = self.initial_states(tf.shape(targets)[0])
        else:
            states = reset_states(self.carried, inputs["starts"])
        weights = tf.cast(targets != 0, tf.float32)
        if sample_weight is not None:
            if sample_weight.shape.rank not in (1, None):
                raise ValueError(f"sample_weight has rank {sample_weight.shape.rank}, expected one weight per row")
            weights *= tf.cast(tf.ensure_shape(sample_weight, [None]), tf.float32)[:, tf.newaxis]
        tokens = workers.total(tf.reduce_sum(weights))
        tokens = tf.where(tokens > 0.0, tokens, 1.0)
        with tf.GradientTape() as tape:
            features, states = self.read(inputs["tokens"], states, training=True)
            nats = -self.token_log_probabilities(features, targets, training=True)
            loss = tf.reduce_sum(nats * weights) / tokens
            total = tf.add_n([loss, *self.losses]) - workers.surplus_penalty(self.trainable_variables)
            scaled = self.optimizer.scale_loss(total)
        if self.carried:
            # Back-propagation is truncated here: no gradient reaches the previous segment.
            for variable, state in zip(self.carried, states, strict=True):
                variable.assign(tf.stop_gradient(state))
        gradients = tape.gradient(scaled, [variable.value for variable in self.trainable_variables])
        *gradients, loss = workers.total([*gradients, loss])
        norm, limit = tf.linalg.global_norm(gradients), self.optimizer.global_clipnorm
        self._norm.update_state(norm)
        self._clipped.update_state(0.0 if limit is None else tf.cast(norm > limit, tf.float32))
        self.optimizer.apply(gradients, self.trainable_variables)
        self._loss.update_state(loss, sample_weight=tokens)
        return {metric.name: metric.result() for metric in self.metrics}

    def build(self, shape: Shape | None = None) -> None:
        """Create all weights."""
        del shape
        if not self.built:
            features, _ = self.read(tf.ones([1, 1], tf.int32), self.initial_states(1))
            self.log_probabilities(features)
            self.built = True

    def log_probabilities(self, features: Tensor) -> Tensor:
        return self.softmax(features)

    def token_log_probabilities(self, features: Tensor, targets: TokenIds, training: bool = False) -> Tensor:
        return self.softmax.token_log_probabilities(features, targets, training)

    def get_config(self) -> JSON:
        return {"vocabulary": self.vocabulary, "boundary": self.boundary, "name": self.name, **self.settings}


def reset_states(states: Sequence[Tensor], starts: Tensor) -> States:
    """Zero the states `(rows, …)` of the rows in which a document starts, `starts (rows,)`."""
    keep = tf.logical_not(starts)[:, tf.newaxis]
    return [tf.where(keep, state, tf.zeros((), state.dtype)) for state in states]


def _word_embedding(vocabulary: int, dim: int) -> Embedding:
    small = keras.initializers.RandomUniform(-0.1, 0.1)
    return Embedding(vocabulary, dim, embeddings_initializer=small, name="embedding")


@keras.saving.register_keras_serializable("trellis")
class RecurrentLanguageModel(TrainableLanguageModel):
    """A recurrent language model: SimpleRNN (Mikolov et al. 2010), LSTM (Sundermeyer et al. 2012), GRU, peephole LSTM.

    Args:
        vocabulary: number of ids.
        boundary: id of the end of a document.
        cell: `rnn`, `lstm`, `gru` or `peephole`.
        layers: number of recurrent layers.
        units: width of each.
        dim: width of the embeddings.
        dropout: rates `{"input", "between", "output", "recurrent"}`.
        tied: whether the softmax shares the embeddings; if their widths differ, features are first projected to `dim`.
        softmax: `{"kind", "samples", "cutoffs"}`, see `WordSoftmax`.
        backwards: whether the model reads texts from their ends. The pipeline reverses the texts; the model only stores
            this flag.
    """

    def __init__(
        self,
        vocabulary: int,
        boundary: int = 2,
        *,
        cell: str,
        layers: int,
        units: int,
        dim: int,
        dropout: Mapping[str, float],
        tied: bool,
        softmax: Mapping[str, Any],
        backwards: bool = False,
        **kwargs: Any,
    ) -> None:
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
        self.embedding = _word_embedding(vocabulary, dim)
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
        self.states_per_layer = 2 if cell in ("lstm", "peephole") else 1
        self.build()

    def initial_states(self, batch: Tensor) -> States:
        """Return zeros `(batch, units)` for each state of each layer."""
        dtype = self.embedding.compute_dtype
        return [tf.zeros([batch, self.units], dtype) for _ in range(self.states_per_layer * len(self.recurrent))]

    def read(
        self, tokens: TokenIds, states: States, lengths: Lengths | None = None, training: bool = False
    ) -> tuple[Tensor, States]:
        mask = None if lengths is None else tf.sequence_mask(lengths, tf.shape(tokens)[1])
        is_one_step = tokens.shape[1] == 1 and mask is None and not training
        features, after = self.embedding(tokens), []
        for depth, layer in enumerate(self.recurrent):
            features = self.dropouts[depth](features, training=training)
            before = list(states[depth * self.states_per_layer :][: self.states_per_layer])
            if is_one_step:
                # A single token needs no loop over time.
                features, layer_states = layer.cell(features[:, 0], before)
                features = features[:, tf.newaxis]
            else:
                features, *layer_states = layer(features, initial_state=before, mask=mask, training=training)
            after += layer_states
        if self.projection is not None:
            features = self.projection(features)
        return self.dropouts[-1](features, training=training), after


@keras.saving.register_keras_serializable("trellis")
class FeedForwardLanguageModel(WindowLanguageModel, TrainableLanguageModel):
    """The neural probabilistic language model of Bengio et al. 2003: the last words' embeddings, a hidden layer.

    Args:
        vocabulary, boundary, dim, tied, softmax: as for `RecurrentLanguageModel`.
        context: number of previous words that predict the next one.
        units: width of the hidden layer.
        dropout: rates `{"input", "output"}`.
    """

    def __init__(
        self,
        vocabulary: int,
        boundary: int = 2,
        *,
        context: int,
        units: int,
        dim: int,
        dropout: Mapping[str, float],
        tied: bool,
        softmax: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
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
        self.embedding = _word_embedding(vocabulary, dim)
        # One matrix over the concatenated embeddings of the context is a convolution over time.
        self.hidden = keras.layers.Conv1D(units, context, activation="tanh", name="hidden")
        self.projection = keras.layers.Dense(dim, name="projection") if tied and dim != units else None
        self.dropouts = [keras.layers.Dropout(dropout[name], name=f"{name}_dropout") for name in ("input", "output")]
        self.softmax = WordSoftmax(vocabulary, embedding=self.embedding if tied else None, name="softmax", **softmax)
        self.build()

    def read(
        self, tokens: TokenIds, states: States, lengths: Lengths | None = None, training: bool = False
    ) -> tuple[Tensor, States]:
        window, after = self.extend(tokens, states, lengths)
        features = self.dropouts[0](self.embedding(window), training=training)
        features = self.dropouts[1](self.hidden(features), training=training)
        return features if self.projection is None else self.projection(features), after


@keras.saving.register_keras_serializable("trellis")
class MaximumEntropyLanguageModel(WindowLanguageModel, TrainableLanguageModel):
    """A log-linear model of the next word over features of the context (Rosenfeld 1996).

    Its features, in the sense of `LanguageModel.read`, are the scores of all words.

    Args:
        vocabulary, boundary: as for `RecurrentLanguageModel`.
        templates: which words of the context are features, `word[0]` being the last one read; see
            `trellis.components.text.templates`.
        words: number of the most frequent words that contexts distinguish.
        buckets, l1, l2: see `FeatureScores`.
    """

    def __init__(
        self,
        vocabulary: int,
        boundary: int = 2,
        *,
        templates: Sequence[str],
        words: int,
        buckets: int,
        l1: float = 0.0,
        l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocabulary, boundary, **kwargs)
        self.settings = {"templates": list(templates), "words": words, "buckets": buckets, "l1": l1, "l2": l2}
        self.words = min(words + 2, vocabulary)
        self.scores = FeatureScores(self.words, templates, vocabulary, buckets, l1, l2, name="scores")
        offsets = self.scores.offsets
        if max(offsets) > 0:
            raise ValueError("model.templates: a language model cannot read words to come; offsets must be at most 0")
        self.context = 1 - min(offsets)
        self.build()

    def read(
        self, tokens: TokenIds, states: States, lengths: Lengths | None = None, training: bool = False
    ) -> tuple[Tensor, States]:
        del training
        window, after = self.extend(tokens, states, lengths)
        known = tf.where(window < self.words, window, 1)
        return self.scores(known[..., tf.newaxis])[:, self.context - 1 :], after

    def adapt(self, counts: npt.ArrayLike) -> None:
        counts = np.asarray(counts, float) + 1.0
        self.scores.bias.assign(np.log(counts / counts.sum()))

    def _without_padding(self, scores: Tensor) -> Tensor:
        return tf.cast(scores, tf.float32) + tf.one_hot(0, self.vocabulary, on_value=-1e9)

    def log_probabilities(self, features: Tensor) -> Tensor:
        return tf.nn.log_softmax(self._without_padding(features))

    def token_log_probabilities(self, features: Tensor, targets: TokenIds, training: bool = False) -> Tensor:
        del training
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(targets, self._without_padding(features))
