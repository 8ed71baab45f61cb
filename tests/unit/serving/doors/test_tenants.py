"""Whose model it is: each tenant has names of its own, and learns nothing of another's, at both doors."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from registry.records.tenant import TENANT_HEADER
from serving.doors.grpc_server import grpc_server
from serving.engine import loop_turns
from serving.engine.catalog import write_entry
from serving.engine.worker import Worker
from tests.unit.serving.doors import rest_client, test_grpc
from tests.unit.serving.doors.rest_client import VERSIONS, body
from tests.unit.serving.doors.test_grpc import asked
from tests.unit.serving.engine.doubles import FakeSession, FakeWorld, entry, run, served

OWN = served(3)
"""What the tenant acme has under the name that the tenant default gives its model."""

ACME, BETA, DEFAULT = ({TENANT_HEADER: name} for name in ("acme", "beta", "default"))


@pytest.fixture
def shared(worker: Worker, world: FakeWorld, tmp_path: Path) -> Iterator[Worker]:
    world.add(OWN, FakeSession(scale=3))
    write_entry(tmp_path / "catalog", entry(1, {3: 100}, [OWN], "acme.m"))
    write_entry(tmp_path / "catalog", entry(1, {1: 100}, VERSIONS, "acme.secret"))
    yield worker


@asynccontextmanager
async def both_doors(worker: Worker) -> AsyncIterator[tuple[httpx.AsyncClient, test_grpc.Client]]:
    async with rest_client.open_door(worker) as client:
        server = grpc_server(worker, 100_000, drain_seconds=5, max_calls=100)
        port = await server.open("127.0.0.1", 0)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield client, test_grpc.Client(channel)
        await server.close()


def over_rest(model: str) -> list[tuple[str, str, dict[str, object] | None]]:
    at = f"/v2/models/{model}"
    paths = (at, f"{at}/ready", f"{at}/stats", f"{at}/versions/1", f"{at}/versions/1/ready", f"{at}/versions/1/stats")
    loads = (f"/v2/repository/models/{model}/load", f"/v2/repository/models/{model}/unload")
    return [
        *(("GET", path, None) for path in paths),
        *(("POST", path, {}) for path in loads),
        *(("POST", f"{path}/infer", body()) for path in (at, f"{at}/versions/1")),
    ]


def over_grpc(model: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("ModelInfer", asked(model_name=model)),
        ("ModelInfer", asked(model_name=model, model_version="1")),
        *((name, {"name": model}) for name in ("ModelReady", "ModelMetadata", "ModelStatistics")),
        *((name, {"model_name": model}) for name in ("RepositoryModelLoad", "RepositoryModelUnload")),
    ]


def bare(reply: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """All that comes over the wire but the request's own id, which is told to be of the usual form."""
    assert len(reply.headers["x-request-id"]) == 32
    return reply.status_code, [(n, v) for n, v in reply.headers.items() if n != "x-request-id"], reply.content


def test_the_same_name_is_another_model_for_each_tenant(shared: Worker) -> None:
    async def work() -> None:
        async with both_doors(shared) as (client, calls):
            for headers, name, scale in ((ACME, "m", 3), (DEFAULT, "m", 1), ({}, "m", 1), ({}, "acme.m", 3)):
                reply = await client.post(f"/v2/models/{name}/infer", json=body(), headers=headers)
                document = reply.json()
                assert document["outputs"][0]["data"] == [scale, 2 * scale]
                assert (document["model_name"], reply.headers["x-burnish-model"]) == (name, name)
                assert (await client.get(f"/v2/models/{name}", headers=headers)).json()["name"] == name
                told = (await client.get(f"/v2/models/{name}/stats", headers=headers)).json()["model_stats"]
                assert {one["name"] for one in told} == {name}
            for headers, name, scale in ((ACME, "m", 3), (DEFAULT, "m", 1), ({}, "acme.m", 3)):
                metadata = tuple(headers.items())
                response = await calls("ModelInfer", metadata, **asked(model_name=name))
                assert (response.model_name, test_grpc.answered(response)) == (name, [scale, 2 * scale])
                assert (await calls("ModelMetadata", metadata, name=name)).name == name

    run(work())


