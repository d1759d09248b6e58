"""What an export carries beside its graph: requests that warm a server up, their answers, and what the model is."""

import contextlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

from trellis.components.files import atomic_write
from trellis.components.layers.both_devices import exporting
from trellis.components.saved_model.c_api import encoded
from trellis.components.saved_model.request_batching import joining
from trellis.components.saved_model.versions import EXTRA

WARM_UP = "tf_serving_warmup_requests"  # TensorFlow Serving looks for this name
METADATA, GOLDEN, CARD = "metadata.json", "golden.json", "model_card.md"
BATCHES = (1, 2, 8)  # rows of the requests
JOINING = "batching_params.pbtxt"  # TensorFlow Serving looks for this name where batching is set for each model
_JOINED = """\
# How TensorFlow Serving joins requests to this model, with --enable_per_model_batching_parameters.
max_batch_size { value: 64 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 256 }
# Few shapes: what is between is filled up with dummy rows.
allowed_batch_sizes: [1, 2, 4, 8, 16, 32, 64]
pad_variable_length_inputs: true
"""


def write(path, module, name, texts, facts, weights=None, batching=False):
    """Saves a module as a SavedModel, and beside its graph what servers and operators want.

    Args:
        path: an empty folder.
        module: with `save(path)` and `examples(texts) -> {signature: {input: array}}`.
        name: of the model, as it will be served.
        texts: real inputs of several lengths, as `examples` takes them.
        facts: about the model, for `metadata.json` and the card.
        weights: `Compressed` ones to store; None: as they are.
        batching: join requests inside the graph.
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(exporting())
        if weights:
            stack.enter_context(weights.in_graphs(module))
        if batching:
            stack.enter_context(joining())
        module.save(path)
    (path / EXTRA).mkdir(exist_ok=True)
    loaded = tf.saved_model.load(str(path))
    requests = []
    with _full_precision():
        for rows in BATCHES:
            # Each batch begins elsewhere, so that lengths differ.
            chosen = [texts[(rows + row) % len(texts)] for row in range(rows)]
            for signature, given in module.examples(chosen).items():
                inputs = {key: tf.constant(value) for key, value in given.items()}
                found = loaded.signatures[signature](**inputs)
                inputs = {key: value.numpy() for key, value in inputs.items()}
                outputs = {key: value.numpy() for key, value in found.items()}
                requests.append((signature, inputs, outputs))
    _write_warm_up(path / EXTRA / WARM_UP, name, requests)
    golden = [
        {
            "signature": signature,
            "inputs": {key: encoded(value) for key, value in inputs.items()},
            "outputs": {key: encoded(value) for key, value in outputs.items()},
        }
        for signature, inputs, outputs in requests
    ]
    (path / EXTRA / GOLDEN).write_text(json.dumps(golden))
    facts = {"name": name, **facts, "tensorflow": tf.__version__, "signatures": _signatures(path)}
    (path / EXTRA / METADATA).write_text(json.dumps(_plain(facts), indent=2) + "\n")
    (path / EXTRA / CARD).write_text(card(facts), encoding="utf-8")
    inputs = [info for each in facts["signatures"].values() for info in each["inputs"].values()]
    # A server that joins requests has no way to join scalars, and refuses them.
    if all(info["shape"] != [] for info in inputs):
        (path / JOINING).write_text(_JOINED)


@contextlib.contextmanager
def _full_precision():
    """Multiply float32 matrices as float32 on a GPU too, whose TensorFloat-32 changes the order of close candidates."""
    former = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(former)


def put_beside(version):
    """Puts the card and the metadata of a version beside the versions, each whole or not at all."""
    version = Path(version)
    for name in (METADATA, CARD):
        with atomic_write(version.parent / name) as part:
            shutil.copyfile(version / EXTRA / name, part)


def _write_warm_up(path, name, requests):
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    with tf.io.TFRecordWriter(str(path)) as file:
        for signature, inputs, _ in requests:
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name=name, signature_name=signature),
                inputs={key: tf.make_tensor_proto(value) for key, value in inputs.items()},
            )
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            file.write(log.SerializeToString())


def _signatures(path):
    from tensorflow.core.protobuf import saved_model_pb2

    definition = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())

    def tensors(given):
        return {
            key: {
                "tensor": info.name,
                "dtype": tf.as_dtype(info.dtype).name,
                "shape": None if info.tensor_shape.unknown_rank else [dim.size for dim in info.tensor_shape.dim],
            }
            for key, info in sorted(given.items())
        }

    return {
        name: {"inputs": tensors(each.inputs), "outputs": tensors(each.outputs)}
        for name, each in sorted(definition.meta_graphs[0].signature_def.items())
        if name != "__saved_model_init_op"
    }


def card(facts):
    """A page about the model for people."""
    lines = [f"# {facts['name']}", "", facts.get("data", ""), ""]
    rows = [(key, facts[key]) for key in ("licence", "language", "commit", "created", "run") if facts.get(key)]
    lines += [f"- {key}: {value}" for key, value in rows]
    if facts.get("metrics"):
        lines += ["", "| score | value |", "|---|---|"]
        lines += [f"| {key} | {value:.4g} |" for key, value in facts["metrics"].items() if key.count("/") == 1]
    lines += ["", "## Signatures", ""]
    for name, each in facts["signatures"].items():
        inputs, outputs = (
            ", ".join(f"`{key}` {info['dtype']} {_shape(info['shape'])}" for key, info in each[side].items())
            for side in ("inputs", "outputs")
        )
        lines.append(f"- **{name}**: {inputs} → {outputs}")
    sizes = facts.get("vocabulary")
    if sizes:
        lines += ["", "Vocabulary: " + ", ".join(f"{key} {size:,}" for key, size in sizes.items()) + "."]
    if facts.get("labels"):
        lines += ["", "Labels: " + ", ".join(facts["labels"]) + "."]
    return "\n".join(lines) + "\n"


def _shape(shape):
    return "any" if shape is None else "(" + ", ".join("?" if size == -1 else str(size) for size in shape) + ")"


def _plain(value):
    """JSON has no numbers that are none."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
