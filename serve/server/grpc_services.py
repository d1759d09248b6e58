"""TensorFlow Serving's gRPC services: PredictionService and ModelService."""

import time
from collections.abc import Mapping
from concurrent import futures
from typing import Any

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

from trellis.serve.server.models import Models, Version
from trellis.serve.server.prometheus import Metrics
from trellis.serve.server.requests import Arrays, Refused, Spec, check_array, check_names, refuse

THREADS = 64  # requests that are answered at the same time; each waits in a thread


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata.

    Args:
        models: the models.
        metrics: where to record requests.
        deadline: the maximum seconds for a request.
    """

    def __init__(self, models: Models, metrics: Metrics, deadline: float = 60.0) -> None:
        self._models, self._metrics, self._deadline = models, metrics, deadline

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Compute a signature."""
        began = time.monotonic()
        seconds = context.time_remaining()
        deadline = began + (self._deadline if seconds is None else min(seconds, self._deadline))
        status = "OK"
        try:
            with self._models.using(*_target(request.model_spec)) as version:
                return self._predict(request, version, deadline)
        except Refused as error:
            status = error.code
            context.abort(grpc.StatusCode[error.code], error.message)
        finally:
            name = request.model_spec.name
            if self._models.has(name):
                self._metrics.record(name, "GRPC", status, time.monotonic() - began)

    def _predict(
        self, request: predict_pb2.PredictRequest, version: Version, deadline: float
    ) -> predict_pb2.PredictResponse:
        name = request.model_spec.signature_name or "serving_default"
        signature = version.signatures.get(name)
        inputs = _arrays(request.inputs, signature.inputs) if signature else {}
        future = self._models.predict(version, name, inputs, deadline)
        try:
            outputs = future.result(timeout=max(deadline - time.monotonic(), 0))
        except futures.TimeoutError:
            raise Refused("DEADLINE_EXCEEDED", "the deadline passed") from None
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.signature_name = version.name, name
        response.model_spec.version.value = version.number
        for key in list(request.output_filter) or list(outputs):
            if key not in outputs:
                refuse(f"output_filter: no output {key!r}; it has {', '.join(sorted(outputs))}")
            response.outputs[key].CopyFrom(tf.make_tensor_proto(outputs[key]))
        return response

    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Return the signatures of a version."""
        try:
            version = self._models.find(*_target(request.model_spec))
            if list(request.metadata_field) != ["signature_def"]:
                refuse("metadata_field: expected signature_def")
        except Refused as error:
            context.abort(grpc.StatusCode[error.code], error.message)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in version.signatures.items():
            definition = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
            _describe(signature.inputs, definition.inputs)
            _describe(signature.outputs, definition.outputs)
            signatures.signature_def[name].CopyFrom(definition)
        packed = any_pb2.Any()
        packed.Pack(signatures)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name, response.model_spec.version.value = version.name, version.number
        response.metadata["signature_def"].CopyFrom(packed)
        return response


class Status(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus.

    Args:
        models: the models.
    """

    def __init__(self, models: Models) -> None:
        self._models = models

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Return the state of each version of a model, or of one version."""
        try:
            states = self._models.status(*_target(request.model_spec))
        except Refused as error:
            context.abort(grpc.StatusCode[error.code], error.message)
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state in sorted(states.items(), reverse=True):
            response.model_version_status.add(
                version=number, state=get_model_status_pb2.ModelVersionStatus.State.Value(state)
            )
        return response


def _target(model_spec: Any) -> tuple[str, int | None, str | None]:
    """Return the model, version and label that a request refers to."""
    number = model_spec.version.value if model_spec.HasField("version") else None
    return model_spec.name, number, model_spec.version_label or None


def _arrays(protos: Mapping[str, Any], inputs: Mapping[str, Spec]) -> Arrays:
    """Return the inputs of a request as arrays.

    Raises:
        Refused: they do not fit the signature.
    """
    check_names(protos, inputs)
    arrays = {}
    for name, proto in protos.items():
        try:
            array = tf.make_ndarray(proto)
        except (TypeError, ValueError) as error:
            refuse(f"input {name!r}: {str(error)[:200]}")
        check_array(name, np.asarray(array), inputs[name])
        arrays[name] = array
    return arrays


def _describe(specs: Mapping[str, Spec], tensors: Any) -> None:
    """Write the types and shapes of tensors into a protobuf message."""
    for name, (dtype, shape) in specs.items():
        sizes = None if shape is None else [None if size == -1 else size for size in shape]
        tensors[name].dtype = tf.as_dtype(dtype).as_datatype_enum
        tensors[name].tensor_shape.CopyFrom(tf.TensorShape(sizes).as_proto())


def make_server(
    models: Models,
    metrics: Metrics,
    address: str,
    deadline: float,
    body: int,
    credentials: grpc.ServerCredentials | None = None,
) -> tuple[grpc.Server, int]:
    """Return a gRPC server that is not started yet, and its port.

    Args:
        models: the models.
        metrics: where to record requests.
        address: `HOST:PORT` to listen on; port 0 chooses a free one.
        deadline: the maximum seconds for a request.
        body: the maximum bytes of a request.
        credentials: for TLS.

    Raises:
        RuntimeError: the address is in use.
    """
    options = [
        ("grpc.max_receive_message_length", body),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(THREADS), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(models, metrics, deadline), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Status(models), server)
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    return server, port
