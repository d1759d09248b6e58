"""Requests and answers in TensorFlow Serving's JSON, and the errors of requests that cannot be answered."""

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from trellis.components.errors import first_line
from trellis.components.types import JSON

# HTTP status by the name of a gRPC status.
HTTP = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
LONGEST_NAME, LONGEST_MESSAGE = 100, 500  # characters that an error repeats of a name, and of a message
VALUES = 4  # values, lists and keys in the JSON of a request for each cell that a signature may have

Arrays = dict[str, np.ndarray]


class Spec(NamedTuple):
    """A tensor of a signature.

    Attributes:
        dtype: the name of its type, such as `float32`.
        shape: its axes, -1 for any size; None for any rank.
    """

    dtype: str
    shape: tuple[int, ...] | None


class Signature(NamedTuple):
    """The inputs and outputs of a signature, by name."""

    inputs: dict[str, Spec]
    outputs: dict[str, Spec]


class Refused(Exception):
    """A request that the server does not answer.

    Attributes:
        code: the name of a gRPC status, one of `HTTP`.
        message: the input and the reason.
    """

    def __init__(self, code: str, message: str) -> None:
        # One line, and short: gRPC sends it as a header, which clients refuse if it is large.
        message = "".join(character if character.isprintable() else " " for character in message[:LONGEST_MESSAGE])
        super().__init__(message)
        self.code, self.message = code, message


def refusal(error: BaseException) -> Refused:
    """Return the answer to a request whose computation failed."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, MemoryError):
        return Refused("RESOURCE_EXHAUSTED", "there is too little memory for this request")
    return Refused("INTERNAL", first_line(error, LONGEST_MESSAGE))


def refuse(message: str) -> NoReturn:
    """Raise `Refused` with INVALID_ARGUMENT."""
    raise Refused("INVALID_ARGUMENT", message)


def brief(text: str) -> str:
    """Return the beginning of a text that came with a request, to be repeated in an error."""
    return text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "…"


class Predict(NamedTuple):
    """A parsed `:predict` request.

    Attributes:
        signature: the name of the signature.
        values: the inputs by name, the value of the only input, or rows of either.
        in_rows: whether the request has `instances`, rows, rather than `inputs`, columns.
    """

    signature: str
    values: Any
    in_rows: bool


def parse(body: bytes, cells: int | None = None) -> Predict:
    """Parse the body of a `:predict` request.

    Args:
        body: the body.
        cells: the maximum cells of a request to any signature; None: any number.

    Raises:
        Refused: it is not such JSON, or it has more values than any signature takes.
    """
    if cells is not None and len(body) > 2 * VALUES * cells:  # a value has at least two characters
        _check_values(body, VALUES * cells)
    try:
        request = json.loads(body)
    except RecursionError:
        refuse("JSON Parse error: nested too deeply")
    except (ValueError, UnicodeDecodeError) as error:
        refuse(f"JSON Parse error: {error}")
    if not isinstance(request, dict):
        refuse("JSON Value: the request is not an object")
    signature = request.get("signature_name", "serving_default")
    if not isinstance(signature, str):
        refuse("'signature_name' is not a string")
    in_rows, in_columns = "instances" in request, "inputs" in request
    if in_rows == in_columns:
        refuse("Missing 'inputs' or 'instances' key" if not in_rows else "Request has both 'inputs' and 'instances'")
    unknown = set(request) - {"signature_name", "instances", "inputs"}
    if unknown:
        refuse(f"Unknown key {brief(sorted(unknown)[0])!r} in the request")
    return Predict(signature, request["instances" if in_rows else "inputs"], in_rows)


def _check_values(body: bytes, limit: int) -> None:
    """Count the strings, numbers, lists and keys of JSON without parsing it.

    Raises:
        Refused: there are more than `limit`.
    """
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    strings = plain.count(b'"') // 2
    if strings <= limit:
        structure = b"".join(plain.split(b'"')[::2])  # what is outside of strings
        strings = max(strings, sum(structure.count(mark) for mark in (b",", b"[", b"{")))
    if strings > limit:
        refuse(f"{strings:,} values in the request, above the limit of {limit:,} (--limit cells=…)")


def tensors(values: Any, in_rows: bool, inputs: Mapping[str, Spec]) -> Arrays:
    """Return the inputs of a parsed request as arrays.

    Args:
        values: see `Predict`.
        in_rows: see `Predict`.
        inputs: the inputs of the signature.

    Raises:
        Refused: the values do not fit the signature.
    """
    if in_rows:
        values = _columns(values)
    if not isinstance(values, dict) or set(values) == {"b64"}:  # the value of the only input
        if len(inputs) != 1:
            refuse(f"inputs must be named: {', '.join(sorted(inputs))}")
        values = {next(iter(inputs)): values}
    check_names(values, inputs)
    return {name: _array(name, value, inputs[name]) for name, value in values.items()}


def _columns(rows: Any) -> Any:
    """Return rows of inputs by name as inputs by name; rows of values stay as they are."""
    if not isinstance(rows, list) or not rows:
        refuse("'instances' is not a non-empty list")
    if all(isinstance(row, dict) and "b64" not in row for row in rows):
        names = set(rows[0])
        if any(set(row) != names for row in rows):
            refuse("'instances' differ in their inputs")
        return {name: [row[name] for row in rows] for name in names}
    if any(isinstance(row, dict) and "b64" not in row for row in rows):
        refuse("'instances' mix objects with other values")
    return rows


def check_names(names: Collection[str], inputs: Mapping[str, Spec]) -> None:
    """Check the names of inputs.

    Raises:
        Refused: an input is missing or unknown.
    """
    missing, unknown = sorted(set(inputs) - set(names)), sorted(set(names) - set(inputs))
    if missing:
        refuse(f"input {missing[0]!r} is missing; expected {', '.join(sorted(inputs))}")
    if unknown:
        refuse(f"no input {brief(unknown[0])!r}; expected {', '.join(sorted(inputs))}")


def data_type(dtype: str) -> str:
    """Return TensorFlow's name of a type: `DT_FLOAT` for `float32`."""
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2

    return types_pb2.DataType.Name(tf.as_dtype(dtype).as_datatype_enum)


