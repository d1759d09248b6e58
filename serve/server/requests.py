"""Requests and answers in TensorFlow Serving's JSON, and the errors of requests that cannot be answered."""

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

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
TYPES = {"string": (str, dict), "int32": (int,), "int64": (int,), "float32": (int, float), "bool": (bool,)}

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
        super().__init__(message)
        self.code, self.message = code, message


def refuse(message: str) -> NoReturn:
    """Raise `Refused` with INVALID_ARGUMENT."""
    raise Refused("INVALID_ARGUMENT", message)


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


def parse(body: bytes) -> Predict:
    """Parse the body of a `:predict` request.

    Raises:
        Refused: it is not such JSON.
    """
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
        refuse(f"Unknown key {sorted(unknown)[0]!r} in the request")
    return Predict(signature, request["instances" if in_rows else "inputs"], in_rows)


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
        refuse(f"no input {unknown[0]!r}; expected {', '.join(sorted(inputs))}")


def check_array(name: str, array: np.ndarray, spec: Spec) -> None:
    """Check the type and shape of an input.

    Raises:
        Refused: they are not those of the signature.
    """
    dtype = "string" if array.dtype == object else array.dtype.name
    if dtype != spec.dtype:
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
    for element in flat:
        if isinstance(element, list):
            refuse(f"input {name!r}: rank above {rank}")
        if not isinstance(element, TYPES[dtype]) or (isinstance(element, bool) and dtype != "bool"):
            refuse(f"input {name!r}: {json.dumps(element)[:40]} is not a {dtype}")
    array: np.ndarray
    if dtype == "string":
        array = np.empty(len(flat), object)
        array[:] = [_bytes(name, element) for element in flat]
    else:
        try:
            array = np.array(flat, dtype)
        except OverflowError:
            refuse(f"input {name!r}: a value is outside the range of {dtype}")
    array = array.reshape(sizes)
    check_array(name, array, spec)
    return array


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
    values = {name: _plain(array) for name, array in outputs.items()}
    if not in_rows:
        return {"outputs": next(iter(values.values())) if len(values) == 1 else values}
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    sizes = {array.shape[0] if array.ndim else None for array in outputs.values()}
    if len(sizes) > 1 or None in sizes:
        refuse("outputs differ in their first axis: send 'inputs' instead of 'instances'")
    return {"predictions": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]}


def _plain(array: np.ndarray) -> Any:
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