def test_lists_hold_what_is_the_tenants_own_and_the_operator_sees_all(shared: Worker) -> None:
    everybody = ["acme.m", "acme.secret", "m", "quiet"]
    seen = {"acme": ["m", "secret"], "default": ["m", "quiet"], "beta": [], None: everybody}

    async def work() -> None:
        async with both_doors(shared) as (client, calls):
            for tenant, names in seen.items():
                headers = {TENANT_HEADER: tenant} if tenant else {}
                index = (await client.post("/v2/repository/index", headers=headers)).json()
                told = (await client.get("/v2/models/stats", headers=headers)).json()["model_stats"]
                assert sorted({one["name"] for one in index}) == sorted({one["name"] for one in told}) == names
            for path in ("/burnish/catalog", "/burnish/catalog/m", "/burnish/resident", "/burnish/usage", "/metrics"):
                assert (await client.get(path)).status_code == 200
                refused = await client.get(path, headers=DEFAULT)
                assert (refused.status_code, refused.json()) == (404, {"error": f"there is nothing at {path}"})
            for tenant, names in seen.items():
                metadata = ((TENANT_HEADER, tenant),) if tenant else ()
                models = (await calls("RepositoryIndex", metadata)).models
                told = (await calls("ModelStatistics", metadata)).model_stats
                assert sorted({one.name for one in models}) == sorted({one.name for one in told}) == names

    run(work())


@pytest.mark.parametrize("hidden", ["secret", "acme.secret", "acme.m"])
def test_another_tenants_model_is_to_the_byte_what_is_not_there_over_rest(
    shared: Worker, tmp_path: Path, hidden: str
) -> None:
    async def work() -> None:
        async with rest_client.open_door(shared) as client:
            for tenant in (BETA, DEFAULT):
                for method, path, content in over_rest(hidden):
                    theirs = await client.request(method, path, json=content, headers=tenant)
                    missing = await client.request(
                        method, path.replace(hidden, "x" * len(hidden)), json=content, headers=tenant
                    )
                    assert theirs.status_code == 404
                    assert bare(theirs) == (
                        *bare(missing)[:2],
                        missing.content.replace(b"x" * len(hidden), hidden.encode()),
                    )
            assert not shared.residency.resident_versions, "nothing was loaded for them"

    run(work())


@pytest.mark.parametrize("hidden", ["secret", "acme.secret", "acme.m"])
def test_another_tenants_model_is_what_is_not_there_over_grpc(shared: Worker, hidden: str) -> None:
    async def failed(
        calls: test_grpc.Client, name: str, tenant: dict[str, str], fields: dict[str, Any]
    ) -> tuple[Any, ...]:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await calls(name, tuple(tenant.items()), **fields)
        trailing = [pair for pair in error.value.trailing_metadata() or () if pair[0] != "x-request-id"]
        return error.value.code(), error.value.details(), tuple(error.value.initial_metadata() or ()), trailing

    async def work() -> None:
        async with test_grpc.open_door(shared) as calls:
            other = "x" * len(hidden)
            for tenant in (BETA, DEFAULT):
                for (name, theirs), (_, missing) in zip(over_grpc(hidden), over_grpc(other), strict=True):
                    code, details, *rest = await failed(calls, name, tenant, missing)
                    assert code is grpc.StatusCode.NOT_FOUND
                    expected = (code, details.replace(other, hidden), *rest)
                    assert await failed(calls, name, tenant, theirs) == expected

    run(work())


def test_a_model_whose_entry_was_refused_is_known_to_its_tenant_only(shared: Worker) -> None:
    async def work() -> None:
        async with rest_client.open_door(shared) as client:
            lost = served(9)
            shared.live.offer("acme.new", entry(1, {9: 100}, [lost], "acme.new"))
            await shared.live.settled()
            assert "acme.new" in shared.live.refusals
            statuses = [
                (await client.post(f"/v2/models/{name}/infer", json=body(), headers=headers)).status_code
                for headers, name in ((ACME, "new"), ({}, "acme.new"), (BETA, "new"), (DEFAULT, "acme.new"))
            ]
            assert statuses == [503, 503, 404, 404]
            shared.live.offer("acme.m", None)
            await shared.live.settled()
            gone = await client.post("/v2/models/m/infer", json=body(), headers=ACME)
            assert gone.status_code == 404
            assert (await client.post("/v2/models/m/infer", json=body(), headers=DEFAULT)).status_code == 200

    run(work())


