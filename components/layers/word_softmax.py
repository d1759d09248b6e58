"""The distribution over a vocabulary at the end of a language model: in full, sampled in training, or in two steps."""

import itertools
from collections.abc import Sequence
from typing import Any, get_args

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trellis.components import choices
from trellis.components.types import Shape, Tensor

KINDS = get_args(choices.WordSoftmax)
_NEVER = -1e9  # score of padding


@keras.saving.register_keras_serializable("trellis")
class WordSoftmax(keras.layers.Layer):
    """Log-probabilities of words, whose ids are sorted from the most to the least frequent; id 0 is padding.

    Padding is never predicted. Kinds:

    - `full`: one softmax over the vocabulary.
    - `sampled`: in training, over the right word and `samples` others, drawn by frequency (Jean et al. 2015); otherwise
      in full.
    - `adaptive`: one softmax over the frequent words and one entry for each group of rarer words. Each group has its
      own softmax over narrower features, the rarer the narrower (Grave et al. 2017).

    Args:
        vocabulary: number of ids.
        kind: one of `KINDS`.
        samples: number of words that `sampled` draws.
        cutoffs: for `adaptive`, the first id of each group of rarer words.
        embedding: a `keras.layers.Embedding` whose matrix this layer shares (Press and Wolf 2017), or None.

    Input: features `(…, dim)`. Output: `(…, vocabulary)`, float32.
    """

    def __init__(
        self,
        vocabulary: int,
        kind: str = "full",
        samples: int = 1024,
        cutoffs: Sequence[int] = (),
        embedding: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r}: must be one of {', '.join(KINDS)}")
        if embedding is not None and kind == "adaptive":
            raise ValueError("an adaptive softmax has groups of different widths: it cannot share the input embedding")
        self.vocabulary, self.kind, self.samples = vocabulary, kind, min(samples, vocabulary - 2)
        self.cutoffs = [first for first in cutoffs if first < vocabulary] if kind == "adaptive" else []
        # In a tuple, which Keras does not track: the weights belong to the other layer.
        self._tied = (embedding,) if embedding is not None else ()

    def build(self, shape: Shape) -> None:
        dim = shape[-1]
        small = keras.initializers.RandomUniform(-0.1, 0.1)
        head = (self.cutoffs[0] if self.cutoffs else self.vocabulary) + len(self.cutoffs)
        if not self._tied:
            self.kernel = self.add_weight(shape=(head, dim), initializer=small, name="kernel")
        # Not cast to half precision: scores are float32.
        self.bias = self.add_weight(shape=(head,), initializer="zeros", name="bias", autocast=False)
        self.tails = []
        bounds = [*self.cutoffs, self.vocabulary]
        for group, (first, end) in enumerate(itertools.pairwise(bounds), 1):
            narrow = max(8, dim // 4**group)
            self.tails.append(
                (
                    self.add_weight(shape=(dim, narrow), initializer="glorot_uniform", name=f"projection_{group}"),
                    self.add_weight(shape=(end - first, narrow), initializer=small, name=f"kernel_{group}"),
                )
            )
        self.built = True

    def adapt(self, counts: npt.ArrayLike) -> None:
        """Initialise the biases with the log frequencies of the words.

        Otherwise a network spends its first steps on saturating units to represent frequencies.

        Args:
            counts: occurrences of each id, `(vocabulary,)`.
        """
        counts = np.asarray(counts, float) + 1.0
        first = self.cutoffs[0] if self.cutoffs else self.vocabulary
        groups = [counts[start:end].sum() for start, end in zip(self.cutoffs, [*self.cutoffs[1:], None], strict=False)]
        self.bias.assign(np.log(np.append(counts[:first], groups) / counts.sum()))

    def _head(self, features: Tensor) -> Tensor:
        """Return the scores of the frequent words, then of the groups."""
        kernel = tf.convert_to_tensor(self._tied[0].embeddings if self._tied else self.kernel)
        bias = tf.convert_to_tensor(self.bias)
        scores = tf.matmul(features, tf.cast(kernel, features.dtype), transpose_b=True)
        never = tf.one_hot(0, bias.shape[0], on_value=_NEVER)
        return tf.cast(scores, tf.float32) + (bias + never)

    def _tail(self, group: int, features: Tensor) -> Tensor:
        """Return the scores of the words of a group, counted from 0."""
        projection, kernel = (tf.cast(weight, features.dtype) for weight in self.tails[group])
        return tf.cast(tf.matmul(tf.matmul(features, projection), kernel, transpose_b=True), tf.float32)

    def scores(self, features: Tensor) -> Tensor:
        """Return log-probabilities up to a constant for each feature vector: `(…, vocabulary)`, float32."""
        return self.log_probabilities(features) if self.tails else self._head(features)

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Return the log-probability of every id: `(…, vocabulary)`, float32."""
        head = tf.nn.log_softmax(self._head(features))
        if not self.tails:
            return head
        first = self.cutoffs[0]
        parts = [head[..., :first]]
        for group in range(len(self.tails)):
            parts.append(head[..., first + group, tf.newaxis] + tf.nn.log_softmax(self._tail(group, features)))
        return tf.concat(parts, axis=-1)

    def token_log_probabilities(self, features: Tensor, targets: Tensor, training: bool = False) -> Tensor:
        """Return the log-probability of one id for each feature vector: `(…)`, float32.

        Args:
            features: `(…, dim)`.
            targets: `(…)` ids.
            training: sample, if the kind is `sampled`.
        """
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

    def excess_scores(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the score of each target less the mean score of all ids but padding: `(…)`, float32.

        `-log p(target) + ε × excess` is the cross-entropy with a distribution that gives the target `1 - ε` and spreads
        `ε` evenly (label smoothing, Szegedy et al. 2016). The mean score is the score of the mean row of the kernel, so
        nothing as large as the vocabulary is computed. For the kinds `full` and `sampled`.

        Args:
            features: `(…, dim)`.
            targets: `(…)` ids.
        """
        kernel = tf.convert_to_tensor(self._tied[0].embeddings if self._tied else self.kernel)
        features = tf.cast(features, tf.float32)
        rows = tf.gather(kernel, targets) - tf.reduce_mean(kernel[1:], axis=0)
        return tf.reduce_sum(features * rows, axis=-1) + tf.gather(self.bias, targets) - tf.reduce_mean(self.bias[1:])

    def _sampled(self, features: Tensor, targets: Tensor) -> Tensor:
        kernel = tf.convert_to_tensor(self._tied[0].embeddings if self._tied else self.kernel)
        return tf.nn.sampled_softmax_loss(
            weights=kernel,
            biases=tf.convert_to_tensor(self.bias),
            labels=tf.cast(targets[:, tf.newaxis], tf.int64),
            inputs=tf.cast(features, tf.float32),
            num_sampled=self.samples,
            num_classes=self.vocabulary,
        )

    def _adaptive(self, features: Tensor, targets: Tensor) -> Tensor:
        first = self.cutoffs[0]
        bounds = [*self.cutoffs, self.vocabulary]
        group = tf.reduce_sum(tf.cast(targets[:, tf.newaxis] >= bounds[:-1], tf.int32), axis=1)
        entry = tf.where(group > 0, first + group - 1, targets)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(entry, self._head(features))
        for index in range(len(self.tails)):
            rows = tf.where(group == index + 1)
            labels = tf.gather(targets, rows[:, 0]) - bounds[index]
            scores = self._tail(index, tf.gather(features, rows[:, 0]))
            within_group = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
            nats += tf.scatter_nd(rows, within_group, tf.shape(nats, tf.int64))
        return nats

    def call(self, features: Tensor) -> Tensor:
        return self.log_probabilities(features)

    def compute_output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.vocabulary)
