"""The interface of everything that is exported."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from trellis.components.types import FilePath

Requests = dict[str, dict[str, Any]]  # {signature: {input: value}}


class ExportModule(tf.Module, abc.ABC):
    """A trained model with the signatures under which servers offer it, and nothing but TensorFlow inside.

    Attributes:
        parameters: the variables to store, in the order of the model's variables. A SavedModel keeps no Keras objects
            and does not look for variables inside functions, so the module lists them itself.
    """

    parameters: Sequence[Any]

    @abc.abstractmethod
    def signatures(self) -> Mapping[str, Callable[..., dict[str, Any]]]:
        """Return the `tf.function` of each signature, by name."""

    @abc.abstractmethod
    def examples(self, texts: Sequence[Any]) -> Requests:
        """Return a request to each signature about a batch of texts.

        Args:
            texts: as the training pipeline chooses them: strings, or `(source, target)` for word aligners.

        Returns:
            `{signature: {input: value}}`.
        """

    def save(self, path: FilePath) -> None:
        """Write the SavedModel to a folder, without gradients."""
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(self, str(path), signatures=dict(self.signatures()), options=options)
