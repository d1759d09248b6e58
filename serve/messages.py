"""TensorFlow Serving's gRPC messages without TensorFlow, whose import takes seconds.

The modules of tensorflow-serving-api import TensorFlow. The messages here have the fields that a client needs, with the
same names and numbers. Their descriptor pool is their own, so a process can use both.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_PACKAGE = "trellis.serving"
_ENTRY = "Entry"  # ends the name of the message that holds an entry of a map, as in protobuf's own compiler

# {message: {field: (number, type)}}; the type is that of protobuf, or a message. Enumerations are their numbers.
FIELDS = {
    "Int64Value": {"value": (1, "int64")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "Dim": {"size": (1, "int64")},
    "TensorShapeProto": {"dim": (2, "repeated Dim"), "unknown_rank": (3, "bool")},
    "TensorProto": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShapeProto"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "repeated float"),
        "double_val": (6, "repeated double"),
        "int_val": (7, "repeated int32"),
        "string_val": (8, "repeated bytes"),
        "scomplex_val": (9, "repeated float"),
        "int64_val": (10, "repeated int64"),
        "bool_val": (11, "repeated bool"),
        "dcomplex_val": (12, "repeated double"),
        "half_val": (13, "repeated int32"),
        "uint32_val": (16, "repeated uint32"),
        "uint64_val": (17, "repeated uint64"),
    },
    "TensorInfo": {"name": (1, "string"), "dtype": (2, "int32"), "tensor_shape": (3, "TensorShapeProto")},
    "SignatureDef": {"inputs": (1, "map TensorInfo"), "outputs": (2, "map TensorInfo"), "method_name": (3, "string")},
    "SignatureDefMap": {"signature_def": (1, "map SignatureDef")},
    "ModelSpec": {
        "name": (1, "string"),
        "version": (2, "Int64Value"),
        "signature_name": (3, "string"),
        "version_label": (4, "string"),
    },
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "map TensorProto")},
    "PredictResponse": {"outputs": (1, "map TensorProto"), "model_spec": (2, "ModelSpec")},
    "GetModelMetadataRequest": {"model_spec": (1, "ModelSpec"), "metadata_field": (2, "repeated string")},
    "GetModelMetadataResponse": {"model_spec": (1, "ModelSpec"), "metadata": (2, "map Any")},
    "GetModelStatusRequest": {"model_spec": (1, "ModelSpec")},
    "ModelVersionStatus": {"version": (1, "int64"), "state": (2, "int32")},
    "GetModelStatusResponse": {"model_version_status": (1, "repeated ModelVersionStatus")},
}
# {method: (path, the message that answers it)}
METHODS = {
    "Predict": ("/tensorflow.serving.PredictionService/Predict", "PredictResponse"),
    "GetModelMetadata": ("/tensorflow.serving.PredictionService/GetModelMetadata", "GetModelMetadataResponse"),
    "GetModelStatus": ("/tensorflow.serving.ModelService/GetModelStatus", "GetModelStatusResponse"),
}
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
# {number: (NumPy's type, the field of the values, NumPy's type of the numbers in it)}
TYPES = {
    1: ("float32", "float_val", "float32"),
    2: ("float64", "double_val", "float64"),
    3: ("int32", "int_val", "int32"),
    4: ("uint8", "int_val", "uint8"),
    5: ("int16", "int_val", "int16"),
    6: ("int8", "int_val", "int8"),
    7: ("object", "string_val", "object"),
    8: ("complex64", "scomplex_val", "float32"),
    9: ("int64", "int64_val", "int64"),
    10: ("bool", "bool_val", "bool"),
    14: ("bfloat16", "half_val", "uint16"),
    17: ("uint16", "int_val", "uint16"),
    18: ("complex128", "dcomplex_val", "float64"),
    19: ("float16", "half_val", "uint16"),
    22: ("uint32", "uint32_val", "uint32"),
    23: ("uint64", "uint64_val", "uint64"),
}
_NUMBERS = {name: number for number, (name, _, _) in TYPES.items()}
_STRING = _NUMBERS["object"]


def _message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="trellis/serving.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            label, _, element = kind.rpartition(" ")
            if label == "map":
                entry = message.nested_type.add(name=field.title().replace("_", "") + _ENTRY)
                entry.options.map_entry = True
                _add_field(entry, "key", 1, "string")
                _add_field(entry, "value", 2, element)
                element = f"{name}.{entry.name}"
            _add_field(message, field, number, element, bool(label))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in FIELDS}


def _add_field(message: Any, name: str, number: int, kind: str, repeated: bool = False) -> None:
    field = message.field.add(name=name, number=number)
    types = descriptor_pb2.FieldDescriptorProto
    field.label = types.LABEL_REPEATED if repeated else types.LABEL_OPTIONAL
    if kind[0].isupper():
        field.type, field.type_name = types.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = types.Type.Value(f"TYPE_{kind.upper()}")


MESSAGES = _message_classes()


def parse(name: str, encoded: bytes) -> Any:
    """Return the message that bytes hold.

    Raises:
        ValueError: they hold no such message.
    """
    try:
        return MESSAGES[name].FromString(encoded)
    except DecodeError:
        raise ValueError(f"not a {name}") from None


def as_tensor(value: npt.ArrayLike) -> Any:
    """Return a value as a `TensorProto`, of the type that `tf.make_tensor_proto` chooses.

    Args:
        value: strings, numbers, nested lists of them, or an array. In lists, floats become `float32` and integers
            `int32`, or `int64` where they need it.

    Raises:
        TypeError, ValueError: no tensor can hold it.
    """
    array = _as_array(value)
    tensor = MESSAGES["TensorProto"]()
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if array.dtype.kind in "OUS":
        tensor.dtype = _STRING
        tensor.string_val.extend(map(_as_bytes, array.ravel().tolist()))
    elif array.dtype.name in _NUMBERS:
        tensor.dtype, tensor.tensor_content = _NUMBERS[array.dtype.name], array.tobytes()
    else:
        raise TypeError(f"its type is {array.dtype}")
    return tensor


def _as_array(value: npt.ArrayLike) -> np.ndarray:
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    objects = np.array(value, object)  # NumPy's own strings lose null bytes at their ends
    if any(isinstance(element, str | bytes) for element in objects.ravel()):
        return objects
    array = np.array(value)
    if array.dtype == np.float64:
        return array.astype(np.float32)
    if array.dtype == np.int64 and (array == array.astype(np.int32)).all():
        return array.astype(np.int32)
    return array


def _as_bytes(text: object) -> bytes:
    if not isinstance(text, str | bytes):
        raise TypeError(f"a {type(text).__name__} is not a string")
    return text.encode() if isinstance(text, str) else text


def from_tensor(tensor: Any) -> np.ndarray:
    """Return a `TensorProto` as an array: strings as bytes in an array of objects, `bfloat16` as `float32`.

    Raises:
        KeyError, ValueError: its type or its values are not those of a tensor.
    """
    name, field, wire = TYPES[tensor.dtype]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        values = np.frombuffer(tensor.tensor_content, wire)
    elif name == "object":
        values = np.empty(len(tensor.string_val), object)
        values[:] = list(tensor.string_val)
    else:
        values = np.array(getattr(tensor, field), wire)
    if name == "bfloat16":
        values = (values.astype(np.uint32) << 16).view(np.float32)  # the upper half of the bits
    elif name != wire:
        values = values.view(name)
    # One value may stand for all that follow it.
    missing = int(np.prod(shape)) - len(values)
    if missing > 0:
        last = values[-1:] if len(values) else np.array([b"" if name == "object" else 0], values.dtype)
        values = np.concatenate([values, np.repeat(last, missing)])
    return values.reshape(shape)
