"""TensorFlow Serving's gRPC services, PredictionService and ModelService, and gRPC's health checks."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from trellis.components.errors import first_line
from trellis.serve.server.limits import Cost, Limits
from trellis.serve.server.models import Models, Version
from trellis.serve.server.prometheus import Metrics
from trellis.serve.server.requests import Arrays, Refused, Spec, brief, check_array, check_names, data_type, refuse

log = logging.getLogger("serve.local")

REQUESTS = 4_096  # concurrent requests; further ones are refused
STREAMS = 128  # concurrent requests of a connection; further ones wait at the client
SMALL = 16 << 10  # bytes of a request that is parsed at once
SMALL_ANSWER = 4_096  # values of an answer that is encoded at once
RECEIVING, CROWDED = 10.0, 1.0  # seconds for the message of a request to arrive; the same while many are arriving
CROWD = 16  # messages that are arriving
CONNECTION_AGE = 600.0  # seconds after which a client is asked to connect again, so that none can hold a connection
STOPPING = 30.0  # seconds for the last answers

_MAX_INT32 = 2**31 - 1

Answer = TypeVar("Answer")
Method = Callable[[bytes, "Call"], Awaitable[Message]]


class Call:
    """What the methods know of a request.

    Attributes:
        deadline: the time of `time.monotonic` after which nobody waits for the answer.
        model: the name of the model it is about, once known.
        counted: whether metrics record it.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.model, self.counted = "", True

    @property
    def seconds(self) -> float:
        """The seconds left."""
        return max(self.deadline - time.monotonic(), 0)


