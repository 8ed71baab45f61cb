"""ONNX models: parse, check, save again as one file, read out the signature. Runs in the source child only."""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from registry.errors import InputError
from registry.records.model import Datatype, Signature, TensorSpec

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_LARGEST_FILE_BYTES = 1900 * 2**20  # protobuf ends at 2 GiB; beyond, weights stand in a file of their own


def resave(file: Path, target: Path) -> Signature:
    """Parse an ONNX model, bring external weights in, check it and write it anew.

    Raises:
        InputError: damaged, invalid, with operators of unknown domains or external data outside of its folder.
    """
    model = _parse(file)
    _check_domains(model)
    _load_external(model, file.parent)
    _write(model, target)
    try:
        onnx.checker.check_model(str(target), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"the ONNX model is not valid: {_first_line(error)}; export it again") from error
    return onnx_signature(model)


def onnx_signature(model: onnx.ModelProto) -> Signature:
    """Return the signature of an ONNX model: inputs that are not weights, and outputs, under the graph's names.

    Raises:
        InputError: an input or output is not a tensor of a known type and rank.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_spec(value) for value in model.graph.input if value.name not in weights)
    outputs = tuple(_spec(value) for value in model.graph.output)
    if not inputs or not outputs:
        raise InputError("the ONNX model takes or returns no tensor; a model needs at least one input and one output")
    return Signature(inputs=inputs, outputs=outputs)


def _parse(file: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise InputError(f"the file is not a complete ONNX model ({error}); export it again") from error
    if not model.graph.node or not model.opset_import:
        raise InputError("the file is not a complete ONNX model (it has no operators); export it again")
    return model


def _check_domains(model: onnx.ModelProto) -> None:
    own = {function.domain for function in model.functions}
    for node in _nodes(model):
        if node.domain not in _DOMAINS | own:
            raise InputError(
                f"the ONNX model uses {node.op_type!r} of the domain {node.domain!r}, which no runtime here has; "
                "export it with standard operators"
            )


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    pending = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while pending:
        node = pending.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                pending.extend(graph.node)


def _load_external(model: onnx.ModelProto, folder: Path) -> None:
    for tensor in _tensors(model):
        if not uses_external_data(tensor):
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        path = folder / location
        if not location or Path(location).name != location or path.is_symlink() or not path.is_file():
            raise InputError(
                f"the weight {tensor.name!r} lies in {location!r}, which is not a file beside the model; save "
                "the model as one file (onnx.save_model(..., save_as_external_data=False))"
            )
    try:
        load_external_data_for_model(model, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise InputError(f"the model's external weights cannot be read: {_first_line(error)}") from error


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        graphs.extend(inner for node in graph.node for attribute in node.attribute for inner in attribute.graphs)
        graphs.extend(attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g"))
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)


def _write(model: onnx.ModelProto, target: Path) -> None:
    large = model.ByteSize() > _LARGEST_FILE_BYTES
    onnx.save_model(model, str(target), save_as_external_data=large, location=f"{target.name}.data" if large else None)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise InputError(f"the tensor {value.name!r} has no known rank; export the ONNX model with shapes")
    try:
        datatype = Datatype.from_numpy_name(str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    except (KeyError, ValueError):
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise InputError(f"the tensor {value.name!r} is of type {kind}, which the optimizer cannot compare") from None
    sizes = tuple(size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim)
    return TensorSpec(name=value.name, datatype=datatype, shape=sizes)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
