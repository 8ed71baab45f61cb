"""Open Inference Protocol v2 in JSON: the form of requests, answers and metadata."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pytest

from registry.errors import InputError
from registry.records.model import Datatype, Signature, TensorSpec
from serving.engine.infer import Answer
from serving.engine.live import LiveModel
from serving.engine.oip import decode_inputs, encode_answer, encode_model, parse_request, wanted_outputs
from serving.engine.slot import Slot
from serving.engine.tensors import SignaturePlan, WantedOutput
from tests.unit.serving.engine.doubles import entry, served

SIGNATURE = Signature(
    inputs=(
        TensorSpec(name="a", datatype=Datatype.FP32, shape=(None, 2)),
        TensorSpec(name="b", datatype=Datatype.INT64, shape=(None,)),
    ),
    outputs=(
        TensorSpec(name="y", datatype=Datatype.FP32, shape=(None, 2)),
        TensorSpec(name="z", datatype=Datatype.BOOL, shape=(None,)),
    ),
)
PLAN = SignaturePlan.of(SIGNATURE)
JSON_OUTPUTS = tuple(WantedOutput(plan, binary=False) for plan in PLAN.outputs)
A = {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
B = {"name": "b", "datatype": "INT64", "shape": [1], "data": [7]}


def body(**changes: object) -> bytes:
    return orjson.dumps({"inputs": [A, B], **changes})


def test_inputs_come_in_the_signatures_order_whatever_the_requests() -> None:
    request = parse_request(body(inputs=[B, {**A, "data": [[1, 2]]}], id="mine", parameters={"k": 1}, outputs=None))
    inputs = decode_inputs(request, PLAN)
    assert [(name, array.tolist()) for name, array in inputs.items()] == [("a", [[1, 2]]), ("b", [7])]
    assert request.id == "mine"


def test_a_request_may_name_its_model_as_tritons_documentation_does() -> None:
    assert parse_request(body(model_name="m")) == parse_request(body())


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b'{"inputs": [NaN]}', "the body is not JSON"),
        (b"[" * 5000, "the body is not JSON"),
        (b"[]", "the body: expected an object"),
        (b"{}", "inputs: expected a list of at least one tensor"),
        (body(inputs=[]), "inputs: expected a list"),
        (body(inputs=[3]), r"inputs\[0\]: expected an object"),
        (body(inputs=[A, {"name": 3}]), r"inputs\[1\].name: expected a string"),
        (body(inputs=[{**A, "dat": 1}]), r"inputs\[0\]: unknown field 'dat'"),
        (body(output=[]), "the body: unknown field 'output'"),
        (body(id=3), "id: expected a string"),
        (body(id=""), "id: expected a string"),
        (body(id="x" * 129), "id: expected a string"),
        (body(parameters=[]), "the body.parameters: expected an object"),
        (body(inputs=[{**A, "parameters": 3}]), r"inputs\[0\].parameters: expected an object"),
        (body(outputs=[]), "outputs: expected a list"),
        (body(outputs=[{"name": None}]), r"outputs\[0\].name: expected a string"),
    ],
)
def test_a_request_of_the_wrong_form_is_named(document: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_request(document)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([A], r"inputs: expected exactly \['a', 'b'\], got \['a'\]"),
        ([A, A], "inputs: expected exactly"),
        ([A, B, {"name": "c"}], "inputs: expected exactly"),
        ([A, {**B, "datatype": "INT32"}], r"inputs\[1\].datatype: expected INT64, got 'INT32'"),
        ([A, {**B, "datatype": None}], r"inputs\[1\].datatype: expected INT64, got None"),
        ([{**A, "shape": None}, B], r"inputs\[0\].shape: expected a list"),
        ([{**A, "shape": [1, 9]}, B], r"inputs\[0\].shape\[1\]: expected 2, got 9"),
        ([A, {name: B[name] for name in ("name", "datatype", "shape")}], r"inputs\[1\].data: missing"),
        ([A, {**B, "shape": [2], "data": [7, 8]}], "same number of samples"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(inputs: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode_inputs(parse_request(body(inputs=inputs)), PLAN)


def test_outputs_are_those_asked_for_in_that_order() -> None:
    def names(**changes: object) -> list[str]:
        return [wanted.plan.name for wanted in wanted_outputs(parse_request(body(**changes)), PLAN)]

    assert names() == ["y", "z"]
    assert names(outputs=[{"name": "z"}, {"name": "y"}]) == ["z", "y"]
    with pytest.raises(InputError, match=r"outputs\[1\].name: expected one of \['y', 'z'\], got 'q'"):
        names(outputs=[{"name": "z"}, {"name": "q"}])
    with pytest.raises(InputError, match=r"outputs\[1\].name: 'z' is asked for twice"):
        names(outputs=[{"name": "z"}, {"name": "z"}])


def test_an_answer_names_model_version_artifact_and_request() -> None:
    slot = Slot("m", served(4, signature=SIGNATURE))
    outputs = {"y": np.array([[0.1, np.nan]], np.float32), "z": np.array([True])}
    answer = Answer(slot, "request", outputs)
    assert orjson.loads(encode_answer(answer, answer.slot.lineage, JSON_OUTPUTS, None).body) == {
        "model_name": "m",
        "model_version": "4",
        "id": "request",
        "parameters": {"artifact": slot.served.artifact.sha256, "request_id": "request"},
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.1, None]},
            {"name": "z", "datatype": "BOOL", "shape": [1], "data": [True]},
        ],
    }
    assert orjson.loads(encode_answer(answer, answer.slot.lineage, JSON_OUTPUTS[1:], "mine").body)["id"] == "mine"


def test_metadata_is_that_of_the_version() -> None:
    versions = [served(2), served(1, signature=SIGNATURE)]
    live = LiveModel(entry(1, {2: 100}, versions), {version.version: Slot("m", version) for version in versions})
    described = orjson.loads(encode_model("m", live, 1))
    assert described["versions"] == ["1", "2"]
    assert described["platform"] == "burnish_fake"
    assert described["inputs"][0] == {"name": "a", "datatype": "FP32", "shape": [-1, 2]}
    assert described["parameters"] == {"version": "1", "artifact": versions[1].artifact.sha256}


def binary_body(*inputs: Mapping[str, object], behind: bytes, **changes: object) -> tuple[bytes, int]:
    head = orjson.dumps({"inputs": list(inputs), **changes})
    return head + behind, len(head)


def as_bytes(tensor: dict[str, Any], size: object) -> dict[str, object]:
    return {**{key: value for key, value in tensor.items() if key != "data"}, "parameters": {"binary_data_size": size}}


def test_binary_inputs_stand_behind_the_json_in_order_beside_those_in_json() -> None:
    behind = np.array([7], np.int64).tobytes() + np.array([[1, 2]], np.float32).tobytes()
    inputs = decode_inputs(parse_request(*binary_body(as_bytes(B, 8), as_bytes(A, 8), behind=behind)), PLAN)
    assert [(name, array.tolist()) for name, array in inputs.items()] == [("a", [[1, 2]]), ("b", [7])]
    inputs = decode_inputs(parse_request(*binary_body(A, as_bytes(B, 8), behind=behind[:8])), PLAN)
    assert [(name, array.tolist()) for name, array in inputs.items()] == [("a", [[1, 2]]), ("b", [7])]
    assert all(array.flags.aligned for array in inputs.values())


@pytest.mark.parametrize(
    ("inputs", "behind", "message"),
    [
        ((as_bytes(A, 8), B), b"1234567", r"inputs\[0\].parameters.binary_data_size: expected at most the 7 bytes"),
        ((as_bytes(A, 10**12), B), b"12345678", r"inputs\[0\].parameters.binary_data_size"),
        ((as_bytes(A, -1), B), b"12345678", r"inputs\[0\].parameters.binary_data_size"),
        ((as_bytes(A, "8"), B), b"12345678", r"inputs\[0\].parameters.binary_data_size"),
        ((as_bytes(A, True), B), b"12345678", r"inputs\[0\].parameters.binary_data_size"),
        ((as_bytes(A, 8), B), b"123456789", "1 bytes behind the JSON belong to no input"),
        ((A, B), b"1", "1 bytes behind the JSON belong to no input"),
        ((as_bytes(A, 4), B), b"1234", r"inputs\[0\]: expected 8 bytes for FP32 of the shape \[1, 2\], got 4"),
        (({**as_bytes(A, 8), "data": [1, 2]}, B), b"\0" * 8, r"inputs\[0\]: has data beside binary_data_size"),
        (({**as_bytes(A, 8), "shape": [2**40, 2]}, B), b"\0" * 8, r"inputs\[0\]: expected 8796093022208 bytes"),
        ((as_bytes(A, 8), B), np.array([1, np.nan], np.float32).tobytes(), r"inputs\[0\]: a value is not a finite"),
    ],
)
def test_binary_inputs_that_do_not_fit_are_refused(
    inputs: tuple[Mapping[str, object], ...], behind: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        decode_inputs(parse_request(*binary_body(*inputs, behind=behind)), PLAN)


@pytest.mark.parametrize("length", [-1, 10_000])
def test_the_length_of_the_json_is_within_the_body(length: int) -> None:
    with pytest.raises(InputError, match="inference-header-content-length"):
        parse_request(body(), length)


def test_without_json_the_body_is_the_input_and_all_outputs_come_as_bytes() -> None:
    plan = SignaturePlan.of(Signature(inputs=SIGNATURE.inputs[:1], outputs=SIGNATURE.outputs))
    rows = np.array([[1, 2], [3, 4]], np.float32)
    request = parse_request(rows.tobytes(), 0)
    assert request.id is None
    assert decode_inputs(request, plan)["a"].tolist() == rows.tolist()
    assert [(one.plan.name, one.binary) for one in wanted_outputs(request, plan)] == [("y", True), ("z", True)]
    nan = parse_request(np.array([[1, np.nan]], np.float32).tobytes(), 0)
    assert np.isnan(decode_inputs(nan, plan, finite=False)["a"][0, 1])
    with pytest.raises(InputError, match="the body, 'a': a value is not a finite number"):
        decode_inputs(nan, plan)


def test_booleans_in_bytes_are_0_or_1() -> None:
    plan = SignaturePlan.of(
        Signature(
            inputs=(TensorSpec(name="b", datatype=Datatype.BOOL, shape=(None,)),),
            outputs=(TensorSpec(name="y", datatype=Datatype.BOOL, shape=(None,)),),
        )
    )
    tensor = {"name": "b", "datatype": "BOOL", "shape": [2], "parameters": {"binary_data_size": 2}}
    found = decode_inputs(parse_request(*binary_body(tensor, behind=b"\1\0")), plan)
    assert found["b"].tolist() == [True, False]
    with pytest.raises(InputError, match="0 or 1"):
        decode_inputs(parse_request(*binary_body(tensor, behind=b"\1\2")), plan)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [("y", False), ("z", False)]),
        ({"parameters": {"binary_data_output": True}}, [("y", True), ("z", True)]),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "z"}, {"name": "y", "parameters": {"binary_data": False}}],
            },
            [("z", True), ("y", False)],
        ),
        ({"outputs": [{"name": "z", "parameters": {"binary_data": True}}]}, [("z", True)]),
    ],
)
def test_outputs_come_as_bytes_where_they_are_asked_for(changes: dict[str, object], expected: object) -> None:
    wanted = wanted_outputs(parse_request(body(**changes)), PLAN)
    assert [(one.plan.name, one.binary) for one in wanted] == expected


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"parameters": {"binary_data_output": 1}}, "parameters.binary_data_output"),
        (
            {"outputs": [{"name": "z", "parameters": {"binary_data": "yes"}}]},
            "outputs[0].parameters.binary_data",
        ),
    ],
)
def test_a_wish_for_bytes_is_true_or_false(changes: dict[str, object], where: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(where)}: expected true or false"):
        wanted_outputs(parse_request(body(**changes)), PLAN)


def test_binary_outputs_stand_behind_the_json() -> None:
    outputs: Any = {"y": np.array([[1, 2]], np.float32), "z": np.array([True])}
    answer = Answer(Slot("m", served(3, signature=SIGNATURE)), "r-1", outputs)
    wanted = (WantedOutput(PLAN.outputs[1], binary=True), WantedOutput(PLAN.outputs[0], binary=True))
    encoded = encode_answer(answer, answer.slot.lineage, wanted, None)
    assert encoded.json_length is not None
    head, behind = encoded.body[: encoded.json_length], encoded.body[encoded.json_length :]
    assert orjson.loads(head)["outputs"] == [
        {"name": "z", "datatype": "BOOL", "shape": [1], "parameters": {"binary_data_size": 1}},
        {"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
    ]
    assert behind == b"\1" + np.array([1, 2], np.float32).tobytes()
