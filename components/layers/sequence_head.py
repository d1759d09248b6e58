"""The last layer of a tagger: emissions in, tags out, with a loss that knows how the tags were scored."""

import keras
from keras import ops
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

from trellis.components.lattice.potentials import FORBIDDEN, valid_steps
from trellis.components.lattice.recursion import argmax
from trellis.components.layers.checks import require

_SCORED_BY = "_trellis_scored_by"


class SequenceHead(keras.layers.Layer):
    """Base of the layers that turn emissions into tags.

    Its output is the best tag of each time step, int32; what the loss needs besides (the emissions and this layer's
    own weights) rides on the output tensor, as Keras's own masks do, so that

        model.compile("adam", loss=NegativeLogLikelihood())

    works in functional and subclassed models alike. Decoding costs nothing in training: no gradient and no loss
    reads the tags, so they are left out of the graph.

    Args:
        checks: look for NaN in emissions, masks with holes and tags out of range. None: when running eagerly; True:
            in graphs of TensorFlow as well, where the error is `tf.errors.InvalidArgumentError`; False: never.

    Call arguments:
        emissions: `(batch, time, tags)` scores.
        mask: `(batch, time)` booleans, True at real time steps: one run of them, padding on the right or on the left;
            None means no padding.
        output: `"tags"`; or `"marginals"`; or, for a linear chain, `"k_best"` or `"k_best_scores"`.
        k: how many paths the last two give.

    Output: `(batch, time)` int32 tags, 0 at padded positions. `"marginals"`: `(batch, time, tags)` posterior
    probabilities. `"k_best"`: tags `(batch, k, time)`; `"k_best_scores"`: `(batch, k)`, -inf where there are fewer
    paths. Each is one tensor, as Keras wants it of a layer that a functional model calls several times.

    Raises:
        ValueError: with the position, if a check fails.
    """

    def __init__(self, checks=None, **kwargs):
        super().__init__(**kwargs)
        self.checks = checks
        self.supports_masking = True

    def call(self, emissions, mask=None, output="tags", k=1):
        lengths, first = lengths_of(emissions, mask, self.checks)
        require(ops.all(emissions == emissions, axis=-1), "emissions are NaN", self.checks)
        emissions = _moved(emissions, first)
        if output == "marginals":
            return _moved(self.marginals(emissions, lengths), first, back=True)
        if output in ("k_best", "k_best_scores"):
            tags, scores = self.k_best(emissions, lengths, k)
            return scores if output == "k_best_scores" else _moved(tags, first, back=True, axis=2)
        tags = _moved(self.decode(emissions, lengths), first, back=True)
        _remember(tags, (self, emissions, lengths, first))
        return tags

    def compute_output_spec(self, emissions, mask=None, output="tags", k=1):
        batch, time, tags = emissions.shape
        if output == "marginals":
            return keras.KerasTensor((batch, time, tags), dtype="float32")
        if output == "k_best":
            return keras.KerasTensor((batch, k, time), dtype="int32")
        if output == "k_best_scores":
            return keras.KerasTensor((batch, k), dtype="float32")
        if output != "tags":
            raise ValueError(f"output must be 'tags', 'marginals', 'k_best' or 'k_best_scores', not {output!r}")
        return keras.KerasTensor((batch, time), dtype="int32")

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

    def k_best(self, emissions, lengths, k):
        """Tags `(batch, k, time)` and scores `(batch, k)` of the `k` best paths."""
        raise NotImplementedError(f"{type(self).__name__} has no k best paths")

    def negative_log_likelihood(self, emissions, tags, lengths):
        """`(batch,)` nats of the gold tags; 0 for a sequence of length 0.

        Args:
            tags: `(batch, time)` integers; or `(batch, time, tags)`, nonzero for each tag that is allowed.
        """
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "checks": self.checks}