class Services:
    """Predict, GetModelMetadata and GetModelStatus.

    Methods take messages as bytes, so that they can stop waiting for a message, and parse a large one outside of the
    event loop.

    Args:
        models: the models.
        metrics: where to record requests.
        deadline: the maximum seconds for a request.
    """

    def __init__(self, models: Models, metrics: Metrics, deadline: float = 60.0) -> None:
        self._models, self._metrics, self._deadline = models, metrics, deadline
        self._arriving = 0
        self._parser = ThreadPoolExecutor(1, "grpc_parser")

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Return the handlers of all methods; gRPC answers others with UNIMPLEMENTED."""
        services: dict[str, dict[str, Method]] = {
            "tensorflow.serving.PredictionService": {
                "Predict": self._predict,
                "GetModelMetadata": self._metadata,
            },
            "tensorflow.serving.ModelService": {"GetModelStatus": self._status},
            # Without Watch, whose streams would never end.
            "grpc.health.v1.Health": {"Check": self._health},
        }
        return [
            grpc.method_handlers_generic_handler(
                service, {name: self._handler(method) for name, method in methods.items()}
            )
            for service, methods in services.items()
        ]

    def _handler(self, method: Method) -> grpc.RpcMethodHandler:
        """Return a handler that answers with `method`, or with the error it raises, and records the request."""

        async def handle(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
            began = time.monotonic()
            left = context.time_remaining()
            call = Call(began + (self._deadline if left is None else min(left, self._deadline)))
            status, message = "CANCELLED", ""
            try:
                answer = await method(await self._receive(messages, call), call)
                encoded = await self._off_loop(answer.SerializeToString, call, answer.ByteSize() > SMALL)
                status = "OK"
                return encoded
            except TimeoutError:
                status, message = "DEADLINE_EXCEEDED", "the deadline passed"
            except Refused as error:
                status, message = error.code, error.message
            except Exception as error:
                log.error("%s: %s", type(error).__name__, first_line(error, 300))
                status, message = "INTERNAL", f"{type(error).__name__}: {first_line(error, 300)}"
            finally:
                if call.counted:
                    self._metrics.record(self._models.label(call.model), "GRPC", status, time.monotonic() - began)
            await context.abort(grpc.StatusCode[status], message)
            raise AssertionError("abort raises")

        # To clients this is a method with one request: on the wire there is no difference.
        return grpc.stream_unary_rpc_method_handler(handle)

    async def _receive(self, messages: AsyncIterator[bytes], call: Call) -> bytes:
        """Return the message of a request.

        Raises:
            Refused: there is none.
        """
        seconds = min(RECEIVING if self._arriving < CROWD else CROWDED, call.seconds)
        self._arriving += 1
        try:
            return await asyncio.wait_for(anext(messages), seconds)
        except StopAsyncIteration:
            refuse("the request has no message")
        except TimeoutError:
            raise Refused("DEADLINE_EXCEEDED", "the message of the request did not arrive in time") from None
        finally:
            self._arriving -= 1

    async def _off_loop(self, function: Callable[[], Answer], call: Call, large: bool) -> Answer:
        """Return the result of a function; for a large request, run it outside of the event loop."""
        if not large:
            return function()
        return await asyncio.wait_for(asyncio.wrap_future(self._parser.submit(function)), call.seconds)

    async def _predict(self, message: bytes, call: Call) -> predict_pb2.PredictResponse:
        """Compute a signature."""
        large = len(message) > SMALL
        request = await self._off_loop(lambda: _parse(predict_pb2.PredictRequest, message), call, large)
        call.model = request.model_spec.name
        with self._models.using(*_target(request.model_spec)) as version:
            name = request.model_spec.signature_name or "serving_default"

            def prepare() -> tuple[Arrays, Cost]:
                inputs = _arrays(request.inputs, version.signature(name).inputs, version.limits[name])
                return inputs, version.check(name, inputs)

            inputs, cost = await self._off_loop(prepare, call, large)
            future = version.batches[name].submit(inputs, call.deadline, cost)
            del inputs
            # A client that goes cancels this coroutine, and that cancels the computation.
            outputs = await asyncio.wait_for(asyncio.wrap_future(future), call.seconds)
            large = sum(array.size for array in outputs.values()) > SMALL_ANSWER
            return await self._off_loop(lambda: _response(version, name, request.output_filter, outputs), call, large)

    async def _metadata(self, message: bytes, call: Call) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Return the signatures of a version."""
        request = _parse(get_model_metadata_pb2.GetModelMetadataRequest, message)
        call.model = request.model_spec.name
        version = self._models.find(*_target(request.model_spec))
        if list(request.metadata_field) != ["signature_def"]:
            refuse("metadata_field: expected signature_def")
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

    async def _status(self, message: bytes, call: Call) -> get_model_status_pb2.GetModelStatusResponse:
        """Return the state of each version of a model, or of one version."""
        request = _parse(get_model_status_pb2.GetModelStatusRequest, message)
        call.model = request.model_spec.name
        states = self._models.status(*_target(request.model_spec))
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state in sorted(states.items(), reverse=True):
            shown = response.model_version_status.add(version=number)
            shown.state = get_model_status_pb2.ModelVersionStatus.State.Value(state.name)
            shown.status.error_code = grpc.StatusCode[state.code].value[0]
            shown.status.error_message = state.message
        return response

    async def _health(self, message: bytes, call: Call) -> health_pb2.HealthCheckResponse:
        """Return whether a model has a version that answers; without a name, whether the server answers."""
        call.counted = False
        request = _parse(health_pb2.HealthCheckRequest, message)
        if request.service and request.service not in self._models.names():
            raise Refused("NOT_FOUND", f"no model {brief(request.service)!r}")
        serving = not request.service or bool(self._models.served.get(request.service))
        states = health_pb2.HealthCheckResponse
        return states(status=states.SERVING if serving else states.NOT_SERVING)


