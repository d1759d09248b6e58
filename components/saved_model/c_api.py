"""Run an export through TensorFlow's C API, without Python in TensorFlow: the way TensorFlow Serving loads it.

usage: c_api.py EXPORT SIGNATURE… — answers the requests of its golden.json to these signatures, one JSON object a line:
outputs and milliseconds.

With TRELLIS_GRAPPLER=0 in the environment, graphs run as they are stored. TensorFlow's graph optimizer, Grappler, takes
most of the time of the first requests; tests that send only a few do without it.
"""

import ctypes
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Values of TF_DataType in TensorFlow's c/tf_datatype.h.
STRING, TSTRING_SIZE = 7, 24
DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64, 10: np.bool_}
DATA_TYPES = {np.dtype(dtype).name: data_type for data_type, dtype in DTYPES.items()}

# A serialized `ConfigProto` with graph_options.rewrite_options.disable_meta_optimizer.
WITHOUT_GRAPPLER = b"R\x05R\x03\x98\x01\x01"


class Output(ctypes.Structure):
    """`TF_Output`: an output of an operation."""

    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class Session:
    """A SavedModel loaded with nothing but TensorFlow's own kernels.

    Args:
        export: the folder of the SavedModel.

    Raises:
        RuntimeError: TensorFlow cannot load it.
    """

    def __init__(self, export: str | Path) -> None:
        self.tf = _load_library()
        self.status = ctypes.c_void_p(self.tf.TF_NewStatus())
        self.graph = ctypes.c_void_p(self.tf.TF_NewGraph())
        tags, options = (ctypes.c_char_p * 1)(b"serve"), ctypes.c_void_p(self.tf.TF_NewSessionOptions())
        if os.environ.get("TRELLIS_GRAPPLER") == "0":
            self.tf.TF_SetConfig(options, WITHOUT_GRAPPLER, ctypes.c_size_t(len(WITHOUT_GRAPPLER)), self.status)
            self._raise_on_error()
        session = self.tf.TF_LoadSessionFromSavedModel(
            options, None, str(export).encode(), tags, 1, self.graph, None, self.status
        )
        self._raise_on_error()
        self.session = ctypes.c_void_p(session)

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Compute tensors.

        Args:
            inputs: `{tensor name: array}`; arrays of bytes for strings.
            outputs: the names of the tensors to compute.

        Returns:
            the value of each output.

        Raises:
            RuntimeError: TensorFlow reports an error.
        """
        input_tensors = (ctypes.c_void_p * len(inputs))(*map(self._make_tensor, inputs.values()))
        output_tensors = (ctypes.c_void_p * len(outputs))()
        self.tf.TF_SessionRun(
            self.session, None, self._find_outputs(inputs), input_tensors, len(inputs),
            self._find_outputs(outputs), output_tensors, len(outputs), None, 0, None, self.status,
        )  # fmt: skip
        for tensor in input_tensors:
            self.tf.TF_DeleteTensor(ctypes.c_void_p(tensor))
        self._raise_on_error()
        return [self._take_array(ctypes.c_void_p(tensor)) for tensor in output_tensors]

    def _raise_on_error(self) -> None:
        if self.tf.TF_GetCode(self.status):
            raise RuntimeError(self.tf.TF_Message(self.status).decode("utf-8", "replace"))

    def _find_outputs(self, names: Iterable[str]) -> ctypes.Array[Output]:
        """Return the outputs of operations that tensor names such as `Placeholder:0` refer to."""
        outputs = []
        for name in names:
            operation, _, index = name.partition(":")
            outputs.append(Output(self.tf.TF_GraphOperationByName(self.graph, operation.encode()), int(index)))
        return (Output * len(outputs))(*outputs)

    def _make_tensor(self, array: np.ndarray) -> int:
        """Return the address of a new TF_Tensor with the values of an array."""
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        is_text = array.dtype == object
        data_type = STRING if is_text else DATA_TYPES[array.dtype.name]
        size = array.size * TSTRING_SIZE if is_text else array.nbytes
        tensor: int = self.tf.TF_AllocateTensor(data_type, shape, array.ndim, ctypes.c_size_t(size))
        data = self.tf.TF_TensorData(ctypes.c_void_p(tensor))
        if not is_text:
            ctypes.memmove(data, np.ascontiguousarray(array).ctypes.data, size)
        for index, value in enumerate(array.ravel() if is_text else ()):
            string = ctypes.c_void_p(data + index * TSTRING_SIZE)
            self.tf.TF_StringInit(string)
            self.tf.TF_StringCopy(string, value, ctypes.c_size_t(len(value)))
        return tensor

    def _take_array(self, tensor: ctypes.c_void_p) -> np.ndarray:
        """Copy a TF_Tensor into an array, and delete it."""
        shape = [self.tf.TF_Dim(tensor, axis) for axis in range(self.tf.TF_NumDims(tensor))]
        data_type, address = self.tf.TF_TensorType(tensor), self.tf.TF_TensorData(tensor)
        count = int(np.prod(shape, dtype=int))
        array: np.ndarray
        if data_type != STRING:
            data = ctypes.string_at(address, self.tf.TF_TensorByteSize(tensor)) if count else b""
            array = np.frombuffer(data, DTYPES[data_type]).reshape(shape)
        else:
            array = np.empty(count, object)
            for index in range(count):
                string = ctypes.c_void_p(address + index * TSTRING_SIZE)
                size = self.tf.TF_StringGetSize(string)
                array[index] = ctypes.string_at(self.tf.TF_StringGetDataPointer(string), size)
            array = array.reshape(shape)
        self.tf.TF_DeleteTensor(tensor)
        return array


def _load_library() -> ctypes.CDLL:
    """Load TensorFlow's shared libraries from its Python package, without importing the package."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        raise RuntimeError("tensorflow is not installed")
    folder = Path(spec.origin).parent
    for name in ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"):
        library = ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
    pointers = """NewStatus NewGraph NewSessionOptions LoadSessionFromSavedModel AllocateTensor TensorData
        GraphOperationByName StringGetDataPointer"""
    for function in pointers.split():
        getattr(library, f"TF_{function}").restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    library.TF_StringGetSize.restype = library.TF_TensorByteSize.restype = ctypes.c_size_t
    library.TF_Dim.restype = ctypes.c_int64
    return library


