"""Changes of routes, clusters and endpoints while requests run, and which worker a model goes to."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from registry.errors import InputError
from serving.doors.protocol import open_inference_pb2 as pb
from serving.gateway import files
from serving.gateway.admin import refused_updates
from serving.gateway.plan import GatewayPlan, Pool
from tests.integration.gateway_rig import GatewayRig, plan_of, running
from tests.integration.processes import wait_for

METHOD = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayRig]:
    home = tmp_path_factory.mktemp("changes")
    with running(plan_of(home, 3), home) as rig:
        yield rig


@pytest.fixture
def rig(gateway: GatewayRig) -> GatewayRig:
    """The gateway with its first plan."""
    files.render(gateway.plan, gateway.folder)
    gateway.await_healthy(3)
    return gateway


def with_pool(plan: GatewayPlan, *models: str) -> GatewayPlan:
    """The plan whose last worker serves some models alone."""
    *main, last = plan.workers
    pool = Pool(name="hot", models=models, workers=(last,))
    return plan.model_copy(update={"workers": tuple(main), "pools": (pool,)})


def rest_worker(client: httpx.Client, model: str) -> str:
    answer = client.post(f"/v2/models/{model}/infer", content=b"x")
    assert answer.status_code == 200
    return answer.headers["x-worker"]


def rpc_worker(channel: grpc.Channel, model: str) -> str:
    method = channel.unary_unary(METHOD, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    answer = method(pb.ModelInferRequest(model_name=model, id="1", raw_input_contents=[b"x" * 5000]), timeout=20)
    return str(answer.model_version)


def test_a_model_goes_to_one_worker_by_either_protocol_and_many_to_all(rig: GatewayRig) -> None:
    models = [f"m{number}" for number in range(60)]
    with httpx.Client(base_url=rig.url, trust_env=False) as client, grpc.insecure_channel(rig.grpc) as channel:
        first = {model: rest_worker(client, model) for model in models}
        assert {model: rest_worker(client, model) for model in models} == first
        assert all(count >= 5 for count in Counter(first.values()).values())
        assert len(set(first.values())) == 3
        assert {model: rpc_worker(channel, model) for model in models} == first
        assert {model: rpc_worker(channel, model) for model in models} == first
        out, *kept = rig.plan.workers
        files.set_workers(rig.folder, kept)
        wait_for(lambda: rig.healthy() == (2, 2), "the worker to be out")
        after = {model: rest_worker(client, model) for model in models}
    moved = {model for model in models if after[model] != first[model]}
    orphaned = {model for model in models if first[model] == str(out.port)}
    assert orphaned <= moved
    assert len(moved - orphaned) <= 2, (
        "others stay where they are loaded"
    )  # a table of another size is not quite the same


def test_a_model_that_is_hot_alone_keeps_every_worker_busy(rig: GatewayRig) -> None:
    async def hot() -> Counter[str]:
        before, asked = rig.seen(), []
        async with httpx.AsyncClient(base_url=rig.url, trust_env=False, timeout=20) as client:
            with rig.held():
                for _ in range(6):
                    posted = [client.post("/v2/models/held/infer", content=b"x") for _ in range(15)]
                    asked += [asyncio.create_task(each) for each in posted]
                    wanted = before + len(asked)  # a request counts for its worker once there is a connection
                    await asyncio.to_thread(wait_for, lambda: rig.seen() == wanted, "all of them to arrive")  # noqa: B023
            answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}
        return Counter(answer.headers["x-worker"] for answer in answers)

    load = asyncio.run(hot())
    assert len(load) == 3
    assert max(load.values()) <= 0.6 * 90


def test_what_names_no_model_goes_to_any_worker(rig: GatewayRig) -> None:
    with httpx.Client(base_url=rig.url, trust_env=False) as client:
        assert len({client.get("/v2").headers["x-worker"] for _ in range(40)}) == 3


def test_a_stream_of_requests_is_passed_on_as_it_comes(rig: GatewayRig) -> None:
    def one_by_one(sent: list[str], answered: list[str]) -> Iterator[pb.ModelInferRequest]:
        for number in range(3):
            wait_for(lambda number=number: len(answered) == number, "the answer before")  # type: ignore[misc]
            sent.append(f"m{number}")
            yield pb.ModelInferRequest(model_name=f"m{number}")

    with grpc.insecure_channel(rig.grpc) as channel:
        method = channel.stream_stream(
            STREAM, pb.ModelInferRequest.SerializeToString, pb.ModelStreamInferResponse.FromString
        )
        sent: list[str] = []
        answered: list[str] = []
        for answer in method(one_by_one(sent, answered), timeout=30):
            answered.append(answer.infer_response.model_name)
    assert answered == sent == ["m0", "m1", "m2"]


def test_a_pool_serves_its_models_alone_by_either_protocol(rig: GatewayRig) -> None:
    files.render(with_pool(rig.plan, "hot", "acme.hot"), rig.folder)
    rig.await_healthy(1, "hot")
    last = str(rig.plan.workers[-1].port)
    with httpx.Client(base_url=rig.url, trust_env=False) as client, grpc.insecure_channel(rig.grpc) as channel:
        assert {rest_worker(client, "hot") for _ in range(5)} == {last}
        assert {rpc_worker(channel, "hot") for _ in range(5)} == {last}
        others = [f"m{number}" for number in range(20)]
        assert last not in {rest_worker(client, model) for model in others}
        assert last not in {rpc_worker(channel, model) for model in others}


@pytest.mark.parametrize("changes", [12, pytest.param(304, marks=pytest.mark.slow)])
def test_changes_of_routes_clusters_and_endpoints_under_load_lose_nothing(rig: GatewayRig, changes: int) -> None:
    plans = (rig.plan, with_pool(rig.plan, "m0", "m1"), with_pool(rig.plan, "m1", "m2"))
    seen: dict[str, Counter[int]] = defaultdict(Counter)

    async def client(session: httpx.AsyncClient, done: asyncio.Event) -> None:
        number = 0
        while not done.is_set():
            number += 1
            answer = await session.post(f"/v2/models/m{number % 5}/infer", content=b"x" * 2000)
            seen[f"m{number % 5}"][answer.status_code] += 1

    async def change() -> None:
        async with httpx.AsyncClient(base_url=rig.url, trust_env=False, timeout=20) as session:
            done = asyncio.Event()
            clients = [asyncio.create_task(client(session, done)) for _ in range(8)]
            for number in range(changes // 2):
                plan = plans[number % 3]
                await asyncio.to_thread(files.render, plan, rig.folder)
                kept = [worker for worker in rig.plan.workers if worker != plan.workers[number % 2]]
                await asyncio.to_thread(files.set_workers, rig.folder, kept)
            done.set()
            await asyncio.gather(*clients)

    asyncio.run(change())
    assert {status for counts in seen.values() for status in counts} == {200}
    assert len(seen) == 5
    assert refused_updates(rig.plan.admin_port) == ()


def test_a_broken_file_leaves_the_last_good_one_in_force_and_is_told(rig: GatewayRig) -> None:
    path = rig.folder / "rds.json"
    good = path.read_bytes()
    draft = path.with_suffix(".broken")
    draft.write_text("{ broken")
    draft.replace(path)
    wait_for(lambda: refused_updates(rig.plan.admin_port) != (), "Envoy to refuse it")
    (told,) = refused_updates(rig.plan.admin_port)
    assert "http.gateway.rds.gateway.update_failure" in told
    assert httpx.get(f"{rig.url}/v2", trust_env=False).status_code == 200
    files.render(rig.plan, rig.folder)
    assert json.loads(path.read_bytes()) == json.loads(good), "the next change puts it right"


def test_a_gateway_that_was_killed_is_back_with_the_last_good_files(rig: GatewayRig, tmp_path: Path) -> None:
    files.render(with_pool(rig.plan, "hot"), rig.folder)
    with pytest.raises(InputError):
        files.set_workers(rig.folder, rig.plan.workers[:-1])
    assert rig.gateway is not None
    rig.gateway.kill()
    rig.gateway.wait(10)
    rig.start_gateway()
    rig.await_healthy(1, "hot")
    rig.await_healthy(2)
    with httpx.Client(base_url=rig.url, trust_env=False) as client:
        assert rest_worker(client, "hot") == str(rig.plan.workers[-1].port)
