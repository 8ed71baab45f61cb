"""OpenVINO's intermediate representation: the layers of a graph by name, and the same bytes every time."""

import re
from pathlib import Path

import openvino

from registry.errors import CandidateError


def read_ir(file: Path) -> openvino.Model:
    """Read an ONNX or IR file; nodes that have no name of their own are named by type and position.

    Raises:
        CandidateError: OpenVINO does not know an operator of it.
    """
    try:
        model = openvino.Core().read_model(str(file))
    except RuntimeError as error:
        raise CandidateError(f"OpenVINO cannot read {file.name}: {error}") from error
    name_by_position(model)
    return model


def write_ir(model: openvino.Model, file: Path) -> None:
    """Write ``model.xml`` and ``model.bin``, weights in the precision that they have."""
    name_by_position(model)
    openvino.save_model(model, str(file), compress_to_fp16=False)


def name_by_position(model: openvino.Model) -> None:
    """Name nodes that OpenVINO named by a counter of the process, so that the same graph has the same names."""
    for position, node in enumerate(model.get_ordered_ops()):
        kind = node.get_type_name()
        if re.fullmatch(rf"{kind}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{kind}_{position}")


def nodes_of_layers(model: openvino.Model, layers: tuple[str, ...]) -> list[str]:
    """Return the names of the nodes of each layer: of its own name, or with a weight below the module path.

    Raises:
        CandidateError: a layer has no node.
    """
    found: list[str] = []
    for layer in layers:
        nodes = [node.get_friendly_name() for node in model.get_ordered_ops() if _is_of_layer(node, layer)]
        if not nodes:
            raise CandidateError(
                f"the excluded layer {layer!r} is not in the graph; give the name of an ONNX node or a module's path"
            )
        found.extend(nodes)
    return found


def stored_weight(node: openvino.Node) -> str:
    """Return the name of the constant that a node hands on, only reshaped or scaled; nothing for other nodes."""
    while node.get_type_name() in (
        "Convert",
        "FakeQuantize",
        "Multiply",
        "Reshape",
        "Squeeze",
        "Subtract",
        "Transpose",
    ):
        node = node.input_value(0).get_node()
    name: str = node.get_friendly_name()
    return name if node.get_type_name() == "Constant" else ""


def _is_of_layer(node: openvino.Node, layer: str) -> bool:
    name = node.get_friendly_name()
    if name == layer or name.startswith(f"{layer}/"):
        return True
    weights = (stored_weight(node.input_value(position).get_node()) for position in range(node.get_input_size()))
    return any(weight.startswith(f"{layer}.") for weight in weights)
