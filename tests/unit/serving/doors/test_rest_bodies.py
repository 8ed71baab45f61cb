"""Compressed bodies, parameters, and values that are not finite, over a real socket."""

import gzip
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from registry.records.release import NonFinite, ServingPolicy
from serving.engine.worker import Worker
from tests.unit.serving.doors.rest_client import INFER, MAX_BODY_BYTES, X, body, open_door
from tests.unit.serving.engine.doubles import run

Work = Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]


def with_client(worker: Worker, work: Work) -> None:
    async def inside() -> None:
        async with open_door(worker) as client:
            await work(client)

    run(inside())


@pytest.mark.parametrize(("coding", "packed"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_read_and_a_large_answer_compressed(
    worker: Worker, coding: str, packed: Callable[[bytes], bytes]
) -> None:
    rows = np.arange(400, dtype=np.float32).reshape(200, 2)
    whole = {**X, "shape": [200, 2], "data": rows.tolist()}

    async def work(client: httpx.AsyncClient) -> None:
        document = orjson.dumps(body(inputs=[whole]))
        headers = {"content-encoding": coding, "accept-encoding": coding, "x-request-id": "r-1"}
        reply = await client.post(INFER, content=packed(document), headers=headers)
        assert reply.status_code == 200, reply.text
        assert (reply.headers["content-encoding"], reply.headers["vary"]) == (coding, "accept-encoding")
        assert reply.headers["x-request-id"] == "r-1"
        assert int(reply.headers["content-length"]) < len(reply.content)
        assert reply.json()["outputs"][0]["data"] == rows.reshape(-1).tolist()
        for accepted in ("identity", "br"):
            plain = await client.post(INFER, content=document, headers={"accept-encoding": accepted})
            assert "content-encoding" not in plain.headers
        small = await client.post(INFER, json=body(), headers={"accept-encoding": coding})
        assert "content-encoding" not in small.headers

    with_client(worker, work)


def test_binary_tensors_may_be_compressed_too(worker: Worker) -> None:
    rows = np.arange(800, dtype=np.float32).reshape(400, 2)
    tensor = {"name": "x", "datatype": "FP32", "shape": [400, 2], "parameters": {"binary_data_size": rows.nbytes}}
    head = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})

    async def work(client: httpx.AsyncClient) -> None:
        headers = {
            "inference-header-content-length": str(len(head)),
            "content-encoding": "gzip",
            "accept-encoding": "gzip",
        }
        reply = await client.post(INFER, content=gzip.compress(head + rows.tobytes()), headers=headers)
        assert reply.headers["content-encoding"] == "gzip"
        length = int(reply.headers["inference-header-content-length"])
        assert reply.content[length:] == rows.tobytes()

    with_client(worker, work)


def test_a_compressed_body_that_cannot_be_taken_is_refused_by_its_status(worker: Worker) -> None:
    small = orjson.dumps(body())
    refused = [
        ("br", small, 415, "unknown coding 'br'"),
        ("gzip, gzip", gzip.compress(gzip.compress(small)), 415, "unknown coding"),
        ("gzip", gzip.compress(bytes(MAX_BODY_BYTES + 1)), 413, "once it is decompressed"),
        ("gzip", small, 400, "is not gzip"),
        ("gzip", gzip.compress(b"[]"), 400, "the body: expected an object"),
    ]

    async def work(client: httpx.AsyncClient) -> None:
        for coding, content, status, message in refused:
            reply = await client.post(INFER, content=content, headers={"content-encoding": coding})
            assert (reply.status_code, message in reply.json()["error"]) == (status, True), reply.text
            assert status != 415 or reply.headers["accept-encoding"] == "gzip, deflate"
        assert (await client.post(INFER, content=small, headers={"content-encoding": "identity"})).status_code == 200

    with_client(worker, work)


