"""Attach values to tensors, so that code that receives the same tensor can look them up.

A Keras loss is called with the model's output and nothing else. The loss of a sequence head needs the scores that the
head chose tags from, and the head's weights, neither of which the integer tags contain. Keras faces the same problem
with masks and attaches them to tensors; its functions for that are private, so this module has its own.

TensorFlow and PyTorch tensors take attributes. JAX arrays and tracers do not; for them a table holds the notes by the
identity of the tensor, and a weak reference removes a note when its tensor is freed. Notes are per tensor in either
case, so any number of models, outputs and threads can attach them without seeing each other's.

A note belongs to the tensor object, not to its value: it is lost when the tensor is cast, reshaped, copied, sliced, or
passed through `tf.function`, `jax.jit` or a saved model. `TensorNotes.get` returns None then.
"""

import weakref
from typing import Any, Generic, TypeVar

from trellis.components.types import Tensor

Note = TypeVar("Note")


class TensorNotes(Generic[Note]):
    """One kind of note.

    Args:
        attribute: the attribute that holds the note where tensors take attributes.
    """

    def __init__(self, attribute: str) -> None:
        self._attribute = attribute
        # Not for TensorFlow: there a note that holds tensors would keep its own key alive, through their graph.
        self._by_identity: dict[int, tuple[weakref.ref[Any], Note]] = {}

    def attach(self, tensor: Tensor, note: Note) -> None:
        """Attach a note to a tensor in place of any earlier one."""
        try:
            setattr(tensor, self._attribute, note)
        except AttributeError:
            identity = id(tensor)

            def forget(_: Any) -> None:
                self._by_identity.pop(identity, None)

            self._by_identity[identity] = weakref.ref(tensor, forget), note

    def get(self, tensor: Tensor) -> Note | None:
        """Return the note of a tensor, or None if it has none."""
        reference, note = self._by_identity.get(id(tensor), (None, None))
        if reference is not None and reference() is tensor:
            return note
        note = getattr(tensor, self._attribute, None)
        return note
