"""Exports that answer requests: loaded into this process, or on a server."""

import abc
import enum
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from trellis.components.errors import InputError, first_line, one_line
from trellis.components.quiet import captured_stderr
from trellis.components.saved_model.c_api import Session, TensorFlowError
from trellis.components.saved_model.versions import EXTRA, METADATA, read_metadata
from trellis.components.types import FilePath


class Kind(enum.Enum):
    """What a model does."""

    TAGGER = "a tagger"
    ALIGNER = "a word aligner"
    CLASSIFIER = "a classifier"
    LANGUAGE_MODEL = "a language model"
    TRANSLATOR = "a translator"


class ExportModel(abc.ABC):
    """An export that answers requests.

    Attributes:
        name: where it is, for messages.
        inputs: the names of the inputs of each signature.
    """

    name: str
    inputs: Mapping[str, Sequence[str]]

    @abc.abstractmethod
    def call(self, signature: str, **inputs: npt.ArrayLike) -> dict[str, np.ndarray]:
        """Compute a signature.

        Args:
            signature: its name.
            **inputs: the value of each input; strings are bytes in arrays of objects.

        Returns:
            the value of each output; strings are bytes in arrays of objects.

        Raises:
            InputError: the model rejects the inputs, or a server does not answer.
        """

    @property
    def kind(self) -> Kind:
        """What the model does, according to its signatures.

        Raises:
            InputError: its signatures are not those of a model of Trellis.
        """
        if "target" in self.inputs.get("serving_default", ()):
            return Kind.ALIGNER
        for signature, kind in (
            ("translate", Kind.TRANSLATOR),
            ("embed", Kind.CLASSIFIER),
            ("generate", Kind.LANGUAGE_MODEL),
            ("from_text", Kind.TAGGER),
        ):
            if signature in self.inputs:
                return kind
        raise InputError(
            f"{self.name}: its signatures ({', '.join(sorted(self.inputs))}) are not those of a tagger, word aligner, "
            "classifier, language model or translator; ask it with tf.saved_model.load or trellis.serve.client"
        )


class LocalModel(ExportModel):
    """A SavedModel in this process.

    Args:
        folder: a version of an export.

    Raises:
        InputError: the folder holds no export that can be loaded.
    """

    def __init__(self, folder: FilePath) -> None:
        self.name = str(folder)
        self._signatures = read_metadata(folder).get("signatures", {})
        if "serving_default" not in self._signatures:
            reason = f"no signatures in {EXTRA}/{METADATA}"
            raise InputError(f"{folder}: not an export of Trellis ({reason}); ask it with tf.saved_model.load")
        self.inputs = {name: list(signature["inputs"]) for name, signature in self._signatures.items()}
        try:
            with captured_stderr():
                self._session = Session(folder)
        except TensorFlowError as error:
            raise InputError(f"{folder}: not an export ({first_line(error)})") from None

    def call(self, signature: str, **inputs: npt.ArrayLike) -> dict[str, np.ndarray]:
        """Compute a signature; see `ExportModel.call`."""
        try:
            return self._session.call(self._signatures[signature], inputs)
        except TensorFlowError as error:
            if error.invalid:
                raise InputError(one_line(error)) from None
            raise
