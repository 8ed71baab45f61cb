"""Requests made up from the control API's own OpenAPI, good and bad: nothing fails, and every error is a problem.

While every part of the stack answers there is no 5xx; while Prefect and MLflow are down, only 503 with ``Retry-After``.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from flows import api_problems
from flows.api_app import build_app
from registry.records.change import Promote
from registry.records.release import OptimizationState
from tests.drafts import change, optimization
from tests.unit.flows.api_stack import FakeStack, fake_stack

Operation = APIOperation[Any, Any, Any, Any]
Case = schemathesis.Case[Any]
BASE = "http://testserver"
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
KNOWN = {"model": "digits", "number": 1, "optimization_id": "1"}
EXAMPLES, MANY = 2, 100
FEW = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> FakeStack:
    """A stack with a live model and an optimization that has ended, so that requests have something to hit."""
    made = fake_stack(tmp_path_factory.mktemp("schema"))
    for _ in range(3):
        made.register()
    made.platform.ledger.change_route(change(Promote(version=1)))
    made.platform.ledger.change_route(change(Promote(version=2)))
    made.platform.ledger.save_optimization(optimization("1", "digits", OptimizationState.REFUSED))
    return made


@pytest.fixture(scope="module")
def api(stack: FakeStack) -> Iterator[TestClient]:
    with TestClient(build_app(stack.platform), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def operations(api: TestClient) -> list[Operation]:
    schema = schemathesis.openapi.from_dict(api.get("/openapi.json").json())
    found = [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]
    assert len(found) > 20
    return found


def cases(operation: Operation, mode: GenerationMode) -> st.SearchStrategy[Case]:
    """Requests of one operation; half of them name what there is."""
    named = {one.name for one in operation.path_parameters}
    known = {name: value for name, value in KNOWN.items() if name in named}
    made_up = operation.as_strategy(generation_mode=mode)
    return made_up | operation.as_strategy(generation_mode=GenerationMode.POSITIVE, path_parameters=known)


def send(api: TestClient, case: Case) -> Any:  # noqa: ANN401  the response of whichever httpx the test client has
    sent = case.as_transport_kwargs(base_url=BASE)
    data = sent.pop("data", None)
    sent.pop("cookies", None)
    # Over the wire go bytes; the client itself takes no text beyond ASCII.
    headers = {name: value.encode("latin-1", "replace") for name, value in (sent.pop("headers", None) or {}).items()}
    return api.request(content=data.encode() if isinstance(data, str) else data, headers=headers, **sent)


def fuzz(
    api: TestClient,
    operations: list[Operation],
    judge: Callable[[Case, Any], None],
    examples: int = EXAMPLES,
    modes: Iterable[GenerationMode] = GenerationMode,
) -> int:
    """Send requests of every operation and return how many were sent."""
    count = 0
    for operation, mode in itertools.product(operations, modes):

        @settings(FEW, max_examples=examples)
        @given(cases(operation, mode))
        def ask(case: Case) -> None:
            nonlocal count
            count += 1
            answer = send(api, case)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == api_problems.MEDIA_TYPE
                assert case.method == "HEAD" or answer.json()["status"] == answer.status_code
            judge(case, answer)

        ask()
    return count


def as_described(case: Case, answer: Any) -> None:  # noqa: ANN401
    assert answer.status_code < 500, f"{case.as_curl_command()}: {answer.text}"
    case.validate_response(answer, checks=CHECKS)


def test_made_up_requests_never_fail(api: TestClient, operations: list[Operation]) -> None:
    assert fuzz(api, operations, as_described) >= 2 * len(operations)


@pytest.mark.slow
def test_many_made_up_requests_never_fail(api: TestClient, operations: list[Operation]) -> None:
    assert fuzz(api, operations, as_described, MANY) > MANY * len(operations)


def test_without_prefect_and_mlflow_what_needs_them_is_503_and_says_when_to_come_back(
    api: TestClient, operations: list[Operation], stack: FakeStack
) -> None:
    unavailable: set[str] = set()

    def judge(case: Case, answer: Any) -> None:  # noqa: ANN401
        if answer.status_code >= 500:
            assert answer.status_code == 503, f"{case.as_curl_command()}: {answer.text}"
            assert int(answer.headers["retry-after"]) > 0
            unavailable.add(case.operation.label)

    stack.prefect.down = stack.store.down = True
    try:
        fuzz(api, operations, judge, modes=[GenerationMode.POSITIVE])
    finally:
        stack.prefect.down = stack.store.down = False
    assert "POST /v1/models/{model}/promote" in unavailable
