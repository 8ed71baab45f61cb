"""The same tensor comes out of every door: REST in JSON, REST in bytes, gRPC and the Bento endpoint, one row each."""

# mypy: disable-error-code="no-untyped-call"

from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from registry.records.model import Datatype
from serving.runtime import Array
from tests.integration.echo_engine import WIDTH, EchoEngine, name_of
from tests.integration.test_tritonclient import given, sample


def values_of(array: Array) -> list[Any]:
    """The values of an array as JSON has them."""
    if array.dtype.hasobject:
        return [one.decode() for one in array.reshape(-1).tolist()]
    numbers: list[Any] = array.reshape(-1).astype(object).tolist()
    return [float(one) for one in numbers] if array.dtype == np.dtype("bfloat16") else numbers


def in_json(engine: EchoEngine, model: str, array: Array, datatype: Datatype) -> list[Any]:
    tensor = {"name": "x", "datatype": datatype.value, "shape": [1, WIDTH], "data": values_of(array)}
    reply = httpx.post(f"{engine.url}/v2/models/{model}/infer", json={"inputs": [tensor]})
    found: list[Any] = reply.json()["outputs"][0]["data"]
    return found


def at_the_endpoint(engine: EchoEngine, model: str, array: Array) -> list[Any]:
    reply = httpx.post(f"{engine.bento}/predict", json={"model": model, "inputs": {"x": [values_of(array)]}})
    (found,) = reply.json()["outputs"]["y"]
    assert isinstance(found, list)
    return found


def in_bytes(engine: EchoEngine, model: str, array: Array, datatype: Datatype) -> list[Array]:
    """Over REST, and over gRPC."""
    with triton_http.InferenceServerClient(engine.rest) as client:
        over_rest = client.infer(model, given(triton_http, array, datatype)).as_numpy("y")
    with triton_grpc.InferenceServerClient(engine.grpc) as client:
        return [over_rest, client.infer(model, given(triton_grpc, array, datatype)).as_numpy("y")]


@pytest.mark.parametrize("datatype", list(Datatype))
def test_of_every_datatype(echo_engine: EchoEngine, datatype: Datatype) -> None:
    model, array = name_of(datatype), sample(datatype)[:1]
    found = in_bytes(echo_engine, model, array, datatype)
    for listed in (in_json(echo_engine, model, array, datatype), at_the_endpoint(echo_engine, model, array)):
        assert len(listed) == WIDTH
        text = [[one.encode() for one in listed]] if datatype is Datatype.BYTES else [listed]
        found.append(np.array(text, array.dtype))
    if datatype is Datatype.BYTES:
        assert [one.tolist() for one in found] == [array.tolist()] * 4
    else:
        assert {one.tobytes() for one in found} == {array.tobytes()}


def test_of_what_a_model_computes(echo_engine: EchoEngine) -> None:
    for seed in range(25):
        array = np.random.default_rng(seed).random((1, WIDTH), np.float32)
        found = in_bytes(echo_engine, "log", array, Datatype.FP32)
        for listed in (in_json(echo_engine, "log", array, Datatype.FP32), at_the_endpoint(echo_engine, "log", array)):
            found.append(np.array([listed], np.float32))
        assert len({one.tobytes() for one in found}) == 1


def test_of_a_request_without_json(echo_engine: EchoEngine) -> None:
    url, headers = f"{echo_engine.url}/v2/models/log/infer", {"Inference-Header-Content-Length": "0"}
    for rows in (1, 3):
        array = np.random.default_rng(rows).random((rows, WIDTH), np.float32)
        tensor = {"name": "x", "datatype": "FP32", "shape": [rows, WIDTH], "data": values_of(array)}
        listed = httpx.post(url, json={"inputs": [tensor]}).json()["outputs"][0]["data"]
        reply = httpx.post(url, content=array.tobytes(), headers=headers)
        assert (reply.status_code, reply.headers["content-type"]) == (200, "application/octet-stream"), reply.text
        length = int(reply.headers["inference-header-content-length"])
        (output,) = orjson.loads(reply.content[:length])["outputs"]
        assert (output["shape"], output["parameters"]) == ([rows, WIDTH], {"binary_data_size": array.nbytes})
        assert reply.content[length:] == np.array(listed, np.float32).tobytes()
    refused = httpx.post(url, content=bytes(20), headers=headers)
    message = "the body, 'x': expected a multiple of 16 bytes for FP32 of the shape [-1, 4], got 20"
    assert (refused.status_code, refused.json()) == (400, {"error": message})


def test_nan_that_a_model_computes_is_null_in_json(echo_engine: EchoEngine) -> None:
    array = np.array([[-1, 0, 0, 0]], np.float32)
    for found in in_bytes(echo_engine, "log", array, Datatype.FP32):
        assert np.isnan(found).all()
    assert in_json(echo_engine, "log", array, Datatype.FP32) == [None] * WIDTH
    assert at_the_endpoint(echo_engine, "log", array) == [None] * WIDTH
