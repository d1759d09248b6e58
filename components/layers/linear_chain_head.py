"""What the heads that walk a linear chain share: transitions, constraints, decoding."""

import keras
from keras import ops

from trellis.components.lattice import linear_chain, paths
from trellis.components.lattice.potentials import FORBIDDEN
from trellis.components.layers.sequence_head import SequenceHead, allowed_only
from trellis.components.text.tag_schemes import allowed_transitions


class LinearChainHead(SequenceHead):
    """A head with a learned score for each pair of neighbouring tags.

    Args:
        boundaries: also learn a score for each tag as the first and as the last one.
        constraints: makes tag sequences impossible at decoding: `"bio"` or `"iobes"`, for which `tags` names the tags;
            or booleans `(tags, tags)`, True where [row] may be followed by [column].
        tags: the name of each tag, such as `["O", "B-PER", "I-PER"]`.
        constrain_training: whether the impossible sequences have no probability in training either.

    Raises:
        ValueError: if the constraints leave no path for sequences of some length.
    """

    scores_last_tag = True
    jit_compile = False

    def __init__(self, boundaries=True, constraints=None, tags=None, constrain_training=False, checks=None, **kwargs):
        super().__init__(checks=checks, **kwargs)
        self.boundaries, self.constraints, self.constrain_training = boundaries, constraints, constrain_training
        self.tags = None if tags is None else list(tags)
        self._allowed = None
        if isinstance(constraints, str):
            if constraints not in ("bio", "iobes"):
                raise ValueError(f"constraints must be 'bio', 'iobes' or a matrix, not {constraints!r}")
            if tags is None:
                raise ValueError(f"constraints={constraints!r} need the names of the tags: tags=['O', 'B-PER', …]")
            self._allowed = allowed_transitions(self.tags, constraints)
        elif constraints is not None:
            self.constraints = [[bool(each) for each in row] for row in constraints]
            self._allowed = self.constraints, [True] * len(constraints), [True] * len(constraints)
        if self._allowed is not None:
            _require_paths(*self._allowed)
        elif constrain_training:
            raise ValueError("constrain_training=True needs constraints")

    def number_of_tags(self, emissions_shape):
        """Of emissions of this shape; a ValueError if it is not known or not that of the constraints."""
        tags = emissions_shape[-1]
        if tags is None:
            raise ValueError(
                f"{type(self).__name__} needs to know the number of tags: the last axis of its emissions is None"
            )
        if self._allowed is not None and any(len(each) != tags for each in (self._allowed[0], *self._allowed[0])):
            raise ValueError(f"the constraints are for {len(self._allowed[0])} tags, the emissions have {tags}")
        return tags

    def build(self, emissions_shape):
        tags = self.number_of_tags(emissions_shape)

        # float32 whatever the policy: sums over a sequence outgrow the precision of bfloat16.
        def weight(name, shape, initializer="zeros"):
            return self.add_weight(shape=shape, initializer=initializer, name=name, dtype="float32", autocast=False)

        self.transitions = weight("transitions", (tags, tags), keras.initializers.RandomUniform(-0.1, 0.1))
        self.start = weight("start", (tags,)) if self.boundaries else None
        self.end = weight("end", (tags,)) if self.boundaries and self.scores_last_tag else None

    def scores(self, constrained):
        """Transitions `(tags, tags)`, start and end `(tags,)`, impossible ones forbidden if `constrained`."""
        transitions = self.transitions.value
        nothing = ops.zeros_like(transitions[0])
        chain = transitions, *(nothing if each is None else each.value for each in (self.start, self.end))
        return self.with_constraints(chain) if constrained else chain

    def with_constraints(self, chain):
        """Transitions, start and end with what the constraints rule out forbidden."""
        if self._allowed is None:
            return chain
        return tuple(
            ops.where(ops.convert_to_tensor(allowed), scores, FORBIDDEN)
            for allowed, scores in zip(self._allowed, chain, strict=True)
        )

    def potentials(self, emissions, constrained):
        """The potentials of `trellis.components.lattice` for these emissions, without the lengths: four tensors."""
        return emissions, *self.scores(constrained)

    def decode(self, emissions, lengths):
        emissions, *chain = self.potentials(emissions, constrained=True)
        tags, _ = paths.viterbi(emissions, lengths, *chain, jit_compile=False)
        return tags

    def k_best(self, emissions, lengths, k):
        emissions, *chain = self.potentials(emissions, constrained=True)
        return paths.k_best(emissions, lengths, *chain, k=k)

    def marginals(self, emissions, lengths):
        # Not with XLA: this goes into exports, which a server without XLA has to run.
        emissions, *chain = self.potentials(emissions, constrained=True)
        return linear_chain.marginals(emissions, lengths, *chain, jit_compile=False)

    def negative_log_likelihood(self, emissions, tags, lengths):
        emissions, *chain = self.potentials(emissions, constrained=self.constrain_training)
        total = linear_chain.log_partition(emissions, lengths, *chain, jit_compile=self.jit_compile)
        if len(tags.shape) == 2:
            return total - linear_chain.path_score(emissions, tags, lengths, *chain)
        allowed = allowed_only(emissions, tags)
        return total - linear_chain.log_partition(allowed, lengths, *chain, jit_compile=self.jit_compile)

    def get_config(self):
        return {
            **super().get_config(),
            "boundaries": self.boundaries,
            "constraints": self.constraints,
            "tags": self.tags,
            "constrain_training": self.constrain_training,
        }


def _require_paths(transitions, start, end):
    """Refuses constraints that no sequence of some length can meet."""
    reachable, seen, length = frozenset(tag for tag, may in enumerate(start) if may), set(), 1
    while reachable not in seen:
        if not any(end[tag] for tag in reachable):
            raise ValueError(f"the constraints leave no path for a sentence of {length} tokens")
        seen.add(reachable)
        after = (tag for tag in range(len(end)) if any(transitions[before][tag] for before in reachable))
        reachable, length = frozenset(after), length + 1
