"""A recurrent decoder with attention: training with teacher forcing, and decoding step by step.

The decoder attends to a `Memory`, which has a vector for each source position. Subclasses compute it from a text
(`Translator`) or from attributes (`VectorToText`).
"""

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trellis.components import workers
from trellis.components.layers.attention import Attention
from trellis.components.layers.keras_class_weight import refuses_class_weight
from trellis.components.layers.stored_weights import Embedding
from trellis.components.layers.word_dropout import WordDropout
from trellis.components.layers.word_softmax import WordSoftmax
from trellis.components.models.penalties import Coverage, Penalty, is_off
from trellis.components.models.recurrent_stack import CELLS
from trellis.components.text.subwords import BEGIN
from trellis.components.types import JSON, Mask, Shape, States, Tensor, TokenIds


class Memory(NamedTuple):
    """What a decoder attends to.

    Attributes:
        values: `(batch, source, dim)`.
        keys: `Attention.keys` of them, `(batch, source, width)`.
        mask: `(batch, source)`, True at real positions.
        source: the ids that were read, `(batch, source)`.
    """

    values: Tensor
    keys: Tensor
    mask: Mask
    source: TokenIds


class Decoded(NamedTuple):
    """What a decoder returns.

    Attributes:
        features: `(batch, time, dim)`, for the softmax.
        weights: attention `(batch, time, source)`; None without attention.
        states: those after the last time step, `(batch, units)` each.
    """

    features: Tensor
    weights: Any
    states: States


