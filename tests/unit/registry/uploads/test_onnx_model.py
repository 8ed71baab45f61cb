import io

import numpy as np
import onnx
import pytest

from registry.errors import InputError
from registry.uploads import onnx_model
from registry.uploads.onnx_model import MESSAGES, ExternalTensor, external_tensors
from tests.unit.registry.uploads.models import as_file, model, point_outside
from tests.unit.registry.uploads.zips import CountingFile


def found(content: bytes) -> list[ExternalTensor]:
    return list(external_tensors(*as_file(content)))


def test_every_message_that_leads_to_a_tensor_is_walked() -> None:
    """The table of field numbers is what ONNX's own schema says."""

    def leads_to_a_tensor(name: str, seen: frozenset[str] = frozenset()) -> bool:
        if name == "TensorProto":
            return True
        fields = getattr(onnx, name).DESCRIPTOR.fields if hasattr(onnx, name) else []
        inner = {field.message_type.name for field in fields if field.message_type} - seen
        return any(leads_to_a_tensor(other, seen | {name}) for other in inner)

    for message, walked in MESSAGES.items():
        fields = getattr(onnx, message).DESCRIPTOR.fields if message != "TensorProto" else []
        named = {field.number: field.message_type.name for field in fields if field.message_type}
        assert walked == {number: name for number, name in named.items() if leads_to_a_tensor(name)}


def test_a_whole_model_keeps_nothing_elsewhere() -> None:
    assert found(model().SerializeToString()) == []


def test_weights_in_other_files_are_found_with_their_place() -> None:
    content = model(location="w.bin", offset="16", length="48", checksum="0").SerializeToString()
    assert found(content) == [ExternalTensor("w", "w.bin", 16, 48)]


def inner_tensor(name: str) -> onnx.TensorProto:
    return point_outside(onnx.numpy_helper.from_array(np.ones(2, np.float32), name), location=f"{name}.bin")


def test_weights_hidden_in_attributes_subgraphs_functions_and_sparse_tensors_are_found() -> None:
    made = model()
    inner = onnx.helper.make_graph([], "inner", [], [], [inner_tensor("a")])
    made.graph.node.append(onnx.helper.make_node("If", ["c"], ["z"], then_branch=inner))
    made.graph.node.append(onnx.helper.make_node("Constant", [], ["k"], value=inner_tensor("b")))
    made.functions.add(name="f").node.append(onnx.helper.make_node("Constant", [], ["k"], value=inner_tensor("c")))
    made.graph.sparse_initializer.add().values.CopyFrom(inner_tensor("d"))
    made.training_info.add().algorithm.initializer.append(inner_tensor("e"))
    assert sorted(tensor.name for tensor in found(made.SerializeToString())) == list("abcde")


@pytest.mark.parametrize(("key", "value"), [("offset", "-1"), ("length", "1e9"), ("offset", "9" * 30), ("length", "²")])
def test_places_that_are_no_numbers_are_refused(key: str, value: str) -> None:
    with pytest.raises(InputError, match=f"for its {key}; expected a number"):
        found(model(location="w.bin", **{key: value}).SerializeToString())


def test_an_entry_that_stands_twice_is_refused() -> None:
    made = model(location="w.bin")
    made.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(InputError, match="names its location twice"):
        found(made.SerializeToString())


@pytest.mark.parametrize("content", [b"", b"\x08", b"hello world", b"PK\x03\x04rest", b"\x80\x04.", b"\xff" * 30])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"not an ONNX model|not a whole ONNX model"):
        found(content)


def test_a_model_that_is_cut_short_is_refused() -> None:
    content = model().SerializeToString()
    for end in range(1, len(content) - 12):
        with pytest.raises(InputError, match="ONNX model"):
            found(content[:end])


def test_fields_and_depth_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    nested = b""
    for _ in range(200):
        # A graph of a node of an attribute of a graph: fields 6, 5 and 1.
        for number in (6, 5, 1):
            nested = bytes([number << 3 | 2]) + length(len(nested)) + nested
    with pytest.raises(InputError, match="nested too deeply"):
        found(b"\x3a" + length(len(nested)) + nested)
    monkeypatch.setattr(onnx_model, "MAX_FIELDS", 100)
    with pytest.raises(InputError, match="more than 100 fields"):
        found(b"\x3a\x00" * 101)


def length(value: int) -> bytes:
    return bytes([value & 127 | 128, value >> 7 & 127 | 128, value >> 14])


def test_weights_inside_are_passed_over_unread() -> None:
    made = model()
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(10**6, np.float32), "large"))
    content = made.SerializeToString()
    counting = CountingFile(content)
    assert list(external_tensors(counting, len(content))) == []
    assert counting.read_bytes < 1000


def test_a_model_beyond_what_protobuf_reads_is_refused_unread() -> None:
    with pytest.raises(InputError, match="larger than protobuf can read"):
        list(external_tensors(io.BytesIO(), 3 * 2**30))
