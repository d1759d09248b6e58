"""What the heads that score a linear chain share: transitions, constraints, decoding."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from trellis.components.lattice import linear_chain, paths
from trellis.components.lattice.potentials import FORBIDDEN, pairwise, prepared, unary, varies
from trellis.components.layers.checks import require
from trellis.components.layers.sequence_head import SequenceHead, allowed_only
from trellis.components.text.tag_schemes import allowed_transitions
from trellis.components.types import JSON, Emissions, Lengths, Shape, TagIds, TagScores, Tensor, Transitions


class LinearChainHead(SequenceHead):
    """A head with a learned score for each pair of neighbouring tags.

    Args:
        boundaries: also learn a score for each tag as the first and as the last one.
        constraints: makes tag sequences impossible at decoding: `"bio"` or `"iobes"`, for which `tags` names the tags;
            or booleans `(tags, tags)`, True where tag [column] may follow tag [row].
        tags: the name of each tag, such as `["O", "B-PER", "I-PER"]`.
        constrain_training: give impossible sequences no probability in training either; impossible gold tags are then
            an error, unless the loss is not reduced.

    Attributes:
        scores_last_tag: whether the head has a score for the last tag.
        jit_compile: compile the training recursions with XLA; None means TRELLIS_XLA=1.

    Raises:
        ValueError: if the constraints leave no path for sequences of some length.
    """

    scores_last_tag = True
    jit_compile: bool | None = False

    def __init__(
        self,
        boundaries: bool = True,
        constraints: str | Sequence[Sequence[bool]] | None = None,
        tags: Iterable[str] | None = None,
        constrain_training: bool = False,
        checks: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(checks=checks, **kwargs)
        self.boundaries, self.constrain_training = boundaries, constrain_training
        self.constraints = constraints
        self.tags = None if tags is None else list(tags)
        # Booleans: of transitions `(tags, tags)`, of the first and of the last tag `(tags,)`.
        self._allowed: tuple[Sequence[Sequence[bool]], Sequence[bool], Sequence[bool]] | None = None
        if isinstance(constraints, str):
            if constraints not in ("bio", "iobes"):
                raise ValueError(f"constraints must be 'bio', 'iobes' or a matrix, not {constraints!r}")
            if self.tags is None:
                raise ValueError(f"constraints={constraints!r} need the names of the tags: tags=['O', 'B-PER', …]")
            self._allowed = allowed_transitions(self.tags, constraints)
        elif constraints is not None:
            matrix = [[bool(allowed) for allowed in row] for row in constraints]
            self.constraints = matrix
            self._allowed = matrix, [True] * len(matrix), [True] * len(matrix)
        if self._allowed is not None:
            _require_paths(*self._allowed)
        elif constrain_training:
            raise ValueError("constrain_training=True needs constraints")

    @property
    def tag_names(self) -> Sequence[str] | None:
        return self.tags

    def number_of_tags(self, emissions_shape: Shape) -> int:
        """Return the number of tags of emissions of this shape.

        Raises:
            ValueError: the number is unknown, or is not that of the constraints.
        """
        tags = emissions_shape[-1]
        if tags is None:
            raise ValueError(
                f"{type(self).__name__} needs to know the number of tags: the last axis of its emissions is None"
            )
        if self._allowed is not None and any(len(row) != tags for row in (self._allowed[0], *self._allowed[0])):
            raise ValueError(f"the constraints are for {len(self._allowed[0])} tags, the emissions have {tags}")
        return tags

    def build(self, emissions_shape: Shape) -> None:
        tags = self.number_of_tags(emissions_shape)

        # float32 whatever the policy: sums over a sequence outgrow the precision of bfloat16.
        def weight(name: str, shape: Shape, initializer: Any = "zeros") -> Any:
            return self.add_weight(shape=shape, initializer=initializer, name=name, dtype="float32", autocast=False)

        self.transitions = weight("transitions", (tags, tags), keras.initializers.RandomUniform(-0.1, 0.1))
        self.start = weight("start", (tags,)) if self.boundaries else None
        self.end = weight("end", (tags,)) if self.boundaries and self.scores_last_tag else None

    def scores(self, constrained: bool) -> tuple[Transitions, TagScores, TagScores]:
        """Return transitions `(tags, tags)`, start and end `(tags,)`.

        Args:
            constrained: forbid what the constraints rule out.
        """
        transitions = self.transitions.value
        zeros = ops.zeros_like(transitions[0])
        start, end = (zeros if weight is None else weight.value for weight in (self.start, self.end))
        return self.with_constraints((transitions, start, end)) if constrained else (transitions, start, end)

    def with_constraints(
        self, chain: tuple[Transitions, TagScores, TagScores]
    ) -> tuple[Transitions, TagScores, TagScores]:
        """Forbid the transitions, first and last tags that the constraints rule out."""
        if self._allowed is None:
            return chain
        transitions, start, end = (
            ops.where(ops.convert_to_tensor(allowed), scores, FORBIDDEN)
            for allowed, scores in zip(self._allowed, chain, strict=True)
        )
        return transitions, start, end

    def potentials(
        self, emissions: Emissions, constrained: bool
    ) -> tuple[Emissions, Transitions, TagScores, TagScores]:
        return emissions, *self.scores(constrained)

    def decode(self, emissions: Emissions, lengths: Lengths) -> TagIds:
        emissions, transitions, start, end = self.potentials(emissions, constrained=True)
        tags, _ = paths.viterbi(emissions, lengths, transitions, start, end, jit_compile=False)
        return tags

    def marginals(self, emissions: Emissions, lengths: Lengths) -> Tensor:
        # Without XLA: this goes into exports, and servers need not have XLA.
        emissions, transitions, start, end = self.potentials(emissions, constrained=True)
        return linear_chain.marginals(emissions, lengths, transitions, start, end, jit_compile=False)

    def lattice(self, emissions: Emissions, lengths: Lengths) -> tuple[Emissions, Transitions]:
        emissions, *chain = self.potentials(emissions, constrained=True)
        emissions, lengths, transitions, start, end = prepared(emissions, lengths, *chain)
        scores = ops.transpose(unary(emissions, lengths, start, end), (1, 0, 2))
        if not varies(transitions):
            batch, time, tags = ops.shape(emissions)
            transitions = ops.broadcast_to(transitions, (batch, time - 1, tags, tags))
        return scores, ops.transpose(pairwise(transitions, lengths), (1, 0, 2, 3))

    def negative_log_likelihood(self, emissions: Emissions, tags: Tensor, lengths: Lengths) -> Tensor:
        emissions, transitions, start, end = self.potentials(emissions, constrained=self.constrain_training)
        total = linear_chain.log_partition(emissions, lengths, transitions, start, end, self.jit_compile)
        if len(tags.shape) == 2:
            return total - linear_chain.path_score(emissions, tags, lengths, transitions, start, end)
        allowed = allowed_only(emissions, tags)
        return total - linear_chain.log_partition(allowed, lengths, transitions, start, end, self.jit_compile)

    def require_possible(self, losses: Tensor) -> None:
        if self.constrain_training:
            # In graphs too: the huge loss of such a sequence would hide all others in the mean.
            checks = True if self.checks is None else self.checks
            require(losses < -FORBIDDEN / 2, "the constraints forbid the gold tags", checks)

    def get_config(self) -> JSON:
        return {
            **super().get_config(),
            "boundaries": self.boundaries,
            "constraints": self.constraints,
            "tags": self.tags,
            "constrain_training": self.constrain_training,
        }


def _require_paths(transitions: Sequence[Sequence[bool]], start: Sequence[bool], end: Sequence[bool]) -> None:
    """Raise a ValueError if sequences of some length have no allowed path."""
    reachable = frozenset(tag for tag, allowed in enumerate(start) if allowed)
    seen: set[frozenset[int]] = set()
    length = 1
    while reachable not in seen:
        if not any(end[tag] for tag in reachable):
            raise ValueError(f"the constraints leave no path for a sentence of {length} tokens")
        seen.add(reachable)
        following = (tag for tag in range(len(end)) if any(transitions[previous][tag] for previous in reachable))
        reachable, length = frozenset(following), length + 1
