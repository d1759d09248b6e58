"""Run an export through TensorFlow's C API, without Python in TensorFlow: the way TensorFlow Serving loads it.

usage: c_api.py EXPORT SIGNATURE… — answers the requests of its golden.json to these signatures, one JSON object a line:
outputs and milliseconds.

With TRELLIS_GRAPPLER=0 in the environment, graphs run as they are stored. TensorFlow's graph optimizer, Grappler, takes
most of the time of the first requests; tests that send only a few do without it.
"""

import contextlib
import ctypes
import functools
import importlib.util
import json
import os
import sys
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Values of TF_DataType in TensorFlow's c/tf_datatype.h.
STRING = 7
DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64, 10: np.bool_}
DATA_TYPES = {np.dtype(dtype).name: data_type for data_type, dtype in DTYPES.items()}
INVALID_ARGUMENT = 3  # of TF_Code, in tsl's c/tsl_status.h

# A TF_TString, in tsl's ctstring_internal.h: up to SHORT bytes are in it, after a byte with four times their number.
# What is longer is elsewhere, and the last two bits of that byte are not 0.
TSTRING_SIZE, SHORT = 24, 22

# A serialized `ConfigProto` with graph_options.rewrite_options.disable_meta_optimizer.
WITHOUT_GRAPPLER = b"R\x05R\x03\x98\x01\x01"


class Output(ctypes.Structure):
    """`TF_Output`: an output of an operation."""

    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class TensorFlowError(RuntimeError):
    """What TensorFlow says went wrong.

    Attributes:
        invalid: whether it is the inputs.
    """

    def __init__(self, message: str, invalid: bool) -> None:
        super().__init__(message)
        self.invalid = invalid


