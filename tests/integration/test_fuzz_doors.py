"""Whatever comes to the doors of a running engine: an answer or a refusal, never a 5xx, and no memory kept of it."""

# ruff: noqa: ANN401 - gRPC's messages and Schemathesis have no types of use here

import contextlib
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import orjson
import pytest
import schemathesis
from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from registry.records.model import Datatype
from serving.doors.grpc_wire import HEAD
from serving.doors.openapi import document
from serving.doors.protocol import open_inference_pb2 as pb
from tests.integration.echo_engine import WIDTH, EchoEngine, name_of
from tests.integration.fuzzing import MODELS, documents, messages, raw_tensor
from tests.unit.serving.doors.http2_client import call_headers, framed
from tests.unit.serving.doors.test_http_rules import AMBIGUOUS

MIB = 2**20
HTTP2_BEGIN = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
KEPT_BYTES = 24 * MIB
"""More than this, kept after thousands of requests of up to a few kilobytes, would be a leak."""

CHECKS = [
    allow_header_conformance,
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]
FUZZ = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

api = schemathesis.openapi.from_dict(document("any"))


@api.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Ask the models that there are, mostly."""
    del context
    if path_parameters and "model" in path_parameters:
        size = len(str(path_parameters["model"]))
        if size % 4:
            path_parameters["model"] = MODELS[size % len(MODELS)]
    return path_parameters


@api.parametrize()
@settings(FUZZ, max_examples=15)
def test_the_door_is_as_its_document_says(case: Any, echo_engine: EchoEngine) -> None:
    case.call_and_validate(base_url=echo_engine.url, checks=CHECKS, timeout=20)


@pytest.fixture(scope="module")
def rest(echo_engine: EchoEngine) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=echo_engine.url, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def infer(echo_engine: EchoEngine) -> Iterator[Callable[[Any], Any]]:
    with grpc.insecure_channel(echo_engine.grpc) as channel:
        yield channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda request: request if isinstance(request, bytes) else request.SerializeToString(),
            response_deserializer=pb.ModelInferResponse.FromString,
        )


def fuzz_rest(rest: httpx.Client, examples: int) -> set[int]:
    seen: set[int] = set()

    @settings(FUZZ, max_examples=examples)
    @given(document=documents, behind=st.binary(max_size=40), length=st.booleans())
    def ask(document: dict[str, Any], behind: bytes, length: bool) -> None:
        model = name_of(Datatype(document["inputs"][0]["datatype"]))
        head = orjson.dumps(document)
        headers = {"inference-header-content-length": str(len(head))} if length else {}
        reply = rest.post(f"/v2/models/{model}/infer", content=head + (behind if length else b""), headers=headers)
        assert reply.status_code in (200, 400, 504), (document, behind, reply.text)  # 504: a timeout of microseconds
        assert reply.status_code == 200 or reply.json()["error"]
        seen.add(reply.status_code)

    ask()
    return seen


def fuzz_tensors(rest: httpx.Client, infer: Callable[[Any], Any], examples: int) -> int:
    """Send tensors that are right, as bytes over both doors; return how many came back the same."""
    same = 0

    @settings(FUZZ, max_examples=examples)
    @given(
        datatype=st.sampled_from(list(Datatype)), rows=st.integers(1, 5), seed=st.integers(0, 2**32), extra=st.data()
    )
    def ask(datatype: Datatype, rows: int, seed: int, extra: st.DataObject) -> None:
        nonlocal same
        raw = raw_tensor(datatype, rows, seed)
        damage = extra.draw(st.sampled_from([b"", b"", b"", b"\xff"]))
        content = raw + damage
        described = {"name": "x", "datatype": datatype.value, "shape": [rows, WIDTH]}
        head = orjson.dumps(
            {
                "inputs": [{**described, "parameters": {"binary_data_size": len(content)}}],
                "parameters": {"binary_data_output": True},
            }
        )
        headers = {"inference-header-content-length": str(len(head))}
        reply = rest.post(f"/v2/models/{name_of(datatype)}/infer", content=head + content, headers=headers)
        tensor = pb.ModelInferRequest.InferInputTensor(**described)
        asked = pb.ModelInferRequest(model_name=name_of(datatype), inputs=[tensor], raw_input_contents=[content])
        if damage:
            assert reply.status_code == 400
            with pytest.raises(grpc.RpcError) as refused:
                infer(asked)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            return
        assert reply.status_code == 200, reply.text
        assert reply.content[int(reply.headers["inference-header-content-length"]) :] == raw
        assert infer(asked).raw_output_contents[0] == raw
        same += 1

    ask()
    return same


def fuzz_grpc(infer: Callable[[Any], Any], examples: int) -> set[grpc.StatusCode]:
    """Send messages of any form, and bytes that are none; return the statuses seen."""
    seen: set[grpc.StatusCode] = set()

    @settings(FUZZ, max_examples=examples)
    @given(message=messages | st.binary(max_size=60))
    def ask(message: Any) -> None:
        try:
            infer(message)
        except grpc.RpcError as error:
            seen.add(error.code())
        else:
            seen.add(grpc.StatusCode.OK)

    ask()
    return seen


def fuzz_http(engine: EchoEngine, rounds: int) -> int:
    """Send broken HTTP over sockets, some of it cut short; return how many were answered, each with a refusal."""
    drawn = random.Random(7)
    host, port = engine.rest.split(":")
    answered = 0
    messages = list(AMBIGUOUS.values())
    for number in range(rounds):
        message = messages[number % len(messages)]
        if number >= len(messages):
            cut = bytearray(message)
            for _ in range(drawn.randrange(1, 6)):
                cut[drawn.randrange(len(cut))] = drawn.randrange(256)
            message = bytes(cut[: drawn.randrange(1, len(cut) + 1)])
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
            found = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := connection.recv(65536):
                    found += piece
        if found:
            answered += 1
            assert found.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4", b"HTTP/1.1 501", b"HTTP/1.1 505")), (message, found)
    return answered


def http2_call() -> bytes:
    """All that a client sends for one call, after what a connection begins with."""
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    client.clear_outbound_data_buffer()
    client.send_headers(1, call_headers())
    client.send_data(1, framed(pb.ModelInferRequest(model_name="m").SerializeToString()), end_stream=True)
    client.ping(b"12345678")
    client.increment_flow_control_window(1000)
    return client.data_to_send()


def fuzz_http2(engine: EchoEngine, rounds: int) -> int:
    """Send broken HTTP/2, some of it cut short; return how many got an answer to their call all the same."""
    drawn = random.Random(7)
    host, port = engine.grpc.split(":")
    call = http2_call()
    answered = 0
    for number in range(rounds):
        broken = bytearray(call)
        for _ in range(drawn.randrange(1, 6) if number else 0):
            broken[drawn.randrange(len(broken))] = drawn.randrange(256)
        broken = broken[: drawn.randrange(1, len(broken) + 1) if number else None]
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(HTTP2_BEGIN + broken)
            connection.shutdown(socket.SHUT_WR)
            found = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := connection.recv(65536):
                    found += piece
        answered += HEAD in found
    return answered


def all_of_it(engine: EchoEngine, rest: httpx.Client, infer: Callable[[Any], Any], examples: int) -> None:
    assert fuzz_rest(rest, examples) >= {200, 400}
    assert fuzz_tensors(rest, infer, examples) > examples // 2
    codes = grpc.StatusCode
    assert fuzz_grpc(infer, examples) <= {codes.OK, codes.INVALID_ARGUMENT, codes.NOT_FOUND}
    assert fuzz_http(engine, examples) > examples // 4
    assert 0 < fuzz_http2(engine, examples) < examples


@pytest.mark.parametrize("examples", [300, pytest.param(3_000, marks=pytest.mark.slow)])
def test_nothing_breaks_a_door_and_nothing_is_kept(
    echo_engine: EchoEngine, rest: httpx.Client, infer: Callable[[Any], Any], examples: int
) -> None:
    all_of_it(echo_engine, rest, infer, 100)
    before = echo_engine.held_bytes()
    all_of_it(echo_engine, rest, infer, examples)
    kept = echo_engine.held_bytes() - before
    assert kept < KEPT_BYTES, f"{kept / MIB:.1f} MiB were kept"
    assert rest.get("/v2/health/ready").status_code == 200


def test_what_a_request_claims_is_not_allocated(echo_engine: EchoEngine, rest: httpx.Client) -> None:
    before = echo_engine.held_bytes()
    for datatype in Datatype:
        for rows in (2**20, 2**40, 2**60):
            tensor = {"name": "x", "datatype": datatype.value, "shape": [rows, WIDTH]}
            claims: tuple[dict[str, Any], ...] = (
                {"data": []},
                {"data": [1]},
                {"parameters": {"binary_data_size": rows * WIDTH}},
            )
            for more in claims:
                head = orjson.dumps({"inputs": [{**tensor, **more}]})
                headers = {"inference-header-content-length": str(len(head))}
                reply = rest.post(f"/v2/models/{name_of(datatype)}/infer", content=head, headers=headers)
                assert (reply.status_code, "inputs[0]" in reply.json()["error"]) == (400, True), reply.text
    assert echo_engine.held_bytes() - before < KEPT_BYTES