def lengths_of(emissions, mask, checks=None):
    """Number of real time steps of each sequence, and where the first of them is, both `(batch,)` int32.

    The second is None where there is no mask.
    """
    batch, time = ops.shape(emissions)[:2]
    if mask is None:
        return ops.full((batch,), time, dtype="int32"), None
    if len(mask.shape) != 2:
        raise ValueError(f"the mask has rank {len(mask.shape)}, expected the shape (batch, time)")
    if None not in (mask.shape[1], emissions.shape[1]) and mask.shape[1] != emissions.shape[1]:
        raise ValueError(f"the mask has {mask.shape[1]} time steps, the emissions have {emissions.shape[1]}")
    mask = ops.cast(mask, "int32")
    lengths, first = ops.sum(mask, axis=1), argmax(mask)
    times = ops.arange(time, dtype="int32")[None, :]
    run = (times >= first[:, None]) & (times < (first + lengths)[:, None])
    require(ops.cast(mask, "bool") == run, "the mask is not one run of real time steps: it changes again", checks)
    return lengths, first


def _moved(values, first, back=False, axis=1):
    """Sequences moved so that their real time steps come first, or back again."""
    if first is None:
        return values

    def move():
        shift = ops.reshape(-first if back else first, (-1,) + (1,) * (len(values.shape) - 1))
        time = ops.shape(values)[axis]
        times = ops.reshape(
            ops.arange(time, dtype="int32"), (1,) * axis + (-1,) + (1,) * (len(values.shape) - axis - 1)
        )
        return ops.take_along_axis(values, (times + shift) % time, axis=axis)

    return ops.cond(ops.any(first > 0), move, lambda: values)


# JAX's arrays take no attributes: for it only what was scored last is known.
_latest = (None, None)


def _remember(tags, scored_by):
    global _latest
    try:
        setattr(tags, _SCORED_BY, scored_by)
    except AttributeError:
        _latest = (tags, scored_by)


def _recall(tags):
    return getattr(tags, _SCORED_BY, _latest[1] if tags is _latest[0] else None)