class Session:
    """A SavedModel loaded with nothing but TensorFlow's own kernels. Threads may share it.

    Args:
        export: the folder of the SavedModel.
        optimized: optimize graphs when they first run, which takes longer than a few requests do.

    Raises:
        TensorFlowError: TensorFlow cannot load it.
    """

    def __init__(self, export: str | os.PathLike[str], optimized: bool = True) -> None:
        self.tf = _load_library()
        self.graph = ctypes.c_void_p(self.tf.TF_NewGraph())
        tags, options = (ctypes.c_char_p * 1)(b"serve"), ctypes.c_void_p(self.tf.TF_NewSessionOptions())
        with self._status() as status:
            if not optimized or os.environ.get("TRELLIS_GRAPPLER") == "0":
                self.tf.TF_SetConfig(options, WITHOUT_GRAPPLER, ctypes.c_size_t(len(WITHOUT_GRAPPLER)), status)
            session = self.tf.TF_LoadSessionFromSavedModel(
                options, None, os.fsencode(export), tags, 1, self.graph, None, status
            )
            self.tf.TF_DeleteSessionOptions(options)
        self.session = ctypes.c_void_p(session)
        weakref.finalize(self, _delete, self.tf, self.session, self.graph).atexit = False

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Compute tensors.

        Args:
            inputs: `{tensor name: array}`; arrays of bytes for strings.
            outputs: the names of the tensors to compute.

        Returns:
            the value of each output.

        Raises:
            TensorFlowError: TensorFlow reports an error.
        """
        given, wanted = self._find_outputs(inputs), self._find_outputs(outputs)
        input_tensors = (ctypes.c_void_p * len(inputs))(*map(self._make_tensor, inputs.values()))
        output_tensors = (ctypes.c_void_p * len(outputs))()
        with self._status() as status:
            self.tf.TF_SessionRun(
                self.session, None, given, input_tensors, len(inputs),
                wanted, output_tensors, len(outputs), None, 0, None, status,
            )  # fmt: skip
            for tensor in input_tensors:
                self.tf.TF_DeleteTensor(ctypes.c_void_p(tensor))
        return [self._take_array(ctypes.c_void_p(tensor)) for tensor in output_tensors]

    def call(self, signature: Mapping[str, Any], inputs: Mapping[str, npt.ArrayLike]) -> dict[str, np.ndarray]:
        """Compute the outputs of a signature.

        Args:
            signature: its inputs and outputs, as `metadata.json` describes them.
            inputs: the value of each input.

        Raises:
            TensorFlowError: TensorFlow reports an error.
        """
        expected, outputs = signature["inputs"], signature["outputs"]
        given = {expected[name]["tensor"]: as_array(value, expected[name]["dtype"]) for name, value in inputs.items()}
        values = self.run(given, [output["tensor"] for output in outputs.values()])
        return dict(zip(outputs, values, strict=True))

    @contextlib.contextmanager
    def _status(self) -> Iterator[ctypes.c_void_p]:
        """Yield a new TF_Status; raise TensorFlowError if it is not well at the end of the block."""
        status = ctypes.c_void_p(self.tf.TF_NewStatus())
        try:
            yield status
            code = self.tf.TF_GetCode(status)
            if code:
                raise TensorFlowError(self.tf.TF_Message(status).decode("utf-8", "replace"), code == INVALID_ARGUMENT)
        finally:
            self.tf.TF_DeleteStatus(status)

    def _find_outputs(self, names: Iterable[str]) -> ctypes.Array[Output]:
        """Return the outputs of operations that tensor names such as `Placeholder:0` refer to.

        Raises:
            TensorFlowError: there is no such operation.
        """
        outputs = []
        for name in names:
            operation, _, index = name.partition(":")
            address = self.tf.TF_GraphOperationByName(self.graph, operation.encode())
            if not address:
                raise TensorFlowError(f"no operation {operation} in this graph", invalid=False)
            outputs.append(Output(address, int(index)))
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
            return tensor
        values = array.ravel().tolist()
        lengths = np.array([len(value) for value in values], np.intp)
        short = lengths <= SHORT
        strings = np.zeros([len(values), TSTRING_SIZE], np.uint8)
        strings[short, 0] = lengths[short] << 2
        texts = np.array([value for value in values if len(value) <= SHORT], f"S{SHORT}")
        strings[short, 1 : SHORT + 1] = texts.view(np.uint8).reshape(-1, SHORT)
        ctypes.memmove(data, strings.ctypes.data, size)
        for index in np.flatnonzero(~short).tolist():
            string = ctypes.c_void_p(data + index * TSTRING_SIZE)
            self.tf.TF_StringInit(string)
            self.tf.TF_StringCopy(string, values[index], ctypes.c_size_t(len(values[index])))
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
            strings = np.frombuffer(ctypes.string_at(address, count * TSTRING_SIZE), np.uint8)
            strings = strings.reshape(count, TSTRING_SIZE)
            texts = np.ascontiguousarray(strings[:, 1 : SHORT + 1]).view(f"S{SHORT}")[:, 0]
            array[:] = texts.tolist()
            # NumPy drops zeros at the end of a string.
            whole = (strings[:, 0] & 3 == 0) & (strings[:, 0] >> 2 == np.char.str_len(texts))
            for index in np.flatnonzero(~whole).tolist():
                string = ctypes.c_void_p(address + index * TSTRING_SIZE)
                size = self.tf.TF_StringGetSize(string)
                array[index] = ctypes.string_at(self.tf.TF_StringGetDataPointer(string), size)
            array = array.reshape(shape)
        self.tf.TF_DeleteTensor(tensor)
        return array


def _delete(library: ctypes.CDLL, session: ctypes.c_void_p, graph: ctypes.c_void_p) -> None:
    """Free what a session holds."""
    status = ctypes.c_void_p(library.TF_NewStatus())
    library.TF_CloseSession(session, status)
    library.TF_DeleteSession(session, status)
    library.TF_DeleteGraph(graph)
    library.TF_DeleteStatus(status)


@functools.cache
def _load_library() -> ctypes.CDLL:
    """Load TensorFlow's shared libraries from its Python package, without importing the package."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        raise RuntimeError("tensorflow is not installed")
    ending = "2.dylib" if sys.platform == "darwin" else "so.2"
    for name in ("libtensorflow_framework", "libtensorflow_cc"):
        library = ctypes.CDLL(str(Path(spec.origin).with_name(f"{name}.{ending}")), mode=ctypes.RTLD_GLOBAL)
    pointers = """NewStatus NewGraph NewSessionOptions LoadSessionFromSavedModel AllocateTensor TensorData
        GraphOperationByName StringGetDataPointer"""
    for function in pointers.split():
        getattr(library, f"TF_{function}").restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    library.TF_StringGetSize.restype = library.TF_TensorByteSize.restype = ctypes.c_size_t
    library.TF_Dim.restype = ctypes.c_int64
    return library


def as_array(values: npt.ArrayLike, dtype: str) -> np.ndarray:
    """Return values as an array of a type of TensorFlow; strings as bytes in an array of objects."""
    if dtype != "string":
        return np.asarray(values, dtype)
    array = np.array(values, object)
    flat = array.reshape(-1)
    flat[:] = [value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value for value in flat.tolist()]
    return array


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
        inputs = {name: decode_array(value) for name, value in request["inputs"].items()}
        began = time.perf_counter()
        outputs = session.call(signatures[request["signature"]], inputs)
        milliseconds = 1000 * (time.perf_counter() - began)
        answer = {name: encode_array(output) for name, output in outputs.items()}
        print(json.dumps({"outputs": answer, "milliseconds": milliseconds}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
