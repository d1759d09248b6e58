"""Write an export: the graph, warm-up requests, their golden answers, metadata and a model card."""

import contextlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trellis.components.files import atomic_write
from trellis.components.layers.both_devices import exporting
from trellis.components.layers.stored_weights import Compressed
from trellis.components.saved_model.c_api import Session, as_array, encode_array
from trellis.components.saved_model.export_module import ExportModule
from trellis.components.saved_model.graph_reduction import reduce_graphs
from trellis.components.saved_model.request_batching import batching_requests
from trellis.components.saved_model.versions import EXTRA, METADATA, latest
from trellis.components.types import JSON, FilePath

WARM_UP = "tf_serving_warmup_requests"  # TensorFlow Serving looks for this name
GOLDEN, CARD = "golden.json", "model_card.md"
BATCHES = (1, 2, 8)  # rows of the requests
BATCHING = "batching_params.pbtxt"  # TensorFlow Serving looks for this name if batching is configured per model
BATCHING_PARAMETERS = """\
# How TensorFlow Serving batches requests to this model, with --enable_per_model_batching_parameters.
max_batch_size { value: 64 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 256 }
# Few shapes: batches of other sizes are filled up with dummy rows.
allowed_batch_sizes: [1, 2, 4, 8, 16, 32, 64]
pad_variable_length_inputs: true
"""


class _Exchange(NamedTuple):
    """A request to a signature, and its answer."""

    signature: str
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def write(
    path: FilePath,
    module: ExportModule,
    name: str,
    texts: Sequence[Any],
    facts: Mapping[str, Any],
    weights: Compressed | None = None,
    batching: bool = False,
) -> None:
    """Save a module as a SavedModel, with the files that servers and operators need.

    Args:
        path: an empty folder.
        module: the model with its signatures.
        name: the name under which the model will be served.
        texts: real inputs of several lengths, in the form that `module.examples` takes.
        facts: facts about the model, for `metadata.json` and the model card.
        weights: compressed weights to store; None stores the weights as they are.
        batching: whether the graph batches requests.
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(exporting())
        if weights:
            stack.enter_context(weights.in_graphs(module))
        if batching:
            stack.enter_context(batching_requests())
        module.save(path)
    reduce_graphs(path)
    (path / EXTRA).mkdir(exist_ok=True)
    signatures = _read_signatures(path)
    exchanges = _exchanges(path, module, texts, signatures)
    _write_warm_up(path / EXTRA / WARM_UP, name, exchanges)
    golden = [
        {
            "signature": exchange.signature,
            "inputs": {key: encode_array(value) for key, value in exchange.inputs.items()},
            "outputs": {key: encode_array(value) for key, value in exchange.outputs.items()},
        }
        for exchange in exchanges
    ]
    (path / EXTRA / GOLDEN).write_text(json.dumps(golden))
    facts = {"name": name, **facts, "tensorflow": tf.__version__, "signatures": signatures}
    (path / EXTRA / METADATA).write_text(json.dumps(_without_nan(facts), indent=2) + "\n")
    (path / EXTRA / CARD).write_text(model_card(facts), encoding="utf-8")
    inputs = [info for signature in facts["signatures"].values() for info in signature["inputs"].values()]
    # Servers refuse to batch requests with scalar inputs.
    if all(info["shape"] != [] for info in inputs):
        (path / BATCHING).write_text(BATCHING_PARAMETERS)


def _exchanges(path: Path, module: ExportModule, texts: Sequence[Any], signatures: JSON) -> list[_Exchange]:
    """Load the SavedModel and return its answers to batches of texts, for every signature."""
    session, exchanges = Session(path, optimized=False), []
    with _full_precision():
        for rows in BATCHES:
            # Each batch begins with another text, so that lengths differ.
            chosen = [texts[(rows + row) % len(texts)] for row in range(rows)]
            for name, request in module.examples(chosen).items():
                types = signatures[name]["inputs"]
                inputs = {key: as_array(value, types[key]["dtype"]) for key, value in request.items()}
                exchanges.append(_Exchange(name, inputs, session.call(signatures[name], inputs)))
    return exchanges


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Multiply float32 matrices in float32 on GPUs too: TensorFloat-32 changes the order of close candidates."""
    former = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(former)


def publish_metadata(folder: FilePath) -> None:
    """Copy the model card and the metadata of the newest version into the folder of versions, each atomically."""
    folder, published = Path(folder), None
    # Another process may write a version at the same time.
    while (newest := latest(folder)) != published:
        for file in (newest / EXTRA / METADATA, newest / EXTRA / CARD):
            if file.is_file():
                with atomic_write(folder / file.name, shared=True) as part:
                    shutil.copyfile(file, part)
        published = newest


def _write_warm_up(path: Path, name: str, exchanges: Sequence[_Exchange]) -> None:
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    with tf.io.TFRecordWriter(str(path)) as file:
        for exchange in exchanges:
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name=name, signature_name=exchange.signature),
                inputs={key: tf.make_tensor_proto(value) for key, value in exchange.inputs.items()},
            )
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            file.write(log.SerializeToString())


def _read_signatures(path: Path) -> JSON:
    """Return the tensor name, dtype and shape of all inputs and outputs of a SavedModel's signatures."""
    from tensorflow.core.protobuf import saved_model_pb2

    definition = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())

    def describe(tensors: Mapping[str, Any]) -> JSON:
        return {
            key: {
                "tensor": info.name,
                "dtype": tf.as_dtype(info.dtype).name,
                "shape": None if info.tensor_shape.unknown_rank else [dim.size for dim in info.tensor_shape.dim],
            }
            for key, info in sorted(tensors.items())
        }

    return {
        name: {"inputs": describe(signature.inputs), "outputs": describe(signature.outputs)}
        for name, signature in sorted(definition.meta_graphs[0].signature_def.items())
        if name != "__saved_model_init_op"
    }


def model_card(facts: Mapping[str, Any]) -> str:
    """Return a page about the model for people, in Markdown."""
    lines = [f"# {facts['name']}", "", facts.get("data", ""), ""]
    rows = [(key, facts[key]) for key in ("licence", "language", "commit", "created", "run") if facts.get(key)]
    lines += [f"- {key}: {value}" for key, value in rows]
    if facts.get("metrics"):
        lines += ["", "| score | value |", "|---|---|"]
        lines += [f"| {key} | {value:.4g} |" for key, value in facts["metrics"].items() if key.count("/") == 1]
    lines += ["", "## Signatures", ""]
    for name, signature in facts["signatures"].items():
        inputs, outputs = (
            ", ".join(f"`{key}` {info['dtype']} {_shape(info['shape'])}" for key, info in signature[side].items())
            for side in ("inputs", "outputs")
        )
        lines.append(f"- **{name}**: {inputs} → {outputs}")
    sizes = facts.get("vocabulary")
    if sizes:
        lines += ["", "Vocabulary: " + ", ".join(f"{key} {size:,}" for key, size in sizes.items()) + "."]
    if facts.get("labels"):
        lines += ["", "Labels: " + ", ".join(facts["labels"]) + "."]
    return "\n".join(lines) + "\n"


def _shape(shape: Sequence[int] | None) -> str:
    return "any" if shape is None else "(" + ", ".join("?" if size == -1 else str(size) for size in shape) + ")"


def _without_nan(value: Any) -> Any:
    """Return plain values for JSON, which has no NaN and no infinity: both become null."""
    if isinstance(value, dict):
        return {key: _without_nan(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(element) for element in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
