"""An export on a server."""

import re

import numpy as np
import numpy.typing as npt

from trellis.components.errors import InputError
from trellis.serve.client import Client, ServingError
from trellis.serve.export_model import ExportModel


class RemoteModel(ExportModel):
    """A model on a server.

    Args:
        url: the address of the server, `http://…`, `https://…`, `grpc://…` or `grpcs://…`.
        name: the name of the model on the server.

    Raises:
        InputError: no server answers there, or it has no such model.
    """

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        try:
            self._client = Client(url, name, timeout=60.0)
            self.inputs = self._client.signatures()
        except (ServingError, ValueError) as error:
            raise InputError(f"--url {url}: {_reason(error)}") from None

    def call(self, signature: str, **inputs: npt.ArrayLike) -> dict[str, np.ndarray]:
        """Compute a signature; see `ExportModel.call`."""
        try:
            outputs = self._client.predict(signature, None, **inputs)
        except ServingError as error:
            raise InputError(f"the server answered {error}") from None
        return {name: _as_bytes(array) for name, array in outputs.items()}


def _reason(error: ServingError | ValueError) -> str:
    """Return why a request failed; for a failed connection, only its cause."""
    if not isinstance(error, ServingError) or error.code != "UNAVAILABLE":
        return str(error)
    cause = re.sub(r"\[Errno -?\d+\] ", "", error.message).rpartition(": ")[2]
    return f"no server answers there ({cause})"


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """Return the array with every string as bytes."""
    if array.dtype != object:
        return array
    strings = np.empty(array.size, object)
    strings[:] = [value if isinstance(value, bytes) else value.encode() for value in array.ravel()]
    return strings.reshape(array.shape)