def check_array(name: str, array: np.ndarray, spec: Spec) -> None:
    """Check the type and shape of an input.

    Raises:
        Refused: they are not those of the signature.
    """
    dtype = "string" if array.dtype == object else array.dtype.name
    if dtype != spec.dtype and (dtype, spec.dtype) != ("float32", "bfloat16"):
        refuse(f"input {name!r}: dtype {dtype}, expected {spec.dtype}")
    if spec.shape is None:
        return
    if array.ndim != len(spec.shape):
        refuse(f"input {name!r}: rank {array.ndim}, expected {len(spec.shape)}")
    for axis, (size, expected) in enumerate(zip(array.shape, spec.shape, strict=True)):
        if expected not in (-1, size):
            refuse(f"input {name!r}: size {size} in axis {axis}, expected {expected}")


def _array(name: str, value: Any, spec: Spec) -> np.ndarray:
    """Return nested lists as the array that a signature expects."""
    dtype, rank = spec.dtype, len(spec.shape or ())
    flat, sizes = [value], []
    for axis in range(rank):
        if not all(isinstance(element, list) for element in flat):
            refuse(f"input {name!r}: rank {axis}, expected {rank}")
        lengths = {len(element) for element in flat}
        if len(lengths) > 1:
            refuse(f"input {name!r}: ragged, lists of {min(lengths)} and {max(lengths)} values in axis {axis}")
        sizes.append(lengths.pop() if lengths else 0)
        flat = [inner for element in flat for inner in element]
    accepted = _python_types(name, dtype)
    for element in flat:
        if isinstance(element, list):
            refuse(f"input {name!r}: rank above {rank}")
        if not isinstance(element, accepted) or (isinstance(element, bool) and dtype != "bool"):
            refuse(f"input {name!r}: {brief(json.dumps(element))} is not a {dtype}")
    array: np.ndarray
    if dtype == "string":
        array = np.empty(len(flat), object)
        array[:] = [_bytes(name, element) for element in flat]
    else:
        try:
            array = np.array(flat, np.float32 if dtype == "bfloat16" else dtype)
        except (OverflowError, TypeError, ValueError):
            refuse(f"input {name!r}: a value is outside the range of {dtype}")
    array = array.reshape(sizes)
    check_array(name, array, spec)
    return array


def _python_types(name: str, dtype: str) -> tuple[type, ...]:
    """Return the types of JSON values that can be elements of a tensor.

    Raises:
        Refused: JSON has no such values.
    """
    if dtype == "string":
        return str, dict
    if dtype == "bool":
        return (bool,)
    if dtype.startswith(("int", "uint")):
        return (int,)
    if "float" in dtype:
        return int, float
    refuse(f"input {name!r}: JSON has no values of type {dtype}; use gRPC")


def _bytes(name: str, value: str | dict[str, Any]) -> bytes:
    if isinstance(value, str):
        # Half of a surrogate pair has no UTF-8.
        return value.encode("utf-8", "replace")
    if set(value) != {"b64"} or not isinstance(value["b64"], str):
        refuse(f"input {name!r}: an object that is not {{'b64': …}}")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        refuse(f"input {name!r}: not base64")


def answer(outputs: Arrays, in_rows: bool) -> JSON:
    """Return outputs as JSON, in rows or in columns, as the request was.

    Raises:
        Refused: the outputs cannot be divided into rows.
    """
    values = {name: plain(array) for name, array in outputs.items()}
    if not in_rows:
        return {"outputs": next(iter(values.values())) if len(values) == 1 else values}
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    sizes = {array.shape[0] if array.ndim else None for array in outputs.values()}
    if len(sizes) > 1 or None in sizes:
        refuse("outputs differ in their first axis: send 'inputs' instead of 'instances'")
    return {"predictions": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]}


def plain(array: np.ndarray) -> Any:
    """Return a tensor as nested lists; strings that are not UTF-8 as `{"b64": …}`."""
    if array.dtype != object:
        return array.tolist()
    texts = np.empty(array.size, object)
    texts[:] = [_text(value) for value in array.ravel()]
    return texts.reshape(array.shape).tolist()


def _text(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
