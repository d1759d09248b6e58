"""A model on a server, used as if it had been loaded here."""

import numpy as np

from trellis.components.errors import InputError
from trellis.serve.client import Client, ServingError


class RemoteModel:
    """Has `signatures` as a loaded SavedModel does.

    Args:
        url: `http://…` or `grpc://…` of the server.
        name: of the model there.

    Raises:
        InputError: no server answers there, or it has no such model.
    """

    def __init__(self, url, name):
        try:
            self._client = Client(url, name, timeout=60.0)
            found = self._client.signatures()
        except (ServingError, ValueError) as error:
            raise InputError(f"--url {url}: {error}") from None
        self.signatures = {key: _Signature(self._client, key, inputs) for key, inputs in found.items()}


class _Signature:
    def __init__(self, client, name, inputs):
        self._client, self._name = client, name
        self.structured_input_signature = ((), dict.fromkeys(inputs))

    def __call__(self, **inputs):
        try:
            given = {name: np.asarray(value) for name, value in inputs.items()}
            outputs = self._client.predict(self._name, **given)
        except ServingError as error:
            raise InputError(f"the server says {error}") from None
        return {name: _Value(array) for name, array in outputs.items()}


class _Value:
    """What a tensor is asked for here."""

    def __init__(self, array):
        if array.dtype == object:
            flat = np.empty(array.size, object)
            flat[:] = [each if isinstance(each, bytes) else each.encode() for each in array.ravel()]
            array = flat.reshape(array.shape)
        self._array = array

    def numpy(self):
        return self._array

    def __getitem__(self, key):
        found = self._array[key]
        return _Value(found) if isinstance(found, np.ndarray) else found
