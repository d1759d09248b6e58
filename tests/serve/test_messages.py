"""The client's gRPC messages are those of TensorFlow Serving."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import any_pb2, wrappers_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from trellis.serve import messages

MODULES = (any_pb2, wrappers_pb2, tensor_pb2, meta_graph_pb2, get_model_metadata_pb2, get_model_status_pb2, model_pb2)
VALUES = {
    "float32": [1.5, -2.0],
    "float64": [1.5, -2.0],
    "float16": [1.5, -2.0],
    "int8": [-1, 2],
    "int16": [-1, 2],
    "int32": [-1, 2],
    "int64": [-1, 2**40],
    "uint8": [1, 255],
    "uint16": [1, 65535],
    "uint32": [1, 2**32 - 1],
    "uint64": [1, 2**64 - 1],
    "bool": [True, False],
    "complex64": [1 + 2j, 3j],
    "complex128": [1 + 2j, 3j],
    "bfloat16": [1.5, -2.0],
}


def original(name):
    """TensorFlow Serving's descriptor of a message."""
    if name == "Dim":
        return tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name["tensor_shape"].message_type.nested_types[0]
    if name == "TensorShapeProto":
        return tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name["tensor_shape"].message_type
    (found,) = {id(vars(m)[name]): vars(m)[name] for m in (*MODULES, predict_pb2) if name in vars(m)}.values()
    return found.DESCRIPTOR


def kinds(descriptor, names):
    """What decides how fields are written."""
    found = {}
    for name in names:
        field = descriptor.fields_by_name[name]
        kind = field.TYPE_INT32 if field.type == field.TYPE_ENUM else field.type  # the same on the wire
        inner = field.message_type
        is_map = inner is not None and inner.GetOptions().map_entry
        found[name] = (field.number, kind, field.is_repeated, is_map, inner and (is_map or inner.name))
        if is_map:
            value = inner.fields_by_name["value"]
            found[name] += (inner.fields_by_name["key"].type, value.number, value.message_type.name)
    return found


@pytest.mark.parametrize("name", messages.FIELDS)
def test_fields_are_those_of_tensorflow_serving(name):
    fields = messages.FIELDS[name]
    assert kinds(messages.MESSAGES[name].DESCRIPTOR, fields) == kinds(original(name), fields)


def test_states_and_types_are_those_of_tensorflow():
    states = get_model_status_pb2.ModelVersionStatus.State
    assert {number: name for name, number in states.items()} == messages.STATES
    for number, (name, _, _) in messages.TYPES.items():
        assert tf.as_dtype(number) == (tf.string if name == "object" else tf.as_dtype(name))


def sent(value):
    """What TensorFlow reads."""
    return tf.make_ndarray(tensor_pb2.TensorProto.FromString(messages.as_tensor(value).SerializeToString()))


def received(proto):
    return messages.from_tensor(messages.MESSAGES["TensorProto"].FromString(proto.SerializeToString()))


@pytest.mark.parametrize("dtype", VALUES)
def test_numbers_arrive_in_both_directions(dtype):
    array = np.array(VALUES[dtype], tf.as_dtype(dtype).as_numpy_dtype)
    if dtype != "bfloat16":
        assert sent(array).dtype == array.dtype
        np.testing.assert_array_equal(sent(array), array)
    # As bytes, as tf.make_tensor_proto writes arrays, and as values, as TensorFlow Serving does.
    in_bytes = tensor_pb2.TensorProto(dtype=tf.as_dtype(dtype).as_datatype_enum, tensor_content=array.tobytes())
    in_bytes.tensor_shape.dim.add(size=2)
    in_values = tensor_pb2.TensorProto(dtype=in_bytes.dtype, tensor_shape=in_bytes.tensor_shape)
    for element in array:
        for field, values in tf.make_tensor_proto(element).ListFields():
            if field.name.endswith("_val"):
                getattr(in_values, field.name).extend(values)
    for proto in (in_bytes, in_values):
        np.testing.assert_array_equal(tf.make_ndarray(proto), array)
        found = received(proto)
        assert found.dtype == (np.float32 if dtype == "bfloat16" else array.dtype)
        np.testing.assert_array_equal(found, array.astype(found.dtype))


@pytest.mark.parametrize(
    "value",
    [
        "a", b"\xff\x00", ["a", b"b\x00"], [["a", "b"], ["c", "d"]], np.array([b"a\x00", "ç"], object), np.array(["a"]),
        1, 1.5, True, [1, 2], [1.5], [1, 2.5], [True], [], [[]], [2**40], np.int64(3), np.float64(2), [np.float64(2)],
        np.zeros((0, 3), np.int32), np.array([], object), np.arange(6).reshape(2, 3).T,
    ],
)  # fmt: skip
def test_values_become_what_tensorflow_makes_of_them(value):
    expected = tf.make_ndarray(tf.make_tensor_proto(value)) if np.size(value) else tf.constant(value).numpy()
    found = sent(value)
    assert found.shape == expected.shape and found.tolist() == expected.tolist()
    assert found.dtype == expected.dtype or found.dtype.kind == expected.dtype.kind == "O"


@pytest.mark.parametrize("value", [None, [None], [[1], [2, 3]], [["a"], ["b", "c"]], ["a", 1], {1: 2}, object()])
def test_values_that_no_tensor_holds_are_refused(value):
    with pytest.raises((TypeError, ValueError)):
        messages.as_tensor(value)


def test_one_value_stands_for_all_that_follow_it():
    shape = tf.TensorShape([2, 2]).as_proto()
    numbers = tensor_pb2.TensorProto(dtype=types_pb2.DT_INT32, tensor_shape=shape, int_val=[1, 2])
    strings = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_shape=shape, string_val=[b"a"])
    assert received(numbers).tolist() == [[1, 2], [2, 2]]
    assert received(strings).tolist() == [[b"a", b"a"]] * 2
    assert received(tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape=shape)).tolist() == [[0, 0]] * 2
