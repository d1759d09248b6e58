"""The last layer of a tagger: emissions in, tags out, with a loss that knows how the tags were scored."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from trellis.components import workers
from trellis.components.lattice import linear_chain, paths, spans
from trellis.components.lattice.operations import argmax, gather, sizes
from trellis.components.lattice.potentials import FORBIDDEN, shaped_as, valid_steps
from trellis.components.layers.checks import require
from trellis.components.layers.class_weights import plain_class_weights, weight_of_each_tag
from trellis.components.layers.keras_class_weight import refuses_class_weight
from trellis.components.layers.tensor_notes import TensorNotes
from trellis.components.text.tag_schemes import Segments
from trellis.components.types import JSON, Emissions, Lengths, Mask, Shape, TagIds, TagScores, Tensor, Transitions


class SequenceHead(keras.layers.Layer):
    """Base of the layers that turn emissions into tags.

    The output is the best tag of each time step, int32. The loss also needs the emissions and this layer's weights; a
    note on the output tensor tells it where to find them (see `trellis.components.layers.tensor_notes`), so that

        model.compile("adam", loss=NegativeLogLikelihood())

    works in functional and subclassed models alike. Decoding costs nothing in training: neither the gradient nor the
    loss reads the tags, so they are pruned from the graph.

    Args:
        checks: check for NaN in emissions, holes in masks and tags out of range. None: when running eagerly; True: in
            TensorFlow graphs too, where the error is `tf.errors.InvalidArgumentError`; False: never.

    Call arguments:
        emissions: `(batch, time, tags)` scores.
        mask: `(batch, time)` booleans, True at real time steps, which have to be contiguous: padding is on the right or
            on the left. None means no padding.
        output: `"tags"`, `"marginals"`, `"k_best"` or `"k_best_scores"`.
        k: number of paths to return, for `"k_best"` and `"k_best_scores"`.

    Output, one tensor per call, as Keras requires of a layer that a functional model calls several times:
        `"tags"`: `(batch, time)` int32, 0 at padding.
        `"marginals"`: posterior probabilities `(batch, time, tags)`.
        `"k_best"`: tags `(batch, k, time)`.
        `"k_best_scores"`: `(batch, k)`, -inf where there are fewer than `k` paths.

    Raises:
        ValueError: if a check fails; the message names the position.
    """

    def __init__(self, checks: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.checks = checks
        self.supports_masking = True

    def call(self, emissions: Emissions, mask: Mask | None = None, output: str = "tags", k: int = 1) -> Tensor:
        lengths, first = lengths_of(emissions, mask, self.checks)
        require(ops.all(emissions == emissions, axis=-1), "emissions are NaN", self.checks)
        emissions = _rolled(emissions, first)
        if output == "marginals":
            return _rolled(self.marginals(emissions, lengths), first, back=True)
        if output in ("k_best", "k_best_scores"):
            tags, scores = self.k_best(emissions, lengths, k)
            return scores if output == "k_best_scores" else _rolled(tags, first, back=True, axis=2)
        tags = _rolled(self.decode(emissions, lengths), first, back=True)
        _SCORINGS.attach(tags, Scoring(self, emissions, lengths, first))
        return tags

    def compute_output_spec(
        self, emissions: Emissions, mask: Mask | None = None, output: str = "tags", k: int = 1
    ) -> Tensor:
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

    def compute_output_shape(self, emissions_shape: Shape) -> Shape:
        return emissions_shape[:-1]

    def compute_mask(self, inputs: Emissions, mask: Mask | None = None) -> Mask | None:
        return mask

    @property
    def tag_names(self) -> Sequence[str] | None:
        """The name of each tag; None where the head does not know them."""
        return None

    def decode(self, emissions: Emissions, lengths: Lengths) -> TagIds:
        """Return the best tags, `(batch, time)` int32, 0 at padding.

        Args:
            emissions: `(batch, time, tags)`, real time steps first.
            lengths: `(batch,)`.
        """
        raise NotImplementedError

    def marginals(self, emissions: Emissions, lengths: Lengths) -> Tensor:
        """Return the posterior probability of each tag: `(batch, time, tags)`, zero at padding."""
        raise NotImplementedError

    def k_best(self, emissions: Emissions, lengths: Lengths, k: int) -> tuple[Tensor, Tensor]:
        """Return tags `(batch, k, time)` and scores `(batch, k)` of the `k` best paths."""
        emissions, transitions, start, end = self.potentials(emissions, constrained=True)
        return paths.k_best(emissions, lengths, transitions, start, end, k)

    def readings(self, emissions: Emissions, lengths: Lengths, k: int) -> tuple[Tensor, Tensor]:
        """Return tags `(batch, k, time)` and posterior probabilities `(batch, k)` of the `k` best paths."""
        emissions, transitions, start, end = self.potentials(emissions, constrained=True)
        tags, scores = paths.k_best(emissions, lengths, transitions, start, end, k)
        # `log_partition` has a custom gradient, which an export cannot store.
        *_, total = linear_chain.expected_counts(emissions, lengths, transitions, start, end, jit_compile=False)
        return tags, ops.exp(scores - total[:, None])

    def span_marginals(
        self, emissions: Emissions, lengths: Lengths, starts: Tensor, stops: Tensor, kinds: Tensor, segments: Segments
    ) -> Tensor:
        """Return the posterior probabilities of segments, `(batch, spans)`; see `trellis.lattice.span_marginals`."""
        emissions, transitions, start, end = self.potentials(emissions, constrained=True)
        of_tags = segments.kinds, segments.continues
        return spans.span_marginals(emissions, lengths, transitions, start, end, starts, stops, kinds, *of_tags)

    def potentials(
        self, emissions: Emissions, constrained: bool
    ) -> tuple[Emissions, Transitions, TagScores, TagScores]:
        """Return emissions, transitions, start and end scores for the functions of `trellis.components.lattice`.

        Args:
            constrained: forbid what the head's constraints rule out.
        """
        raise NotImplementedError

    def lattice(self, emissions: Emissions, lengths: Lengths) -> tuple[Emissions, Transitions]:
        """Return the scores of the lattice that `decode` and `marginals` search, boundaries and constraints included.

        Returns:
            The score of each tag at each time step, `(batch, time, tags)`, and of each pair of neighbouring tags,
            `(batch, time - 1, tags, tags)`; 0 at padding. The score of a path is the sum of both along it.
        """
        raise NotImplementedError

    def negative_log_likelihood(self, emissions: Emissions, tags: Tensor, lengths: Lengths) -> Tensor:
        """Return the negative log-likelihood of the gold tags in nats, `(batch,)`; 0 for a sequence of length 0.

        Args:
            tags: `(batch, time)` integers; or `(batch, time, tags)`, nonzero for each tag that is allowed.
        """
        raise NotImplementedError

    def require_possible(self, losses: Tensor) -> None:
        """Raise an error if the constraints rule out gold tags, whatever the weights are.

        Args:
            losses: the loss of each sequence, `(batch,)`.
        """

    def get_config(self) -> JSON:
        return {**super().get_config(), "checks": self.checks}


class Scoring(NamedTuple):
    """How a tensor of tags was scored.

    Attributes:
        head: the layer that chose the tags.
        emissions: `(batch, time, tags)`, real time steps first.
        lengths: `(batch,)`.
        first: the first real time step of each sequence in the tags, `(batch,)`; None without a mask.
    """

    head: SequenceHead
    emissions: Emissions
    lengths: Lengths
    first: Tensor | None


_SCORINGS: TensorNotes[Scoring] = TensorNotes("_trellis_scoring")


def scoring_of(tags: TagIds) -> Scoring | None:
    """Return how the output of a `SequenceHead` was scored; None for any other tensor."""
    return _SCORINGS.get(tags)


def lengths_of(emissions: Emissions, mask: Mask | None, checks: bool | None = None) -> tuple[Lengths, Tensor | None]:
    """Return the number of real time steps of each sequence and the index of the first one, both `(batch,)` int32.

    The second is None without a mask.
    """
    batch, time = sizes(emissions)[:2]
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
    require(ops.cast(mask, "bool") == run, "real time steps are not contiguous: the mask has a hole", checks)
    return lengths, first


def _rolled(values: Tensor, first: Tensor | None, back: bool = False, axis: int = 1) -> Tensor:
    """Roll each sequence so that its real time steps come first, or back to where they were.

    Args:
        values: `(batch, ...)`.
        first: the first real time step of each sequence, `(batch,)`; None to return the values unchanged.
        axis: the time axis.
    """
    if first is None:
        return values

    def roll() -> Tensor:
        time_second = values if axis == 1 else ops.swapaxes(values, 1, axis)
        time = sizes(time_second)[1]
        steps = (ops.arange(time, dtype="int32") + (-first if back else first)[:, None]) % time
        rolled = gather(time_second, steps, batch_dims=1)
        return rolled if axis == 1 else ops.swapaxes(rolled, 1, axis)

    return ops.cond(ops.any(first > 0), roll, lambda: values)


@refuses_class_weight
@keras.saving.register_keras_serializable("trellis")
class NegativeLogLikelihood(keras.losses.Loss):
    """Negative log-likelihood of the gold tags under the model's `SequenceHead`, in nats per sequence.

    Sequences without a real time step (the dummy rows that fill a batch) count neither in the sum nor in the mean. The
    mean is over the sequences of all workers that train together.

    Args:
        reduction: `"mean"` over sequences (weighted by `sample_weight`), `"sum"`, or `"none"`.
        class_weights: a weight for each tag, `{tag: weight}` or a list; 1 for the others. Tags are ids or, for a head
            that knows them (`CRF(tags=[…])`), names. The weight of a sequence is the mean weight of its gold tags.
            Keras's `fit(class_weight=…)` raises a ValueError, because it would weight something else.
        sequences: divide the sum by this number instead of by the batch's own number of sequences (or sum of weights),
            so that every sequence counts equally in batches of different sizes.

    Call arguments:
        y_true: gold tags `(batch, time)` or `(batch, time, 1)`; values at padding are ignored. Or
            `(batch, time, tags)`, nonzero for each allowed tag: partial or ambiguous labels, whose likelihood is that
            of all the paths they allow. A time step without any nonzero value allows every tag.
        y_pred: the output of a `SequenceHead`.
        sample_weight: `(batch,)`, one weight per sequence.

    Raises:
        ValueError: if `y_pred` is not the tensor that a `SequenceHead` returned, or if `label_smoothing` is not 0. It
            would spread probability over whole sequences, most of them impossible. Use partial labels for doubtful tags
            and sample weights for doubtful sequences.
    """

    def __init__(
        self,
        reduction: str | None = "mean",
        class_weights: Mapping[int | str, float] | Sequence[float] | None = None,
        sequences: float | None = None,
        label_smoothing: float = 0.0,
        name: str = "negative_log_likelihood",
        **kwargs: Any,
    ) -> None:
        if reduction not in ("mean", "sum", "none", None):
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
        if label_smoothing:
            raise ValueError(
                "label_smoothing has no meaning for whole sequences; use partial labels (batch, time, tags) for "
                "doubtful tags, or sample_weight for doubtful sequences"
            )
        super().__init__(name=name, reduction=reduction, **kwargs)
        self.class_weights, self.sequences = plain_class_weights(class_weights), sequences

    def __call__(self, y_true: Tensor, y_pred: TagIds, sample_weight: Tensor | None = None) -> Tensor:
        scoring = scoring_of(y_pred)
        if scoring is None and _is_inferring_shapes():
            return ops.zeros(() if self.reduction in ("mean", "sum") else sizes(y_pred)[:1])
        if scoring is None:
            raise ValueError(
                "NegativeLogLikelihood needs the untouched output of a CRF, or of another SequenceHead, as the model's "
                f"output; it got a tensor of shape {tuple(y_pred.shape)} that no head returned. After a cast, a "
                "reshape or another operation, tags no longer say which head scored them"
            )
        head, emissions, lengths, first = scoring
        y_true = _rolled(self._checked(ops.convert_to_tensor(y_true), emissions, lengths, head.checks), first)
        losses = head.negative_log_likelihood(emissions, y_true, lengths)
        weights = ops.cast(lengths > 0, losses.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, losses.dtype)
            if len(sample_weight.shape) != 1:
                raise ValueError(
                    f"sample_weight has rank {len(sample_weight.shape)}, expected the shape (batch,): one per sequence"
                )
            weights = weights * sample_weight
        if self.class_weights is not None:
            each = weight_of_each_tag(self.class_weights, emissions.shape[-1], head.tag_names)
            weights = weights * self._mean_class_weight(y_true, emissions, lengths, each)
        if self.reduction in ("none", None):
            return losses * weights
        head.require_possible(losses)
        total = ops.sum(losses * weights)
        if self.reduction == "sum":
            return total
        count = workers.total(ops.sum(weights)) if self.sequences is None else self.sequences
        mean = ops.divide_no_nan(total, count)
        # Replicas sum their gradients; dividing makes the sum a mean, as in Keras's own losses.
        return mean / _replicas()

    def call(self, y_true: Tensor, y_pred: TagIds) -> Tensor:
        return self(y_true, y_pred)

    def _checked(self, y_true: Tensor, emissions: Emissions, lengths: Lengths, checks: bool | None) -> Tensor:
        y_true, tags = gold_tags(y_true, emissions), emissions.shape[-1]
        if len(y_true.shape) == 3:
            return y_true
        y_true = ops.cast(y_true, "int32")
        inside = ((y_true >= 0) & (y_true < tags)) | ~valid_steps(emissions, lengths)
        require(inside, f"a gold tag is not one of the {tags} tags", checks)
        return y_true

    def _mean_class_weight(self, y_true: Tensor, emissions: Emissions, lengths: Lengths, each: list[float]) -> Tensor:
        weights = ops.convert_to_tensor(each, dtype="float32")
        if len(y_true.shape) == 3:
            allowed = ops.cast(y_true != 0, "float32")
            steps = ops.divide_no_nan(ops.sum(allowed * weights, axis=-1), ops.sum(allowed, axis=-1))
        else:
            steps = gather(weights, ops.clip(y_true, 0, emissions.shape[-1] - 1))
        steps = ops.where(valid_steps(emissions, lengths), steps, 0.0)
        return ops.divide_no_nan(ops.sum(steps, axis=1), ops.cast(lengths, "float32"))

    def get_config(self) -> JSON:
        weights = self.class_weights
        ids = [tag for tag in weights if isinstance(tag, int)] if isinstance(weights, dict) else []
        if isinstance(weights, dict) and len(ids) == len(weights):
            # JSON has no integer keys.
            weights = [weights.get(tag, 1.0) for tag in range(max(ids, default=-1) + 1)]
        return {**super().get_config(), "class_weights": weights, "sequences": self.sequences}


def gold_tags(tags: Tensor, emissions: Emissions) -> Tensor:
    """Return gold tags as ids `(batch, time)`, or as `(batch, time, tags)`, nonzero for each allowed tag.

    Args:
        tags: either of the two, or ids `(batch, time, 1)`.

    Raises:
        ValueError: their shape does not match that of the emissions.
    """
    if len(tags.shape) not in (2, 3):
        raise ValueError(f"gold tags have rank {len(tags.shape)}, expected (batch, time) or (batch, time, tags)")
    size = emissions.shape[-1]
    if len(tags.shape) == 3 and tags.shape[-1] is None:
        # Only when the graph runs is it known whether they are ids or allowed tags.
        ids = ops.one_hot(ops.cast(tags[..., 0], "int32"), size, dtype="int32")
        tags = ops.where(sizes(tags)[-1] == 1, ids, ops.cast(tags != 0, "int32"))
    elif len(tags.shape) == 3 and tags.shape[-1] == 1 != size:
        tags = tags[..., 0]
    return shaped_as(tags, emissions, ("sequences", "time steps", "tags")[: len(tags.shape)], "gold tags")


def _is_inferring_shapes() -> bool:
    """Return whether Keras is calling the loss with placeholders to infer shapes, as it does under a strategy.

    Keras has no public function for this; `test_two_replicas_train_like_one` fails if the private one moves.
    """
    from keras.src.backend.common.symbolic_scope import in_symbolic_scope

    return bool(in_symbolic_scope())


def _replicas() -> int:
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def allowed_only(emissions: Emissions, tags: Tensor) -> Emissions:
    """Forbid the tags that partial labels `(batch, time, tags)` rule out."""
    tags = ops.cast(tags, "bool")
    return ops.where(tags | ~ops.any(tags, axis=-1, keepdims=True), emissions, FORBIDDEN)


@keras.saving.register_keras_serializable("trellis")
class IndependentTags(SequenceHead):
    """Choose each tag on its own: a softmax over the emissions of its time step."""

    def decode(self, emissions: Emissions, lengths: Lengths) -> TagIds:
        return ops.where(valid_steps(emissions, lengths), argmax(emissions), 0)

    def marginals(self, emissions: Emissions, lengths: Lengths) -> Tensor:
        valid = valid_steps(emissions, lengths)[:, :, None]
        return ops.where(valid, ops.softmax(ops.cast(emissions, "float32")), 0.0)

    def potentials(
        self, emissions: Emissions, constrained: bool
    ) -> tuple[Emissions, Transitions, TagScores, TagScores]:
        logs = ops.log_softmax(ops.cast(emissions, "float32"))
        zeros = ops.zeros((logs.shape[-1],))
        return logs, zeros[:, None] + zeros, zeros, zeros

    def lattice(self, emissions: Emissions, lengths: Lengths) -> tuple[Emissions, Transitions]:
        logs = ops.log_softmax(ops.cast(emissions, "float32"))
        unary = ops.where(valid_steps(emissions, lengths)[:, :, None], logs, 0.0)
        # The tags do not depend on each other.
        return unary, ops.zeros_like(unary)[:, 1:, :, None] * ops.zeros_like(unary)[:, 1:, None, :]

    def negative_log_likelihood(self, emissions: Emissions, tags: Tensor, lengths: Lengths) -> Tensor:
        logs = ops.log_softmax(ops.cast(emissions, "float32"))
        valid = valid_steps(emissions, lengths)
        if len(tags.shape) == 3:
            losses = -ops.logsumexp(allowed_only(logs, tags), axis=-1)
        else:
            tags = ops.where(valid, ops.cast(tags, "int32"), 0)
            losses = -gather(logs, tags[:, :, None], batch_dims=2)[:, :, 0]
        return ops.sum(ops.where(valid, losses, 0.0), axis=1)