@refuses_class_weight
class EncoderDecoder(keras.Model, abc.ABC):
    """A decoder of recurrent layers that attends to a memory.

    The first layer reads the embedding of the previous token. The output of the first or of the last layer is the query
    of attention (`attend_after`), and the layers after it also read the context. The softmax reads the last layer, the
    context and the embedding.

    With input feeding, the first layer also reads the features of the previous step (Luong et al. 2015), so training is
    a loop over time. Without it, each layer computes all time steps in one call.

    Args:
        vocabulary: number of target ids; 0 is padding.
        decoder: `{"cell", "layers", "units", "attend_after", "input_feeding"}`.
        attention: `{"kind", "units", "window"}`; kind `none` for a decoder that only starts from the encoder's last
            state (Sutskever et al. 2014).
        dim: width of the embeddings.
        dropout: rates `{"word", "input", "between", "recurrent", "output"}`.
        tied: whether the softmax shares the target embeddings.
        label_smoothing: share of the probability of each target that is spread evenly over all words.

    Attributes:
        attention: None without attention.
        state_sizes: the width of each state of the decoder.
    """

    built: bool
    attention: Any

    def __init__(
        self,
        vocabulary: int,
        *,
        decoder: Mapping[str, Any],
        attention: Mapping[str, Any],
        dim: int,
        dropout: Mapping[str, float],
        tied: bool,
        label_smoothing: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary, self.dim, self.smoothing = vocabulary, dim, label_smoothing
        self.settings: JSON = {
            "decoder": dict(decoder),
            "attention": dict(attention),
            "dim": dim,
            "dropout": dict(dropout),
            "tied": tied,
            "label_smoothing": label_smoothing,
        }
        self.feeds, self.attends_first = decoder["input_feeding"], decoder["attend_after"] == "first"
        if self.feeds and dropout["recurrent"]:
            raise ValueError("model.dropout.recurrent: must be 0 with model.decoder.input_feeding")
        self.embedding = scaled_embedding(vocabulary, dim, "target_embedding")
        self.layers_of_decoder = [
            CELLS[decoder["cell"]](
                decoder["units"],
                return_sequences=True,
                return_state=True,
                recurrent_dropout=dropout["recurrent"],
                name=f"decoder_{depth + 1}",
            )
            for depth in range(decoder["layers"])
        ]
        states_per_layer = 2 if decoder["cell"] == "lstm" else 1
        self.states_per_layer = states_per_layer
        self.state_sizes = [decoder["units"]] * (states_per_layer * decoder["layers"])
        self.bridge = keras.layers.Dense(sum(self.state_sizes), activation="tanh", name="bridge")
        self.attention = None if attention["kind"] == "none" else Attention(**attention, name="attention")
        self.units = decoder["units"]
        self.readout = keras.layers.Dense(dim, activation="tanh", name="readout")
        self.softmax = WordSoftmax(vocabulary, embedding=self.embedding if tied else None, name="softmax")
        self.word_dropout = WordDropout(dropout["word"], name="word_dropout")
        self.input_dropout = keras.layers.Dropout(dropout["input"], name="input_dropout")
        self.between_dropout = keras.layers.Dropout(dropout["between"], name="between_dropout")
        self.output_dropout = keras.layers.Dropout(dropout["output"], name="output_dropout")
        self._guide: tuple[float, float, str, int] | None = None
        self._loss = keras.metrics.Mean(name="loss")
        self._norm = keras.metrics.Mean(name="gradient_norm")

    @property
    def metrics(self) -> list[Any]:
        return [self._loss, self._norm]

    def build(self, shape: Shape | None = None) -> None:
        """Create all weights."""
        del shape
        if not self.built:
            one = tf.ones([1, 1], tf.int32)
            self.log_probabilities(self.force(one, tf.ones([1, 2], tf.int32)).features)
            self.built = True

    @abc.abstractmethod
    def encode(self, source: Tensor, training: bool = False) -> tuple[Memory, States]:
        """Return what the decoder attends to, and the states it starts from.

        Args:
            source: ids `(batch, source)`, 0 at padding.
        """

    def remember(self, values: Tensor, mask: Mask, source: TokenIds, summary: Tensor) -> tuple[Memory, States]:
        """Return the memory and the first states of the decoder.

        Args:
            values: `(batch, source, dim)`.
            mask, source: `(batch, source)`.
            summary: `(batch, width)`, from which the first states are computed.
        """
        states = tf.split(self.bridge(summary), self.state_sizes, axis=-1)
        if self.feeds:
            states.append(tf.zeros([tf.shape(summary)[0], self.dim], summary.dtype))
        keys = values if self.attention is None else self.attention.keys(values)
        return Memory(values, keys, mask, source), states

    def penalties(self, memory: Memory, coverage: float | Tensor = 0.0) -> list[Penalty]:
        """Return what is added to the scores of hypotheses about sources.

        Args:
            memory: from `encode`.
            coverage: weight of `Coverage`; without attention there is none.
        """
        return [] if self.attention is None or is_off(coverage) else [Coverage(memory.mask, coverage)]

    def embed(self, tokens: TokenIds, embedding: Embedding, training: bool) -> Tensor:
        """Return embeddings `(batch, time, dim)`, scaled to a variance of 1."""
        vectors = embedding(self.word_dropout(tokens, training=training))
        return self.input_dropout(vectors * tf.cast(self.dim**0.5, vectors.dtype), training=training)

    def decode(self, tokens: TokenIds, memory: Memory, states: States, training: bool = False) -> Decoded:
        """Read target tokens.

        Args:
            tokens: `(rows, time)`, the token before each one to predict. If `time` is 1, a row of the memory may have
                several rows here, which follow each other.
            memory: from `encode`.
            states: `(rows, units)` each.
        """
        embedded = self.embed(tokens, self.embedding, training)
        if tokens.shape[1] == 1 and not training:
            features, weights, states = self._step(embedded[:, 0], memory, states, training)
            return Decoded(features[:, tf.newaxis], None if weights is None else weights[:, tf.newaxis], states)
        if self.feeds:
            return self._loop(embedded, memory, states, training)
        hidden, context, weights = embedded, None, None
        after: States = []
        for depth, layer in enumerate(self.layers_of_decoder):
            before = states[depth * self.states_per_layer :][: self.states_per_layer]
            hidden, *layer_states = layer(hidden, initial_state=before, training=training)
            after += layer_states
            if self._attends_after(depth):
                context, weights = self.attention(hidden, memory.values, memory.keys, memory.mask)
            if depth + 1 < len(self.layers_of_decoder):
                if context is not None:
                    hidden = tf.concat([hidden, context], axis=-1)
                hidden = self.between_dropout(hidden, training=training)
        return Decoded(self._features(hidden, context, embedded, training), weights, after)

    def _attends_after(self, depth: int) -> bool:
        return self.attention is not None and depth == (0 if self.attends_first else len(self.layers_of_decoder) - 1)

    def _features(self, hidden: Tensor, context: Tensor | None, embedded: Tensor, training: bool) -> Tensor:
        parts = [self.output_dropout(hidden, training=training), embedded]
        if context is not None:
            parts.insert(1, context)
        return self.output_dropout(self.readout(tf.concat(parts, axis=-1)), training=training)

    def _step(
        self, embedded: Tensor, memory: Memory, states: States, training: bool
    ) -> tuple[Tensor, Tensor | None, States]:
        """Return features `(rows, dim)`, attention `(rows, source)` and the states after one time step."""
        hidden, context, weights = embedded, None, None
        after: States = []
        if self.feeds:
            hidden = tf.concat([hidden, states[-1]], axis=-1)
        batch = tf.shape(memory.mask)[0]
        for depth, layer in enumerate(self.layers_of_decoder):
            before = list(states[depth * self.states_per_layer :][: self.states_per_layer])
            hidden, layer_states = layer.cell(hidden, before)
            after += layer_states if isinstance(layer_states, (list, tuple)) else [layer_states]
            if self._attends_after(depth):
                # Rows of the same source are queries of one memory.
                query = tf.reshape(hidden, [batch, -1, self.units])
                context, weights = self.attention(query, memory.values, memory.keys, memory.mask)
                context = tf.reshape(context, [-1, memory.values.shape[-1]])
                weights = tf.reshape(weights, [-1, tf.shape(memory.mask)[1]])
            if depth + 1 < len(self.layers_of_decoder):
                if context is not None:
                    hidden = tf.concat([hidden, context], axis=-1)
                hidden = self.between_dropout(hidden, training=training)
        features = self._features(hidden, context, embedded, training)
        return features, weights, after + ([features] if self.feeds else [])

    def _loop(self, embedded: Tensor, memory: Memory, states: States, training: bool) -> Decoded:
        """Decode step by step; each step reads the features of the one before."""
        time = tf.shape(embedded)[1]
        steps = tf.transpose(embedded, [1, 0, 2])
        attends = self.attention is not None

        def body(step: Tensor, states: States, features: Tensor, weights: Tensor) -> tuple[Any, ...]:
            now, attended, states = self._step(steps[step], memory, states, training)
            if attends:
                weights = weights.write(step, attended)
            return step + 1, states, features.write(step, now), weights

        arrays = [tf.TensorArray(embedded.dtype, time) for _ in range(2)]
        _, states, features, weights = tf.while_loop(
            lambda step, *_: step < time, body, (0, list(states), *arrays), maximum_iterations=time
        )
        features = tf.transpose(features.stack(), [1, 0, 2])
        features.set_shape([None, None, self.dim])
        return Decoded(features, tf.transpose(weights.stack(), [1, 0, 2]) if attends else None, list(states))

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Return the log-probability of every id after features `(…, dim)`: `(…, vocabulary)`."""
        return self.softmax(features)

    def force(self, source: Tensor, target: TokenIds, training: bool = False) -> Decoded:
        """Decode with teacher forcing: each step reads the true token before it. Targets are `(batch, time)`."""
        memory, states = self.encode(source, training)
        before = tf.pad(target[:, :-1], [[0, 0], [1, 0]], constant_values=BEGIN)
        return self.decode(before, memory, states, training)

    def call(self, inputs: Mapping[str, Tensor], training: bool = False) -> Tensor:
        """Return the log-probability of each token of targets `(batch, time)`, in nats; 0 at padding.

        Args:
            inputs: `{"source", "target"}`; targets include their end.
        """
        target = inputs["target"]
        features = self.force(inputs["source"], target, training).features
        return tf.where(target == 0, 0.0, self.softmax.token_log_probabilities(features, target, training))

    def guide(self, weight: float, decay: float, cost: str, steps: int) -> None:
        """Train attention towards the weights that batches have as "guide" (Chen et al. 2016).

        Args:
            weight: factor on the cost of attention, which is divided by the number of target tokens.
            decay: factor on the weight after each epoch.
            cost: `cross_entropy` or `squared`.
            steps: number of batches in an epoch.
        """
        self._guide = weight, decay, cost, steps

    def _cost_of_attention(self, weights: Tensor, guide: Tensor) -> Tensor:
        """Return the sum of the costs of all guided tokens; both `(batch, time, source)`."""
        weight, decay, cost, steps = self._guide or (0.0, 1.0, "cross_entropy", 1)
        weights = tf.cast(weights, tf.float32)
        if cost == "cross_entropy":
            costs = -guide * tf.math.log(weights + 1e-9)
        else:
            guided = tf.reduce_max(guide, axis=-1, keepdims=True) > 0
            costs = tf.where(guided, tf.square(weights - guide), 0.0)
        epoch = tf.cast(self.optimizer.iterations // steps, tf.float32)
        return weight * tf.pow(decay, epoch) * tf.reduce_sum(costs)

    def fit(self, x: Any = None, y: Any = None, *args: Any, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Train as every `fit` does, on inputs `{"source", "target"}` alone.

        Raises:
            ValueError: `y` or `sample_weight` is given.
        """
        # Without `y`, Keras would silently ignore sample weights.
        _require_inputs_alone(y, sample_weight)
        return super().fit(x, y, *args, **kwargs)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Train on one batch `{"source", "target"}`, or with "guide" too; the loss is nats per target token."""
        inputs, *others = keras.utils.unpack_x_y_sample_weight(data)
        _require_inputs_alone(*others)
        target = inputs["target"]
        real = tf.where(target != 0)
        tokens = tf.maximum(workers.total(tf.cast(tf.shape(real)[0], tf.float32)), 1.0)
        with tf.GradientTape() as tape:
            decoded = self.force(inputs["source"], target, training=True)
            # The softmax, the largest product, is computed only for real tokens.
            features, ids = tf.gather_nd(decoded.features, real), tf.gather_nd(target, real)
            nats = tf.reduce_sum(-self.softmax.token_log_probabilities(features, ids, training=True)) / tokens
            loss = nats
            if self.smoothing:
                loss += self.smoothing * tf.reduce_sum(self.softmax.excess_scores(features, ids)) / tokens
            if self._guide is not None:
                loss += self._cost_of_attention(decoded.weights, inputs["guide"]) / tokens
            total = tf.add_n([loss, *self.losses]) - workers.surplus_penalty(self.trainable_variables)
            scaled = self.optimizer.scale_loss(total)
        gradients = tape.gradient(scaled, [variable.value for variable in self.trainable_variables])
        *gradients, nats = workers.total([*gradients, nats])
        self._norm.update_state(tf.linalg.global_norm(gradients))
        self.optimizer.apply(gradients, self.trainable_variables)
        self._loss.update_state(nats, sample_weight=tokens)
        return {metric.name: metric.result() for metric in self.metrics}

    def get_config(self) -> JSON:
        return {"vocabulary": self.vocabulary, "name": self.name, **self.settings}


def _require_inputs_alone(y: Any, sample_weight: Any) -> None:
    """Raise a ValueError for what training would ignore."""
    if y is not None or sample_weight is not None:
        raise ValueError('training takes {"source": …, "target": …}, without y and sample_weight')


def scaled_embedding(vocabulary: int, dim: int, name: str) -> Embedding:
    """Return an embedding whose rows have a length of about 1."""
    initializer = keras.initializers.RandomNormal(stddev=dim**-0.5)
    return Embedding(vocabulary, dim, embeddings_initializer=initializer, name=name)
