"""Triton's own clients, unchanged, against a running engine: REST and gRPC, blocking and asynchronous."""

# ruff: noqa: ANN401 - the clients have no types
# mypy: disable-error-code="no-untyped-call"

import asyncio
import queue
from collections.abc import Iterator
from typing import Any

import httpx
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from google.protobuf.json_format import MessageToDict
from tritonclient.utils import InferenceServerException

from registry.records.model import Datatype
from serving.runtime import Array
from tests.integration.echo_engine import WIDTH, EchoEngine, name_of

MODEL = name_of(Datatype.FP32)
ROWS = np.arange(3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)
LARGE = np.arange(500 * WIDTH, dtype=np.float32).reshape(500, WIDTH)


def sample(datatype: Datatype) -> Array:
    """Two rows of a datatype, its extremes among them."""
    if datatype is Datatype.BYTES:
        return np.array([[b"", b"a", "\u00e9\0".encode(), b"x" * 300], [b"b", b"c", b"d", b"e"]], object)
    dtype = np.dtype(datatype.numpy_name)
    if datatype is Datatype.BOOL:
        return np.array([[True, False, True, True], [False] * 4])
    limits = ml_dtypes.finfo(dtype) if dtype.kind in "fV" else np.iinfo(dtype)
    return np.array([[0, 1, limits.min, limits.max], [1, 2, 3, 4]], dtype)


@pytest.fixture(scope="module", params=["http", "grpc"])
def client(request: pytest.FixtureRequest, echo_engine: EchoEngine) -> Iterator[Any]:
    """A blocking client; ``client.module`` holds what its calls take."""
    module = triton_http if request.param == "http" else triton_grpc
    address = echo_engine.rest if request.param == "http" else echo_engine.grpc
    made: Any = module.InferenceServerClient(address)
    made.module = module
    yield made
    made.close()


def given(module: Any, array: Array, datatype: Datatype = Datatype.FP32, **options: bool) -> list[Any]:
    tensor = module.InferInput("x", array.shape, datatype.value)
    tensor.set_data_from_numpy(array, **options)
    return [tensor]


def plain(message: Any) -> Any:
    """Make the same dictionaries of REST's and of gRPC's answers."""
    return message if isinstance(message, dict | list) else MessageToDict(message, preserving_proto_field_name=True)


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "2")
    if client.module is triton_http:
        assert not client.is_model_ready("nobody")
    server = plain(client.get_server_metadata())
    assert server["name"] == "burnish"
    assert "statistics" in server["extensions"]
    model = plain(client.get_model_metadata(MODEL))
    assert (model["name"], sorted(model["versions"]), model["platform"]) == (MODEL, ["1", "2"], "burnish_onnxruntime")
    (described,) = model["inputs"]
    assert (described["name"], described["datatype"]) == ("x", "FP32")
    assert [int(size) for size in described["shape"]] == [-1, WIDTH]


@pytest.mark.parametrize("datatype", list(Datatype))
def test_every_datatype_comes_back_to_the_last_bit(client: Any, datatype: Datatype) -> None:
    array = sample(datatype)
    reply = client.infer(name_of(datatype), given(client.module, array, datatype))
    found = reply.as_numpy("y")
    assert (found.dtype, found.tolist()) == (array.dtype, array.tolist())


@pytest.mark.parametrize("datatype", sorted(set(Datatype) - {Datatype.BF16}))
def test_every_datatype_but_bf16_comes_back_in_json(echo_engine: EchoEngine, datatype: Datatype) -> None:
    array = sample(datatype)
    with triton_http.InferenceServerClient(echo_engine.rest) as client:
        wanted = [triton_http.InferRequestedOutput("y", binary_data=False)]
        inputs = given(triton_http, array, datatype, binary_data=False)
        reply = client.infer(name_of(datatype), inputs, outputs=wanted)
    assert reply.get_output("y")["data"] is not None
    found = reply.as_numpy("y")
    expected = [[one.decode() for one in row] for row in array.tolist()] if datatype is Datatype.BYTES else None
    assert found.tolist() == (expected or array.tolist())


def test_requested_outputs_versions_ids_and_parameters(client: Any) -> None:
    wanted = [client.module.InferRequestedOutput("y")]
    reply = client.infer(
        MODEL,
        given(client.module, ROWS),
        model_version="2",
        outputs=wanted,
        request_id="mine",
        priority=2,
        timeout=5_000_000,
        parameters={"anything": "goes", "and": 1},
    )
    np.testing.assert_array_equal(reply.as_numpy("y"), ROWS)
    answered = plain(reply.get_response())
    assert (answered["id"], answered["model_version"]) == ("mine", "2")
    assert set(answered["parameters"]) == {"artifact", "request_id"}


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_both_ways(client: Any, algorithm: str) -> None:
    options = {"compression_algorithm": algorithm}
    if client.module is triton_http:
        options = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
    for array in (ROWS, LARGE):
        reply = client.infer(MODEL, given(client.module, array), **options)
        np.testing.assert_array_equal(reply.as_numpy("y"), array)


def test_statistics_and_the_repository(client: Any) -> None:
    def counted() -> int:
        (one,) = plain(client.get_inference_statistics(MODEL, "1"))["model_stats"]
        return int(one["inference_count"])

    before = counted()
    client.infer(MODEL, given(client.module, ROWS))
    assert counted() == before + len(ROWS)
    index = plain(client.get_model_repository_index())
    models = index if isinstance(index, list) else index["models"]
    assert {(one["name"], one["version"]) for one in models} >= {(MODEL, "1"), (MODEL, "2")}
    client.load_model(MODEL)
    client.unload_model(MODEL)
    np.testing.assert_array_equal(client.infer(MODEL, given(client.module, ROWS)).as_numpy("y"), ROWS)
    with pytest.raises(InferenceServerException, match="not offered here"):
        client.load_model(MODEL, config="{}")