def test_a_bill_names_requests_failures_compute_and_bytes_of_each_model(shared: Worker, world: FakeWorld) -> None:
    async def work() -> None:
        async with both_doors(shared) as (client, calls):
            sent = [await client.post("/v2/models/m/infer", json=body(), headers=ACME) for _ in range(3)]
            await client.post("/v2/models/m/infer", json=body())
            first = (await client.get("/burnish/usage")).json()
            assert (first["boot"], sorted(first["models"])) == (shared.boot, ["acme.m", "m"])
            acme = first["models"]["acme.m"]
            assert (acme["requests"], acme["failed"]) == (3, 0)
            assert (
                acme["compute_ns"]
                == sum(run.ns for run in shared.live.route("acme.m", 3, "").statistics.batches.values())
                > 0
            )
            assert acme["received_bytes"] == sum(len(reply.request.content) for reply in sent)
            assert acme["sent_bytes"] == sum(len(reply.content) for reply in sent)
            world.sessions[OWN.artifact.sha256].broken = True
            assert (await client.post("/v2/models/m/infer", json=body(), headers=ACME)).status_code == 500
            shared.live.offer("acme.m", None)
            await shared.live.settled()
            gone = (await client.get("/burnish/usage")).json()["models"]["acme.m"]
            assert (gone["requests"], gone["failed"]) == (4, 1), "what it owes stays when the model is gone"
            before = dict(shared.usage())["m"]
            response = await calls("ModelInfer", tuple(DEFAULT.items()), **asked())
            after = dict(shared.usage())["m"]
            assert after["requests"] == before["requests"] + 1
            assert after["sent_bytes"] - before["sent_bytes"] == response.ByteSize()
            assert after["received_bytes"] - before["received_bytes"] > len(test_grpc.X.tobytes())

    run(work())


def test_metrics_tell_the_tenant_beside_the_model(shared: Worker) -> None:
    async def work() -> None:
        async with rest_client.open_door(shared) as client:
            await client.post("/v2/models/m/infer", json=body(), headers=ACME)
            await client.post("/v2/models/m/infer", json=body())
            text = (await client.get("/metrics")).text
        for labels in ('model="m",version="3",tenant="acme"', 'model="m",version="1",tenant="default"'):
            assert f'nv_inference_request_success{{{labels},worker="0"}} 1\n' in text

    run(work())


def test_what_waits_for_its_turn_is_answered_as_what_does_not(shared: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_turns, "AT_ONCE_NS", 0)
    waited = []
    in_turn = shared.turns.in_turn

    async def watched(tenant: str | None, *of: Any) -> Any:  # noqa: ANN401 - passed on
        waited.append(tenant)
        return await in_turn(tenant, *of)

    monkeypatch.setattr(shared.turns, "in_turn", watched)

    async def work() -> None:
        async with both_doors(shared) as (client, calls):
            asked_for = ((ACME, "m"), (DEFAULT, "m"), (ACME, "x"), (BETA, "m"), (ACME, "m/versions/9"))
            ask = (client.post(f"/v2/models/{name}/infer", json=body(), headers=of) for of, name in asked_for)
            replies = await asyncio.gather(*ask)
            assert [reply.status_code for reply in replies] == [200, 200, 404, 404, 404]
            assert [reply.json()["outputs"][0]["data"] for reply in replies[:2]] == [[3, 6], [1, 2]]
            assert waited == [of[TENANT_HEADER] for of, _ in asked_for]
            response = await calls("ModelInfer", tuple(ACME.items()), **asked())
            assert test_grpc.answered(response) == [3, 6]
            assert waited[-1] == "acme" and len(waited) == 6

    run(work())
    assert shared.engine._backlog.bytes == 0
