"""Requests and answers in TensorFlow Serving's JSON, and what is said when a request cannot be answered."""

import base64
import binascii
import json

import numpy as np

# gRPC status by name: HTTP status
HTTP = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
TYPES = {"string": (str, dict), "int32": (int,), "int64": (int,), "float32": (int, float), "bool": (bool,)}


class Refused(Exception):
    """A request that is not answered.

    Args:
        code: a gRPC status by name, one of `HTTP`.
        message: field and reason.
    """

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.message = code, message


def refuse(message):
    """Raises INVALID_ARGUMENT."""
    raise Refused("INVALID_ARGUMENT", message)


def parse(body):
    """`(signature name, inputs by name or bare, whether in rows)` of a `:predict` body.

    Raises:
        Refused: it is no such JSON.
    """
    try:
        given = json.loads(body)
    except RecursionError:
        refuse("JSON Parse error: nested too deeply")
    except (ValueError, UnicodeDecodeError) as error:
        refuse(f"JSON Parse error: {error}")
    if not isinstance(given, dict):
        refuse("JSON Value: the request is not an object")
    signature = given.get("signature_name", "serving_default")
    if not isinstance(signature, str):
        refuse("'signature_name' is not a string")
    rows, columns = "instances" in given, "inputs" in given
    if rows == columns:
        refuse("Missing 'inputs' or 'instances' key" if not rows else "Request has both 'inputs' and 'instances'")
    unknown = set(given) - {"signature_name", "instances", "inputs"}
    if unknown:
        refuse(f"Unknown key {sorted(unknown)[0]!r} in the request")
    return signature, given["instances" if rows else "inputs"], rows


def tensors(given, rows, inputs):
    """Arrays by name from parsed JSON.

    Args:
        given: what `parse` found. rows: whether in rows.
        inputs: `{name: (dtype, shape)}` of the signature, -1 for any size.
    """
    if rows:
        if not isinstance(given, list) or not given:
            refuse("'instances' is not a list with something in it")
        if all(isinstance(row, dict) and "b64" not in row for row in given):
            names = set(given[0])
            if any(set(row) != names for row in given):
                refuse("'instances' differ in their inputs")
            given = {name: [row[name] for row in given] for name in names}
        elif any(isinstance(row, dict) and "b64" not in row for row in given):
            refuse("'instances' mix objects with other values")
    bare = not isinstance(given, dict) or set(given) == {"b64"}
    if bare:
        if len(inputs) != 1:
            refuse(f"inputs are to be named: {', '.join(sorted(inputs))}")
        given = {next(iter(inputs)): given}
    check_names(given, inputs)
    return {name: _array(name, value, *inputs[name]) for name, value in given.items()}


def check_names(given, inputs):
    """Raises Refused where inputs are missing or unknown."""
    missing, extra = sorted(set(inputs) - set(given)), sorted(set(given) - set(inputs))
    if missing:
        refuse(f"input {missing[0]!r} is missing; expected {', '.join(sorted(inputs))}")
    if extra:
        refuse(f"no input {extra[0]!r}; expected {', '.join(sorted(inputs))}")


def check_array(name, array, dtype, shape):
    """Raises Refused where an array is not what a signature wants."""
    found = "string" if array.dtype == object else array.dtype.name
    if found != dtype:
        refuse(f"input {name!r}: dtype {found}, expected {dtype}")
    if array.ndim != len(shape):
        refuse(f"input {name!r}: rank {array.ndim}, expected {len(shape)}")
    for axis, (size, wanted) in enumerate(zip(array.shape, shape, strict=True)):
        if wanted not in (-1, size):
            refuse(f"input {name!r}: size {size} in axis {axis}, expected {wanted}")


def _array(name, value, dtype, shape):
    flat, sizes = [value], []
    for axis in range(len(shape)):
        if not all(isinstance(each, list) for each in flat):
            refuse(f"input {name!r}: rank {axis}, expected {len(shape)}")
        lengths = {len(each) for each in flat}
        if len(lengths) > 1:
            refuse(f"input {name!r}: ragged, lists of {min(lengths)} and {max(lengths)} values in axis {axis}")
        sizes.append(lengths.pop() if lengths else 0)
        flat = [element for each in flat for element in each]
    for each in flat:
        if isinstance(each, list):
            refuse(f"input {name!r}: rank above {len(shape)}")
        if not isinstance(each, TYPES[dtype]) or (isinstance(each, bool) and dtype != "bool"):
            refuse(f"input {name!r}: {json.dumps(each)[:40]} is no {dtype}")
    if dtype == "string":
        array = np.empty(len(flat), object)
        array[:] = [_bytes(name, each) for each in flat]
    else:
        try:
            array = np.array(flat, dtype)
        except OverflowError:
            refuse(f"input {name!r}: a value is outside the range of {dtype}")
    array = array.reshape(sizes)
    check_array(name, array, dtype, shape)
    return array


def _bytes(name, value):
    if isinstance(value, str):
        # Half of a surrogate pair has no UTF-8.
        return value.encode("utf-8", "replace")
    if set(value) != {"b64"} or not isinstance(value["b64"], str):
        refuse(f"input {name!r}: an object that is not {{'b64': …}}")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        refuse(f"input {name!r}: not base64")


def answer(outputs, rows):
    """The JSON of outputs by name, in rows or in columns, as the request was."""
    values = {name: _plain(array) for name, array in outputs.items()}
    if not rows:
        return {"outputs": next(iter(values.values())) if len(values) == 1 else values}
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    sizes = {array.shape[0] if array.ndim else None for array in outputs.values()}
    if len(sizes) > 1 or None in sizes:
        refuse("outputs differ in their first axis: ask with 'inputs' instead of 'instances'")
    return {"predictions": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]}


def _plain(array):
    if array.dtype != object:
        return array.tolist()
    texts = np.empty(array.size, object)
    texts[:] = [_text(value) for value in array.ravel()]
    return texts.reshape(array.shape).tolist()


def _text(value):
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
