"""Load a SavedModel, and call its signatures with arrays."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trellis.components.errors import one_line
from trellis.serve.server.computation import Run
from trellis.serve.server.requests import Arrays, Refused, Signature, Spec


class Loaded(NamedTuple):
    """A signature of a loaded model.

    Attributes:
        signature: its inputs and outputs.
        run: computes outputs from inputs; raises `Refused`.
    """

    signature: Signature
    run: Run


def load(folder: Path) -> dict[str, Loaded]:
    """Load a version of a model; return its signatures by name.

    Raises:
        Exception: it is not a SavedModel, or it cannot be loaded, for TensorFlow's reasons.
    """
    import tensorflow as tf

    model = tf.saved_model.load(str(folder))
    loaded = {}
    for name, function in dict(model.signatures).items():
        signature = Signature(
            _specs(function.structured_input_signature[1]),
            _specs(function.structured_outputs),
        )
        loaded[name] = Loaded(signature, _run(model, function, signature))
    return loaded


def _specs(tensor_specs: Mapping[str, Any]) -> dict[str, Spec]:
    return {
        name: Spec(
            spec.dtype.name,
            None if spec.shape.rank is None else tuple(-1 if size is None else size for size in spec.shape),
        )
        for name, spec in tensor_specs.items()
    }


def _run(model: Any, function: Callable[..., Mapping[str, Any]], signature: Signature) -> Run:
    """Return a function of arrays that computes a signature.

    Args:
        model: the loaded model, which must live as long as its signatures are called.
        function: the signature.
        signature: its inputs and outputs.
    """
    import tensorflow as tf

    types = {name: tf.as_dtype(spec.dtype) for name, spec in signature.inputs.items()}

    def run(inputs: Arrays, _model: Any = model) -> Arrays:
        try:
            outputs = function(**{name: tf.constant(array, types[name]) for name, array in inputs.items()})
            return {name: value.numpy() for name, value in outputs.items()}
        except (tf.errors.InvalidArgumentError, ValueError) as error:
            raise Refused("INVALID_ARGUMENT", one_line(error)) from None
        except tf.errors.ResourceExhaustedError as error:
            raise Refused("RESOURCE_EXHAUSTED", one_line(error)) from None
        except tf.errors.OpError as error:
            raise Refused("INTERNAL", one_line(error)) from None

    return run
