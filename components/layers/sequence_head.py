"""The last layer of a tagger: emissions in, tags out, with a loss that knows how the tags were scored."""

import keras
import tensorflow as tf
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

_SCORED_BY = "_trellis_scored_by"


class SequenceHead(keras.layers.Layer):
    """Base of the layers that turn emissions into tags.

    Its output is the best tag of each time step, int32; what the loss needs besides (the emissions and this layer's
    own weights) rides on the output tensor, as Keras's own masks do, so that

        model.compile("adam", loss=NegativeLogLikelihood())

    works in functional and subclassed models alike. Decoding costs nothing in training: no gradient and no loss
    reads the tags, so TensorFlow leaves those operations out of the graph.

    Call arguments:
        emissions: `(batch, time, tags)` scores.
        mask: `(batch, time)` booleans, True at real time steps, padding on the right; None means no padding.

    Output: `(batch, time)` int32 tags, 0 at padded positions.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, emissions, mask=None):
        lengths = lengths_of(emissions, mask)
        tags = self.decode(emissions, lengths)
        setattr(tags, _SCORED_BY, (self, emissions, lengths))
        return tags

    def compute_output_spec(self, emissions, mask=None):
        return keras.KerasTensor(emissions.shape[:-1], dtype="int32")

    def compute_output_shape(self, emissions_shape):
        return emissions_shape[:-1]

    def compute_mask(self, inputs, mask=None):
        return mask

    def decode(self, emissions, lengths):
        """Best tags `(batch, time)` int32 of `emissions (batch, time, tags)` with `lengths (batch,)`."""
        raise NotImplementedError

    def marginals(self, emissions, lengths):
        """Posterior probability of each tag: `(batch, time, tags)`, zero at padded positions."""
        raise NotImplementedError

    def negative_log_likelihood(self, emissions, tags, lengths):
        """`(batch,)` nats of the gold `tags (batch, time)`; 0 for a sequence of length 0."""
        raise NotImplementedError


def lengths_of(emissions, mask):
    """Number of real time steps of each sequence, `(batch,)` int32."""
    if mask is None:
        shape = tf.shape(emissions)
        return tf.fill([shape[0]], shape[1])
    return tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)


@keras.saving.register_keras_serializable("trellis")
class NegativeLogLikelihood(keras.losses.Loss):
    """Negative log-likelihood of the gold tags under the model's `SequenceHead`, in nats a sequence.

    Sequences without any real time step (the dummy rows that fill a batch) count neither in the sum nor in the mean.

    Args:
        reduction: `"mean"` over sequences (weighted, if there are weights), `"sum"`, or `"none"`.

    Call arguments:
        y_true: `(batch, time)` gold tags; values at padded positions are ignored.
        y_pred: the output of a `SequenceHead`.
        sample_weight: `(batch,)`, one weight a sequence.
    """

    def __init__(self, reduction="mean", name="negative_log_likelihood"):
        if reduction not in ("mean", "sum", "none", None):
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
        super().__init__(name=name, reduction=reduction)

    def __call__(self, y_true, y_pred, sample_weight=None):
        scored_by = getattr(y_pred, _SCORED_BY, None)
        if scored_by is None and in_symbolic_scope():
            # Under a distribution strategy Keras first asks for shapes, with tensors that it made up.
            return tf.zeros([] if self.reduction in ("mean", "sum") else tf.shape(y_pred)[:1])
        if scored_by is None:
            raise ValueError(
                "NegativeLogLikelihood needs the untouched output of a CRF, or of another SequenceHead, as the "
                "model's output; here it is the output of something else"
            )
        head, emissions, lengths = scored_by
        losses = head.negative_log_likelihood(emissions, y_true, lengths)
        weights = tf.cast(lengths > 0, losses.dtype)
        if sample_weight is not None:
            sample_weight = tf.cast(sample_weight, losses.dtype)
            if sample_weight.shape.rank != 1:
                raise ValueError(
                    f"sample_weight has rank {sample_weight.shape.rank}, expected the shape (batch,): one a sequence"
                )
            weights *= sample_weight
        if self.reduction in ("none", None):
            return losses * weights
        total = tf.reduce_sum(losses * weights)
        if self.reduction == "sum":
            return total
        # Gradients are summed over replicas; their mean is wanted, as Keras's own losses have it.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return tf.math.divide_no_nan(total, tf.reduce_sum(weights)) / replicas

    def call(self, y_true, y_pred):
        return self(y_true, y_pred)


@keras.saving.register_keras_serializable("trellis")
class IndependentTags(SequenceHead):
    """Each tag on its own: a softmax over the emissions of its time step."""

    def decode(self, emissions, lengths):
        tags = tf.argmax(emissions, axis=-1, output_type=tf.int32)
        return tf.where(tf.sequence_mask(lengths, tf.shape(tags)[1]), tags, 0)

    def marginals(self, emissions, lengths):
        valid = tf.sequence_mask(lengths, tf.shape(emissions)[1])[:, :, tf.newaxis]
        return tf.where(valid, tf.nn.softmax(tf.cast(emissions, tf.float32)), 0.0)

    def negative_log_likelihood(self, emissions, tags, lengths):
        valid = tf.sequence_mask(lengths, tf.shape(emissions)[1])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.where(valid, tf.cast(tags, tf.int32), 0), logits=tf.cast(emissions, tf.float32)
        )
        return tf.reduce_sum(tf.where(valid, losses, 0.0), axis=1)
