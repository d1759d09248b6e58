"""The distribution over a vocabulary at the end of a language model: in full, sampled in training, or in two steps."""

import itertools

import keras
import numpy as np
import tensorflow as tf

KINDS = ("full", "sampled", "adaptive")
_NEVER = -1e9  # score of padding


@keras.saving.register_keras_serializable("trellis")
class WordSoftmax(keras.layers.Layer):
    """Log-probabilities of words, whose ids go from the most to the least frequent; id 0 is padding, never predicted.

    - `full`: one softmax over the vocabulary.
    - `sampled`: in training over the right word and `samples` others, drawn by frequency (Jean et al. 2015);
      otherwise in full.
    - `adaptive`: the frequent words in one softmax together with one entry a group of rarer words, whose own softmax
      is of narrower features, the rarer the narrower (Grave et al. 2017).

    Args:
        vocabulary: number of ids.
        kind: one of `KINDS`.
        samples: of `sampled`.
        cutoffs: of `adaptive`, the first id of each group of rarer words.
        embedding: a `keras.layers.Embedding` whose matrix is this layer's too (Press and Wolf 2017), or None.

    Features are `(…, dim)`.
    """

    def __init__(self, vocabulary, kind="full", samples=1024, cutoffs=(), embedding=None, **kwargs):
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r}: must be one of {', '.join(KINDS)}")
        if embedding is not None and kind == "adaptive":
            raise ValueError("an adaptive softmax has groups of its own widths: it cannot share the input embedding")
        self.vocabulary, self.kind, self.samples = vocabulary, kind, min(samples, vocabulary - 2)
        self.cutoffs = [each for each in cutoffs if each < vocabulary] if kind == "adaptive" else []
        # In a list of another kind than Keras's, as the weights belong to the other layer.
        self._tied = (embedding,) if embedding is not None else ()

    def build(self, shape):
        dim = shape[-1]
        small = keras.initializers.RandomUniform(-0.1, 0.1)
        head = (self.cutoffs[0] if self.cutoffs else self.vocabulary) + len(self.cutoffs)
        if not self._tied:
            self.kernel = self.add_weight(shape=(head, dim), initializer=small, name="kernel")
        self.bias = self.add_weight(shape=(head,), initializer="zeros", name="bias")
        self.tails = []
        bounds = [*self.cutoffs, self.vocabulary]
        for number, (first, end) in enumerate(itertools.pairwise(bounds), 1):
            narrow = max(8, dim // 4**number)
            self.tails.append(
                (
                    self.add_weight(shape=(dim, narrow), initializer="glorot_uniform", name=f"projection_{number}"),
                    self.add_weight(shape=(end - first, narrow), initializer=small, name=f"kernel_{number}"),
                )
            )
        self.built = True

    def adapt(self, counts):
        """Starts from how frequent words are: their logarithms are the biases.

        Without it a network first spends itself on saturating units that stand for frequencies.

        Args:
            counts: of each id, `(vocabulary,)`.
        """
        counts = np.asarray(counts, float) + 1.0
        first = self.cutoffs[0] if self.cutoffs else self.vocabulary
        groups = [counts[start:end].sum() for start, end in zip(self.cutoffs, [*self.cutoffs[1:], None], strict=False)]
        self.bias.assign(np.log(np.append(counts[:first], groups) / counts.sum()))

    def _head(self, features):
        kernel = tf.convert_to_tensor(self._tied[0].embeddings if self._tied else self.kernel)
        bias = tf.convert_to_tensor(self.bias)
        scores = tf.matmul(features, tf.cast(kernel, features.dtype), transpose_b=True)
        never = tf.one_hot(0, bias.shape[0], on_value=_NEVER)
        return tf.cast(scores, tf.float32) + (bias + never)

    def _tail(self, number, features):
        projection, kernel = (tf.cast(weight, features.dtype) for weight in self.tails[number])
        return tf.cast(tf.matmul(tf.matmul(features, projection), kernel, transpose_b=True), tf.float32)

    def log_probabilities(self, features):
        """Of every id: `(…, vocabulary)`, float32."""
        head = tf.nn.log_softmax(self._head(features))
        if not self.tails:
            return head
        first = self.cutoffs[0]
        parts = [head[..., :first]]
        for number in range(len(self.tails)):
            parts.append(head[..., first + number, tf.newaxis] + tf.nn.log_softmax(self._tail(number, features)))
        return tf.concat(parts, axis=-1)

    def token_log_probabilities(self, features, targets, training=False):
        """Of one id for each feature vector: `(…)`, float32; features `(…, dim)`, targets `(…)`."""
        shape = tf.shape(targets)
        features = tf.reshape(features, [-1, features.shape[-1]])
        targets = tf.reshape(tf.cast(targets, tf.int32), [-1])
        if self.kind == "sampled" and training:
            nats = self._sampled(features, targets)
        elif self.tails:
            nats = self._adaptive(features, targets)
        else:
            nats = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, self._head(features))
        return tf.reshape(-nats, shape)

    def _sampled(self, features, targets):
        kernel = tf.convert_to_tensor(self._tied[0].embeddings if self._tied else self.kernel)
        return tf.nn.sampled_softmax_loss(
            weights=kernel,
            biases=tf.convert_to_tensor(self.bias),
            labels=tf.cast(targets[:, tf.newaxis], tf.int64),
            inputs=tf.cast(features, tf.float32),
            num_sampled=self.samples,
            num_classes=self.vocabulary,
        )

    def _adaptive(self, features, targets):
        first = self.cutoffs[0]
        bounds = [*self.cutoffs, self.vocabulary]
        group = tf.reduce_sum(tf.cast(targets[:, tf.newaxis] >= bounds[:-1], tf.int32), axis=1)
        entry = tf.where(group > 0, first + group - 1, targets)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(entry, self._head(features))
        for number in range(len(self.tails)):
            rows = tf.where(group == number + 1)
            inside = tf.gather(targets, rows[:, 0]) - bounds[number]
            scores = self._tail(number, tf.gather(features, rows[:, 0]))
            own = tf.nn.sparse_softmax_cross_entropy_with_logits(inside, scores)
            nats += tf.scatter_nd(rows, own, tf.shape(nats, tf.int64))
        return nats

    def call(self, features):
        return self.log_probabilities(features)

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.vocabulary)