def test_unknown_parameters_are_ignored_and_those_that_change_an_answer_refused(worker: Worker) -> None:
    anything = {"a": 1, "b": "c", "d": True, "e": 0.5}
    asked = body(parameters=anything, outputs=[{"name": "y", "parameters": anything}])
    asked["inputs"] = [{**X, "parameters": anything}]
    refused = [
        (body(parameters={"a": {}}), "the body.parameters.a: expected a string"),
        (body(parameters=[1]), "the body.parameters: expected an object"),
        (body(inputs=[{**X, "parameters": {"a": None}}]), "inputs[0].parameters.a: expected a string"),
        (
            body(inputs=[{**X, "parameters": {"shared_memory_region": "r"}}]),
            "inputs[0].parameters.shared_memory_region",
        ),
        (body(outputs=[{"name": "y", "parameters": {"classification": 2}}]), "outputs[0].parameters.classification"),
    ]

    async def work(client: httpx.AsyncClient) -> None:
        assert (await client.post(INFER, json=asked)).json()["outputs"][0]["data"] == [1, 2]
        for document, message in refused:
            reply = await client.post(INFER, json=document)
            assert (reply.status_code, message in reply.json()["error"]) == (400, True), reply.text

    with_client(worker, work)


def test_nan_passes_where_the_models_policy_lets_it(worker: Worker) -> None:
    rows = np.array([[np.nan, -np.inf]], np.float32)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    head = orjson.dumps({"inputs": [tensor], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]})
    headers = {"inference-header-content-length": str(len(head))}

    async def work(client: httpx.AsyncClient) -> None:
        reply = await client.post(INFER, content=head + rows.tobytes(), headers=headers)
        assert (reply.status_code, reply.json()) == (400, {"error": "inputs[0]: a value is not a finite number"})
        worker.live.route("m", None, "").policy = ServingPolicy(non_finite=NonFinite.PASS)
        reply = await client.post(INFER, content=head + rows.tobytes(), headers=headers)
        assert reply.content[int(reply.headers["inference-header-content-length"]) :] == rows.tobytes()
        as_json = orjson.dumps({"inputs": [tensor]})
        headers["inference-header-content-length"] = str(len(as_json))
        reply = await client.post(INFER, content=as_json + rows.tobytes(), headers=headers)
        assert reply.json()["outputs"][0]["data"] == [None, None]
        reply = await client.post(INFER, content=orjson.dumps(body()).replace(b"[1,2]}", b"[1e39,2]}"))
        assert (reply.status_code, "out of the range" in reply.json()["error"]) == (400, True)

    with_client(worker, work)


def test_a_load_brings_nothing_of_its_own(worker: Worker) -> None:
    load, unload = "/v2/repository/models/m/load", "/v2/repository/models/m/unload"

    async def work(client: httpx.AsyncClient) -> None:
        assert (await client.post(load, json={"parameters": {"other": 1}})).status_code == 200
        assert (await client.post(unload, json={"parameters": {"unload_dependents": False}})).status_code == 200
        for path, content, message in (
            (load, b'{"parameters": {"config": "{}"}}', "parameters.config: not offered here"),
            (load, b'{"parameters": {"file:1/model.onnx": "AA=="}}', "parameters.file:1/model.onnx: not offered"),
            (load, b"[1]", "the body: expected an object"),
            (load, b"{", "the body is not JSON"),
            (unload, b'{"parameters": 1}', "parameters: expected an object"),
        ):
            reply = await client.post(path, content=content)
            assert (reply.status_code, message in reply.json()["error"]) == (400, True), reply.text

    with_client(worker, work)


@pytest.mark.parametrize("document", [b"[" * 9000, b'{"a":' * 1500, b'{"inputs":' + b"[" * 4000 + b"]" * 4000 + b"}"])
def test_depth_is_bounded(worker: Worker, document: bytes) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        reply = await client.post(INFER, content=document)
        assert (reply.status_code, "the body is not JSON" in reply.json()["error"]) == (400, True)

    with_client(worker, work)


def test_compressed_bodies_that_wait_to_be_read_are_bounded_with_all_that_waits(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            content, headers = gzip.compress(orjson.dumps(body())), {"content-encoding": "gzip"}
            held = worker.backlog.enter_bytes(2**40, "other")
            refused = await client.post(INFER, content=content, headers=headers)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            worker.backlog.leave(held, "other")
            assert (await client.post(INFER, content=content, headers=headers)).status_code == 200
            assert worker.backlog.bytes == 0

    run(work())
