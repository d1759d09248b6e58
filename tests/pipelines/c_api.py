"""Runs the `serving_default` signature of an export through TensorFlow's C API, without importing TensorFlow's Python.

usage: c_api.py EXPORT TOKENS.json INPUT OUTPUT (names of tensors) — prints the tags as JSON.
"""

import ctypes
import importlib.util
import json
import sys
from pathlib import Path

STRING, TSTRING_SIZE = 7, 24


class Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


def load_library():
    folder = Path(importlib.util.find_spec("tensorflow").origin).parent
    for pattern in ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"):
        library = ctypes.CDLL(str(folder / pattern), mode=ctypes.RTLD_GLOBAL)
    pointers = """NewStatus NewGraph NewSessionOptions LoadSessionFromSavedModel AllocateTensor TensorData
        GraphOperationByName StringGetDataPointer"""
    for name in (f"TF_{each}" for each in pointers.split()):
        getattr(library, name).restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    library.TF_StringGetSize.restype = ctypes.c_size_t
    library.TF_Dim.restype = ctypes.c_int64
    return library


def main(export, tokens, input_name, output_name):
    tf = load_library()
    status = ctypes.c_void_p(tf.TF_NewStatus())

    def check():
        if tf.TF_GetCode(status):
            sys.exit(tf.TF_Message(status).decode())

    graph = ctypes.c_void_p(tf.TF_NewGraph())
    tags = (ctypes.c_char_p * 1)(b"serve")
    options = ctypes.c_void_p(tf.TF_NewSessionOptions())
    session = tf.TF_LoadSessionFromSavedModel(options, None, export.encode(), tags, 1, graph, None, status)
    check()

    rows = json.loads(Path(tokens).read_text())
    shape = (ctypes.c_int64 * 2)(len(rows), len(rows[0]))
    count = shape[0] * shape[1]
    given = ctypes.c_void_p(tf.TF_AllocateTensor(STRING, shape, 2, ctypes.c_size_t(count * TSTRING_SIZE)))
    place = tf.TF_TensorData(given)
    for index, token in enumerate(token.encode() for row in rows for token in row):
        string = ctypes.c_void_p(place + index * TSTRING_SIZE)
        tf.TF_StringInit(string)
        tf.TF_StringCopy(string, token, ctypes.c_size_t(len(token)))

    def tensor(name):
        operation, _, index = name.partition(":")
        return (Output * 1)(Output(tf.TF_GraphOperationByName(graph, operation.encode()), int(index)))

    inputs, outputs = tensor(input_name), tensor(output_name)
    feeds, fetched = (ctypes.c_void_p * 1)(given), (ctypes.c_void_p * 1)()
    tf.TF_SessionRun(
        ctypes.c_void_p(session), None, inputs, feeds, 1, outputs, fetched, 1, None, 0, None, status
    )  # fmt: skip
    check()

    result = ctypes.c_void_p(fetched[0])
    place = tf.TF_TensorData(result)
    strings = []
    for index in range(count):
        string = ctypes.c_void_p(place + index * TSTRING_SIZE)
        size = tf.TF_StringGetSize(string)
        strings.append(ctypes.string_at(tf.TF_StringGetDataPointer(string), size).decode())
    width = tf.TF_Dim(result, 1)
    print(json.dumps([strings[i : i + width] for i in range(0, count, width)]))


main(*sys.argv[1:])