def _parse(kind: Any, message: bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError:
        refuse(f"the message is not a {kind.DESCRIPTOR.name}")


def _target(model_spec: Any) -> tuple[str, int | None, str | None]:
    """Return the model, version and label that a request refers to."""
    number = model_spec.version.value if model_spec.HasField("version") else None
    return model_spec.name, number, model_spec.version_label or None


def _response(version: Version, signature: str, output_filter: Any, outputs: Arrays) -> predict_pb2.PredictResponse:
    """Return outputs as a message."""
    response = predict_pb2.PredictResponse()
    response.model_spec.name, response.model_spec.signature_name = version.name, signature
    response.model_spec.version.value = version.number
    for key in list(output_filter) or list(outputs):
        if key not in outputs:
            refuse(f"output_filter: no output {brief(key)!r}; it has {', '.join(sorted(outputs))}")
        response.outputs[key].CopyFrom(tf.make_tensor_proto(outputs[key]))
    return response


def _arrays(protos: Mapping[str, Any], inputs: Mapping[str, Spec], limits: Limits) -> Arrays:
    """Return the inputs of a request as arrays.

    Raises:
        Refused: they do not fit the signature, or are larger than its limits allow.
    """
    check_names(protos, inputs)
    arrays = {}
    for name, proto in protos.items():
        _check_proto(name, proto, inputs[name], limits)
        try:
            array = np.asarray(tf.make_ndarray(proto))
        except Exception as error:
            refuse(f"input {name!r}: {first_line(error, 200)}")
        check_array(name, array, inputs[name])
        arrays[name] = array
    return arrays


def _check_proto(name: str, proto: Any, spec: Spec, limits: Limits) -> None:
    """Check the type, the shape and the number of values of a tensor before it is made.

    Raises:
        Refused: they do not fit the signature or each other, or are larger than the limits allow.
    """
    expected = data_type(spec.dtype)
    if proto.dtype != types_pb2.DataType.Value(expected):
        known = types_pb2.DataType.Name(proto.dtype) if proto.dtype in types_pb2.DataType.values() else proto.dtype
        refuse(f"input {name!r}: dtype {known}, expected {expected}")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        refuse(f"input {name!r}: the shape is not known")
    if spec.shape is not None and len(shape) != len(spec.shape):
        refuse(f"input {name!r}: rank {len(shape)}, expected {len(spec.shape)}")
    if shape:
        limits.check_shape(name, shape)
    size = math.prod(shape)
    if size > limits.largest * max(math.prod(shape[2:]), 1):
        refuse(f"input {name!r}: {size} values are too many")
    values = sum(len(value) for field, value in proto.ListFields() if field.name.endswith("_val"))
    if proto.tensor_content:
        width = 0 if spec.dtype == "string" else tf.as_dtype(spec.dtype).size
        whole = width and len(proto.tensor_content) % width == 0
        values = len(proto.tensor_content) // width if whole else -1
    # One value may stand for all that follow it, as in TensorFlow.
    if values != size and (proto.tensor_content or not 0 < values < size):
        refuse(f"input {name!r}: {max(values, 0)} values for the shape {brief(str(shape))}")


def _describe(specs: Mapping[str, Spec], tensors: Any) -> None:
    """Write the types and shapes of tensors into a protobuf message."""
    for name, (dtype, shape) in specs.items():
        sizes = None if shape is None else [None if size == -1 else size for size in shape]
        tensors[name].dtype = tf.as_dtype(dtype).as_datatype_enum
        tensors[name].tensor_shape.CopyFrom(tf.TensorShape(sizes).as_proto())


class GrpcServer:
    """The gRPC server; make, start and stop it in the event loop that it is to run in.

    Args:
        models: the models.
        metrics: where to record requests.
        address: `HOST:PORT` to listen on; port 0 chooses a free one.
        deadline: the maximum seconds for a request.
        body: the maximum bytes of a request.
        connections: the maximum connections.
        credentials: for TLS.

    Attributes:
        port: the port it listens on.

    Raises:
        RuntimeError: the address is in use.
    """

    def __init__(
        self,
        models: Models,
        metrics: Metrics,
        address: str,
        deadline: float,
        body: int,
        connections: int,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        options = [
            ("grpc.max_receive_message_length", body),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            # A small message may decompress to a huge one, before its size is checked: only plain ones are taken.
            ("grpc.compression_enabled_algorithms_bitset", 1),
            ("grpc.max_allowed_incoming_connections", connections),
            ("grpc.max_concurrent_streams", STREAMS),
            ("grpc.server_handshake_timeout_ms", round(1000 * RECEIVING)),
            ("grpc.max_connection_age_ms", round(1000 * CONNECTION_AGE)),
            ("grpc.max_connection_age_grace_ms", round(1000 * deadline)),
            # Notice clients that are gone without having closed their connections.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
        ]
        bounded = [(name, min(value, _MAX_INT32)) for name, value in options]
        self._server = grpc.aio.server(options=bounded, maximum_concurrent_rpcs=REQUESTS)
        self._server.add_generic_rpc_handlers(Services(models, metrics, deadline).handlers())
        self.port = (
            self._server.add_secure_port(address, credentials)
            if credentials
            else self._server.add_insecure_port(address)
        )

    async def start(self) -> None:
        """Listen."""
        await self._server.start()

    async def stop(self) -> None:
        """Refuse further requests and wait for the last answers."""
        await self._server.stop(STOPPING)