def test_errors_have_their_status(client: Any) -> None:
    over_http = client.module is triton_http
    wide = np.zeros((1, WIDTH + 1), np.float32)
    calls = [
        (lambda: client.infer("nobody", given(client.module, ROWS)), "404", "NOT_FOUND", "there is no model nobody"),
        (lambda: client.infer(MODEL, given(client.module, wide)), "400", "INVALID_ARGUMENT", r"inputs\[0\].shape\[1\]"),
        (
            lambda: client.infer(MODEL, given(client.module, np.full((1, WIDTH), np.nan, np.float32))),
            "400",
            "INVALID_ARGUMENT",
            "not a finite number",
        ),
        (lambda: client.get_model_metadata("nobody"), "404", "NOT_FOUND", "there is no model nobody"),
        (lambda: client.load_model("nobody"), "404", "NOT_FOUND", "there is no model nobody"),
        (lambda: client.get_model_config(MODEL), "404", "UNIMPLEMENTED", None),
    ]
    for call, http_status, grpc_status, message in calls:
        with pytest.raises(InferenceServerException, match=message) as failed:
            call()
        assert failed.value.status() == (http_status if over_http else f"StatusCode.{grpc_status}")


def test_nan_passes_through_a_model_that_takes_it(client: Any) -> None:
    array = np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)
    assert client.infer("nan", given(client.module, array)).as_numpy("y").tobytes() == array.tobytes()


def test_asynchronous_calls_of_the_blocking_clients(echo_engine: EchoEngine) -> None:
    with triton_http.InferenceServerClient(echo_engine.rest, concurrency=4) as client:
        calls = [client.async_infer(MODEL, given(triton_http, ROWS + number)) for number in range(8)]
        for number, call in enumerate(calls):
            np.testing.assert_array_equal(call.get_result().as_numpy("y"), ROWS + number)
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton_grpc.InferenceServerClient(echo_engine.grpc) as client:
        for number in range(8):
            client.async_infer(
                MODEL,
                given(triton_grpc, ROWS + number),
                callback=lambda result, error: answers.put((result, error)),
                request_id=str(number),
            )
        for _ in range(8):
            result, error = answers.get(timeout=20)
            assert error is None
            np.testing.assert_array_equal(result.as_numpy("y"), ROWS + int(result.get_response().id))


def test_a_grpc_stream(echo_engine: EchoEngine) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton_grpc.InferenceServerClient(echo_engine.grpc) as client:
        client.start_stream(callback=lambda result, error: answers.put((result, error)))
        for number in range(100):
            model = "nobody" if number == 50 else MODEL
            client.async_stream_infer(
                model,
                given(triton_grpc, ROWS + number),
                request_id=str(number),
                enable_empty_final_response=number % 2 == 0,
            )
        for number in range(100):
            result, error = answers.get(timeout=20)
            if number == 50:
                assert "there is no model nobody" in str(error)
                continue
            assert error is None
            response = result.get_response()
            assert response.id == str(number)
            assert response.parameters["triton_final_response"].bool_param
            np.testing.assert_array_equal(result.as_numpy("y"), ROWS + number)
        client.stop_stream()
    assert answers.empty()


def test_the_asynchronous_clients(echo_engine: EchoEngine) -> None:
    async def over(module: Any, address: str, options: dict[str, str]) -> None:
        async with module.InferenceServerClient(address) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready(MODEL)
            assert plain(await client.get_server_metadata())["name"] == "burnish"
            assert plain(await client.get_model_metadata(MODEL))["name"] == MODEL
            assert plain(await client.get_inference_statistics(MODEL))
            assert plain(await client.get_model_repository_index())
            await client.load_model(MODEL)
            await client.unload_model(MODEL)
            calls = (client.infer(MODEL, given(module, LARGE + number), **options) for number in range(8))
            for number, reply in enumerate(await asyncio.gather(*calls)):
                np.testing.assert_array_equal(reply.as_numpy("y"), LARGE + number)
            for datatype in Datatype:
                array = sample(datatype)
                reply = await client.infer(name_of(datatype), given(module, array, datatype))
                assert reply.as_numpy("y").tolist() == array.tolist()
            with pytest.raises(InferenceServerException, match="there is no model nobody"):
                await client.infer("nobody", given(module, ROWS))

    async def stream() -> None:
        async def requests() -> Any:
            for number in range(20):
                yield {"model_name": MODEL, "inputs": given(triton_grpc_aio, ROWS + number), "request_id": str(number)}

        async with triton_grpc_aio.InferenceServerClient(echo_engine.grpc) as client:
            found = [(result, error) async for result, error in client.stream_infer(requests())]
        assert [error for _, error in found] == [None] * 20
        assert [result.get_response().id for result, _ in found] == [str(number) for number in range(20)]

    http = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "deflate"}
    asyncio.run(over(triton_http_aio, echo_engine.rest, http))
    asyncio.run(over(triton_grpc_aio, echo_engine.grpc, {"compression_algorithm": "gzip"}))
    asyncio.run(stream())


def test_a_plain_request_needs_no_client_and_no_header(echo_engine: EchoEngine) -> None:
    content = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2.5, -3, 4e9]}]}'
    form = {"content-type": "application/x-www-form-urlencoded"}  # as curl -d sends it
    reply = httpx.post(f"{echo_engine.url}/v2/models/{MODEL}/infer", content=content, headers=form)
    assert reply.status_code == 200
    assert reply.json()["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [1, 2.5, -3, 4e9]}]