@keras.saving.register_keras_serializable("trellis")
class NegativeLogLikelihood(keras.losses.Loss):
    """Negative log-likelihood of the gold tags under the model's `SequenceHead`, in nats a sequence.

    Sequences without any real time step (the dummy rows that fill a batch) count neither in the sum nor in the mean.

    Args:
        reduction: `"mean"` over sequences (weighted, if there are weights), `"sum"`, or `"none"`.
        class_weights: a weight for each tag, `{tag: weight}` (1 for the others) or a list. A sequence counts as much
            as its gold tags do on average.
        sequences: the mean divides by that instead of by the batch's own number (or weights), so that every sequence
            counts alike in batches of different sizes.

    Call arguments:
        y_true: `(batch, time)` gold tags; values at padded positions are ignored. Or `(batch, time, tags)`, nonzero
            for each tag that is allowed there: partial or ambiguous labels, whose likelihood is that of all the paths
            they allow. Where nothing is nonzero, nothing is known and every tag is allowed.
        y_pred: the output of a `SequenceHead`.
        sample_weight: `(batch,)`, one weight a sequence.

    Raises:
        ValueError: for label smoothing, which would have to spread probability over whole sequences, most of them
            impossible: use partial labels for doubtful tags and weights for doubtful sequences.
    """

    def __init__(
        self,
        reduction="mean",
        class_weights=None,
        sequences=None,
        label_smoothing=0.0,
        name="negative_log_likelihood",
        **kwargs,
    ):
        if reduction not in ("mean", "sum", "none", None):
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
        if label_smoothing:
            raise ValueError(
                "label_smoothing has no meaning for whole sequences; use partial labels (batch, time, tags) for "
                "doubtful tags, or sample_weight for doubtful sequences"
            )
        super().__init__(name=name, reduction=reduction, **kwargs)
        self.class_weights, self.sequences = class_weights, sequences

    def __call__(self, y_true, y_pred, sample_weight=None):
        scored_by = _recall(y_pred)
        if scored_by is None and in_symbolic_scope():
            # Under a distribution strategy Keras first asks for shapes, with tensors that it made up.
            return ops.zeros(() if self.reduction in ("mean", "sum") else ops.shape(y_pred)[:1])
        if scored_by is None:
            raise ValueError(
                "NegativeLogLikelihood needs the untouched output of a CRF, or of another SequenceHead, as the "
                "model's output; here it is the output of something else"
            )
        head, emissions, lengths, first = scored_by
        y_true = _moved(self._checked(ops.convert_to_tensor(y_true), emissions, lengths, head.checks), first)
        losses = head.negative_log_likelihood(emissions, y_true, lengths)
        weights = ops.cast(lengths > 0, losses.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, losses.dtype)
            if len(sample_weight.shape) != 1:
                raise ValueError(
                    f"sample_weight has rank {len(sample_weight.shape)}, expected the shape (batch,): one a sequence"
                )
            weights = weights * sample_weight
        if self.class_weights is not None:
            weights = weights * self._mean_class_weight(y_true, emissions, lengths)
        if self.reduction in ("none", None):
            return losses * weights
        total = ops.sum(losses * weights)
        if self.reduction == "sum":
            return total
        mean = ops.divide_no_nan(total, ops.sum(weights) if self.sequences is None else self.sequences)
        # Gradients are summed over replicas; their mean is wanted, as Keras's own losses have it.
        return mean / _replicas()

    def call(self, y_true, y_pred):
        return self(y_true, y_pred)

    def _checked(self, y_true, emissions, lengths, checks):
        if len(y_true.shape) not in (2, 3):
            raise ValueError(f"gold tags have rank {len(y_true.shape)}, expected (batch, time) or (batch, time, tags)")
        for axis, name in enumerate(("sequences", "time steps", "tags")[: len(y_true.shape)]):
            mine, theirs = y_true.shape[axis], emissions.shape[axis]
            if None not in (mine, theirs) and mine != theirs:
                raise ValueError(f"gold tags have {mine} {name}, the emissions have {theirs}")
        if len(y_true.shape) == 3:
            return y_true
        y_true, tags = ops.cast(y_true, "int32"), emissions.shape[-1]
        inside = ((y_true >= 0) & (y_true < tags)) | ~valid_steps(emissions, lengths)
        require(inside, f"a gold tag is not one of the {tags} tags", checks)
        return y_true

    def _mean_class_weight(self, y_true, emissions, lengths):
        weights = self.class_weights
        if isinstance(weights, dict):
            weights = [weights.get(tag, 1.0) for tag in range(emissions.shape[-1])]
        weights = ops.convert_to_tensor(weights, dtype="float32")
        if len(y_true.shape) == 3:
            allowed = ops.cast(y_true != 0, "float32")
            steps = ops.divide_no_nan(ops.sum(allowed * weights, axis=-1), ops.sum(allowed, axis=-1))
        else:
            steps = ops.take(weights, ops.clip(y_true, 0, emissions.shape[-1] - 1))
        steps = ops.where(valid_steps(emissions, lengths), steps, 0.0)
        return ops.divide_no_nan(ops.sum(steps, axis=1), ops.cast(lengths, "float32"))

    def get_config(self):
        weights = self.class_weights
        if isinstance(weights, dict):
            # JSON knows no integers as keys.
            weights = [weights.get(tag, 1.0) for tag in range(max(weights, default=-1) + 1)]
        return {**super().get_config(), "class_weights": weights, "sequences": self.sequences}


def _replicas():
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def allowed_only(emissions, tags):
    """Emissions with the tags that partial labels `(batch, time, tags)` rule out forbidden."""
    tags = ops.cast(tags, "bool")
    return ops.where(tags | ~ops.any(tags, axis=-1, keepdims=True), emissions, FORBIDDEN)


@keras.saving.register_keras_serializable("trellis")
class IndependentTags(SequenceHead):
    """Each tag on its own: a softmax over the emissions of its time step."""

    def decode(self, emissions, lengths):
        return ops.where(valid_steps(emissions, lengths), argmax(emissions), 0)

    def marginals(self, emissions, lengths):
        valid = valid_steps(emissions, lengths)[:, :, None]
        return ops.where(valid, ops.softmax(ops.cast(emissions, "float32")), 0.0)

    def negative_log_likelihood(self, emissions, tags, lengths):
        logs = ops.log_softmax(ops.cast(emissions, "float32"))
        valid = valid_steps(emissions, lengths)
        if len(tags.shape) == 3:
            losses = -ops.logsumexp(allowed_only(logs, tags), axis=-1)
        else:
            tags = ops.where(valid, ops.cast(tags, "int32"), 0)
            losses = -ops.take_along_axis(logs, tags[:, :, None], axis=2)[:, :, 0]
        return ops.sum(ops.where(valid, losses, 0.0), axis=1)