def encode_array(values: npt.ArrayLike) -> dict[str, Any]:
    """Return an array in the form in which JSON stores it."""
    array = np.asarray(values)
    if array.dtype.kind in "OSU":
        flat = [v if isinstance(v, str) else bytes(v).decode("utf-8", "surrogateescape") for v in array.ravel()]
        return {"dtype": "string", "shape": list(array.shape), "values": flat}
    return {"dtype": array.dtype.name, "shape": list(array.shape), "values": array.ravel().tolist()}


def decode_array(stored: Mapping[str, Any]) -> np.ndarray:
    """Return the array that `encode_array` stored; strings become bytes."""
    if stored["dtype"] == "string":
        array = np.empty(len(stored["values"]), object)
        array[:] = [value.encode("utf-8", "surrogateescape") for value in stored["values"]]
    else:
        array = np.array(stored["values"], stored["dtype"])
    return array.reshape(stored["shape"])


def main(export: str, *names: str) -> None:
    """Print the answers of an export to its golden requests to some signatures."""
    extra = Path(export) / "assets.extra"
    signatures = json.loads((extra / "metadata.json").read_text())["signatures"]
    requests = [each for each in json.loads((extra / "golden.json").read_text()) if each["signature"] in names]
    began = time.perf_counter()
    session = Session(export)
    print(json.dumps({"loading": time.perf_counter() - began}), flush=True)
    for request in requests:
        signature = signatures[request["signature"]]
        inputs = {signature["inputs"][name]["tensor"]: decode_array(value) for name, value in request["inputs"].items()}
        outputs = list(request["outputs"])
        began = time.perf_counter()
        values = session.run(inputs, [signature["outputs"][name]["tensor"] for name in outputs])
        milliseconds = 1000 * (time.perf_counter() - began)
        answer = {name: encode_array(output) for name, output in zip(outputs, values, strict=True)}
        print(json.dumps({"outputs": answer, "milliseconds": milliseconds}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
