"""Asks an export through TensorFlow's C API, the way TensorFlow Serving loads it: no Python in TensorFlow at all.

usage: c_api.py EXPORT — answers the requests of its golden.json, one JSON object a line: outputs and milliseconds.
"""

import ctypes
import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np

STRING, TSTRING_SIZE = 7, 24
DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64, 10: np.bool_}
NUMBERS = {np.dtype(dtype).name: number for number, dtype in DTYPES.items()}


class Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class Session:
    """A SavedModel that is loaded with nothing but TensorFlow's own kernels."""

    def __init__(self, export):
        self.tf = _library()
        self.status = ctypes.c_void_p(self.tf.TF_NewStatus())
        self.graph = ctypes.c_void_p(self.tf.TF_NewGraph())
        tags, options = (ctypes.c_char_p * 1)(b"serve"), ctypes.c_void_p(self.tf.TF_NewSessionOptions())
        session = self.tf.TF_LoadSessionFromSavedModel(
            options, None, str(export).encode(), tags, 1, self.graph, None, self.status
        )
        self._check()
        self.session = ctypes.c_void_p(session)

    def run(self, inputs, outputs):
        """Values of the tensors named in `outputs`, for `{tensor name: array}`; arrays of bytes for strings."""
        given = (ctypes.c_void_p * len(inputs))(*(self._tensor(each) for each in inputs.values()))
        found = (ctypes.c_void_p * len(outputs))()
        self.tf.TF_SessionRun(
            self.session, None, self._places(inputs), given, len(inputs),
            self._places(outputs), found, len(outputs), None, 0, None, self.status,
        )  # fmt: skip
        for tensor in given:
            self.tf.TF_DeleteTensor(ctypes.c_void_p(tensor))
        self._check()
        return [self._array(ctypes.c_void_p(tensor)) for tensor in found]

    def _check(self):
        if self.tf.TF_GetCode(self.status):
            raise RuntimeError(self.tf.TF_Message(self.status).decode("utf-8", "replace"))

    def _places(self, names):
        places = []
        for name in names:
            operation, _, index = name.partition(":")
            places.append(Output(self.tf.TF_GraphOperationByName(self.graph, operation.encode()), int(index)))
        return (Output * len(places))(*places)

    def _tensor(self, array):
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        text = array.dtype == object
        number = STRING if text else NUMBERS[array.dtype.name]
        size = array.size * TSTRING_SIZE if text else array.nbytes
        tensor = self.tf.TF_AllocateTensor(number, shape, array.ndim, ctypes.c_size_t(size))
        place = self.tf.TF_TensorData(ctypes.c_void_p(tensor))
        if not text:
            ctypes.memmove(place, np.ascontiguousarray(array).ctypes.data, size)
        for index, value in enumerate(array.ravel() if text else ()):
            string = ctypes.c_void_p(place + index * TSTRING_SIZE)
            self.tf.TF_StringInit(string)
            self.tf.TF_StringCopy(string, value, ctypes.c_size_t(len(value)))
        return tensor

    def _array(self, tensor):
        shape = [self.tf.TF_Dim(tensor, axis) for axis in range(self.tf.TF_NumDims(tensor))]
        kind, place = self.tf.TF_TensorType(tensor), self.tf.TF_TensorData(tensor)
        count = int(np.prod(shape, dtype=int))
        if kind != STRING:
            data = ctypes.string_at(place, self.tf.TF_TensorByteSize(tensor)) if count else b""
            array = np.frombuffer(data, DTYPES[kind]).reshape(shape)
        else:
            array = np.empty(count, object)
            for index in range(count):
                string = ctypes.c_void_p(place + index * TSTRING_SIZE)
                size = self.tf.TF_StringGetSize(string)
                array[index] = ctypes.string_at(self.tf.TF_StringGetDataPointer(string), size)
            array = array.reshape(shape)
        self.tf.TF_DeleteTensor(tensor)
        return array


def _library():
    folder = Path(importlib.util.find_spec("tensorflow").origin).parent
    for pattern in ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"):
        library = ctypes.CDLL(str(folder / pattern), mode=ctypes.RTLD_GLOBAL)
    pointers = """NewStatus NewGraph NewSessionOptions LoadSessionFromSavedModel AllocateTensor TensorData
        GraphOperationByName StringGetDataPointer"""
    for name in (f"TF_{each}" for each in pointers.split()):
        getattr(library, name).restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    library.TF_StringGetSize.restype = library.TF_TensorByteSize.restype = ctypes.c_size_t
    library.TF_Dim.restype = ctypes.c_int64
    return library


def encoded(array):
    """An array as JSON can hold it."""
    array = np.asarray(array)
    if array.dtype.kind in "OSU":
        flat = [v if isinstance(v, str) else bytes(v).decode("utf-8", "surrogateescape") for v in array.ravel()]
        return {"dtype": "string", "shape": list(array.shape), "values": flat}
    return {"dtype": array.dtype.name, "shape": list(array.shape), "values": array.ravel().tolist()}


def decoded(stored):
    """The array that `encoded` was given; strings as bytes."""
    if stored["dtype"] == "string":
        array = np.empty(len(stored["values"]), object)
        array[:] = [value.encode("utf-8", "surrogateescape") for value in stored["values"]]
    else:
        array = np.array(stored["values"], stored["dtype"])
    return array.reshape(stored["shape"])


def main(export):
    extra = Path(export) / "assets.extra"
    signatures = json.loads((extra / "metadata.json").read_text())["signatures"]
    requests = json.loads((extra / "golden.json").read_text())
    began = time.perf_counter()
    session = Session(export)
    print(json.dumps({"loading": time.perf_counter() - began}), flush=True)
    for request in requests:
        signature = signatures[request["signature"]]
        inputs = {signature["inputs"][name]["tensor"]: decoded(value) for name, value in request["inputs"].items()}
        names = list(request["outputs"])
        began = time.perf_counter()
        outputs = session.run(inputs, [signature["outputs"][name]["tensor"] for name in names])
        milliseconds = 1000 * (time.perf_counter() - began)
        answer = {name: encoded(output) for name, output in zip(names, outputs, strict=True)}
        print(json.dumps({"outputs": answer, "milliseconds": milliseconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
