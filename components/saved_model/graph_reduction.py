"""Remove redundant nodes from the functions of a SavedModel.

About half of the nodes that tracing creates are redundant: constants for every index and axis, the same shapes computed
again, and nodes that no output needs. TensorFlow would remove them itself, but in every process that loads the export,
when a function first runs, and after each of its optimizers has visited all of them.
"""

from collections.abc import Mapping
from pathlib import Path

from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.saved_model import fingerprinting_utils  # there is no public function for this

# Operations without side effects and with small outputs: of two nodes with the same inputs, one is enough.
REPEATABLE = {
    "Const",
    "Shape",
    "StridedSlice",
    "Pack",
    "Range",
    "Cast",
    "AddV2",
    "Sub",
    "Mul",
    "Maximum",
    "Less",
    "Equal",
}


def reduce_graphs(export: Path) -> None:
    """Remove unneeded and duplicate nodes from the functions of a SavedModel."""
    path = export / "saved_model.pb"
    model = SavedModel.FromString(path.read_bytes())
    for graph in model.meta_graphs:
        for function in graph.graph_def.library.function:
            _reduce(function)
    path.write_bytes(model.SerializeToString(deterministic=True))
    fingerprinting_utils.write_fingerprint(str(export))


def _reduce(function: FunctionDef) -> None:
    nodes, kept = {node.name: node for node in function.node_def}, dict[str, NodeDef]()
    names: dict[str, str] = {}  # of each needed node: its own, or that of the node it repeats
    first: dict[tuple[object, ...], str] = {}
    waiting = [_node(output) for output in (*function.ret.values(), *function.control_ret.values())][::-1]
    while waiting:
        name = waiting[-1]
        if name not in nodes or name in names:  # an argument, or done
            waiting.pop()
            continue
        inputs = [_node(each) for each in nodes[name].input]
        missing = [each for each in inputs if each in nodes and each not in names]
        if missing:
            waiting += missing[::-1]
            continue
        node = NodeDef.FromString(nodes[name].SerializeToString())
        node.input[:] = [_renamed(each, names) for each in node.input]
        names[name] = first.setdefault(_key(node), name) if node.op in REPEATABLE else name
        if names[name] == name:
            kept[name] = node
    del function.node_def[:]
    function.node_def.extend(kept.values())
    for results in (function.ret, function.control_ret):
        for key, output in list(results.items()):
            results[key] = _renamed(output, names)


def _key(node: NodeDef) -> tuple[object, ...]:
    attributes = sorted((name, value.SerializeToString(deterministic=True)) for name, value in node.attr.items())
    return node.op, node.device, *node.input, *attributes


def _node(output: str) -> str:
    """Return the name of the node of an input such as `name`, `name:output:0` or `^name`."""
    return output.removeprefix("^").partition(":")[0]


def _renamed(output: str, names: Mapping[str, str]) -> str:
    name = _node(output)
    return output.replace(name, names.get(name, name), 1)
