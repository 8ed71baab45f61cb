"""What the gRPC door reads from a call's metadata and answers in it."""

import grpc
import pytest

from serving.engine.worker import Worker
from tests.unit.serving.doors.test_grpc import asked, open_door
from tests.unit.serving.engine.doubles import run


def test_the_request_id_is_in_the_metadata_of_refusals_and_of_answers_to_those_who_gave_one(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            for given in ((), (("x-request-id", "r-1"),)):
                call = client.call("ModelInfer", given, **asked())
                await call
                assert dict(await call.trailing_metadata()) == dict(given)
            for given in ((), (("x-request-id", "r-2"),), (("x-request-id", "a b"),)):
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await client("ModelInfer", given, **asked(model_version="9"))
                told = dict(failed.value.trailing_metadata())["x-request-id"]
                assert told == dict(given).get("x-request-id", told) != ""
            assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(work())


def test_a_retried_call_asks_what_ended_the_other_worker(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    monkeypatch.setattr(worker.guard, "check_retried", lambda served: checked.append(served.version))

    async def work() -> None:
        async with open_door(worker) as client:
            for attempt in ("1", "2"):
                await client("ModelInfer", metadata=(("x-envoy-attempt-count", attempt),), **asked(model_version="2"))

    run(work())
    assert checked == [2]
