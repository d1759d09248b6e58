"""TensorFlow Serving's gRPC services: PredictionService and ModelService."""

import time
from concurrent import futures

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import any_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from trellis.serve.server.requests import Refused, check_array, check_names, refuse

THREADS = 64  # requests that are being answered; each waits in a thread


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata.

    Args:
        models: a `Models`. metrics: a `Metrics`. deadline: seconds for a request that names none.
    """

    def __init__(self, models, metrics, deadline=60.0):
        self.models, self.metrics, self.deadline = models, metrics, deadline

    def Predict(self, request, context):
        began = time.monotonic()
        left = context.time_remaining()
        deadline = began + (self.deadline if left is None else min(left, self.deadline))
        name, status = request.model_spec.name, "OK"
        try:
            with self.models.using(*_asked(request.model_spec)) as version:
                signature = request.model_spec.signature_name or "serving_default"
                known = version.signatures.get(signature)
                inputs = _inputs(request.inputs, known["inputs"]) if known else {}
                future = self.models.predict(version, signature, inputs, deadline)
                try:
                    outputs = future.result(timeout=max(deadline - time.monotonic(), 0))
                except futures.TimeoutError:
                    raise Refused("DEADLINE_EXCEEDED", "the deadline passed") from None
                response = predict_pb2.PredictResponse()
                response.model_spec.name, response.model_spec.signature_name = version.name, signature
                response.model_spec.version.value = version.number
                wanted = list(request.output_filter) or list(outputs)
                for key in wanted:
                    if key not in outputs:
                        refuse(f"output_filter: no output {key!r}; it has {', '.join(sorted(outputs))}")
                    response.outputs[key].CopyFrom(tf.make_tensor_proto(outputs[key]))
                return response
        except Refused as error:
            status = error.code
            context.abort(grpc.StatusCode[error.code], error.message)
        finally:
            self.metrics.record(name, "GRPC", status, time.monotonic() - began)

    def GetModelMetadata(self, request, context):
        try:
            version = self.models.find(*_asked(request.model_spec))
            if list(request.metadata_field) != ["signature_def"]:
                refuse("metadata_field: expected signature_def")
        except Refused as error:
            context.abort(grpc.StatusCode[error.code], error.message)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, each in version.signatures.items():
            definition = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
            for side, tensors in (("inputs", definition.inputs), ("outputs", definition.outputs)):
                for key, (dtype, shape) in each[side].items():
                    tensors[key].dtype = tf.as_dtype(dtype).as_datatype_enum
                    tensors[key].tensor_shape.CopyFrom(tf.TensorShape(
                        None if shape is None else [None if size == -1 else size for size in shape]
                    ).as_proto())  # fmt: skip
            signatures.signature_def[name].CopyFrom(definition)
        packed = any_pb2.Any()
        packed.Pack(signatures)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name, response.model_spec.version.value = version.name, version.number
        response.metadata["signature_def"].CopyFrom(packed)
        return response


class Status(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus."""

    def __init__(self, models):
        self.models = models

    def GetModelStatus(self, request, context):
        name, number, label = _asked(request.model_spec)
        try:
            states = self.models.status(name)
            if number is not None or label is not None:
                number = self.models.find(name, number, label).number
                states = {number: states[number]}
        except Refused as error:
            context.abort(grpc.StatusCode[error.code], error.message)
        response = get_model_status_pb2.GetModelStatusResponse()
        for each, state in sorted(states.items(), reverse=True):
            response.model_version_status.add(
                version=each, state=get_model_status_pb2.ModelVersionStatus.State.Value(state)
            )
        return response


def _asked(spec):
    number = spec.version.value if spec.HasField("version") else None
    return spec.name, number, spec.version_label or None


def _inputs(protos, inputs):
    check_names(protos, inputs)
    found = {}
    for name, proto in protos.items():
        try:
            array = tf.make_ndarray(proto)
        except (TypeError, ValueError) as error:
            refuse(f"input {name!r}: {str(error)[:200]}")
        check_array(name, np.asarray(array), *inputs[name])
        found[name] = array
    return found


def server(models, metrics, address, deadline, body, credentials=None):
    """A gRPC server, not started; and the port it has."""
    options = [
        ("grpc.max_receive_message_length", body),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
    ]
    made = grpc.server(futures.ThreadPoolExecutor(THREADS), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(models, metrics, deadline), made)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Status(models), made)
    port = made.add_secure_port(address, credentials) if credentials else made.add_insecure_port(address)
    return made, port
