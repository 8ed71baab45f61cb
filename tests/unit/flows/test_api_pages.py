import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from flows import api_pages
from flows.api_app import build_app
from registry.errors import InputError
from registry.records.change import Promote, SetPolicy
from registry.records.observation import DriftReport
from registry.records.release import OptimizationState, ServingPolicy
from tests.drafts import change, optimization, served
from tests.unit.flows.api_stack import FakeStack, fake_stack

MODELS = ["a_b", "a-b", "ab", "digits", "iris-large", "iris-small", "zoo"]
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> FakeStack:
    made = fake_stack(tmp_path_factory.mktemp("pages"))
    ledger = made.platform.ledger
    for name in (*MODELS, "acme.iris-hidden"):
        ledger.admit(name, served(1))
    for number in range(2, 6):
        ledger.admit("digits", served(number))
    ledger.change_route(change(Promote(version=1)))
    for number in range(6):
        policy = ServingPolicy(max_waiting=number + 1)
        ledger.change_route(change(SetPolicy(policy=policy)))
        moment = START + timedelta(hours=number // 2)
        made_at = {"created_at": moment, "updated_at": moment}
        status = optimization(f"{number}", "digits", OptimizationState.QUEUED).model_copy(update=made_at)
        ledger.save_optimization(status)
        ledger.add_drift_report(_report(START + timedelta(minutes=number)))
    return made


@pytest.fixture(scope="module")
def api(stack: FakeStack) -> Iterator[TestClient]:
    yield TestClient(build_app(stack.platform))


def pages(api: TestClient, path: str, items: str, **asked: str) -> Iterator[list[Any]]:
    cursor: dict[str, str] = {}
    while True:
        answer = api.get(path, params={"limit": "2", **asked, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        yield page[items]
        if page["next"] is None:
            return
        cursor = {"cursor": page["next"]}


def names(found: Iterator[list[Any]]) -> list[list[str]]:
    return [[model["name"] for model in page] for page in found]


def test_models_come_in_pages_by_name_and_only_the_tenants_own(api: TestClient) -> None:
    found = names(pages(api, "/v1/models", "models"))
    assert [len(page) for page in found] == [2, 2, 2, 1]
    assert sorted(name for page in found for name in page) == sorted(MODELS)
    (first,) = api.get("/v1/models", params={"prefix": "dig"}).json()["models"]
    assert (first["route"]["champion"], first["versions"]) == (1, [1, 2, 3, 4, 5])


def test_models_are_searched_by_beginning_and_by_any_part(api: TestClient) -> None:
    assert names(pages(api, "/v1/models", "models", prefix="iris")) == [["iris-large", "iris-small"]]
    assert names(pages(api, "/v1/models", "models", contains="small")) == [["iris-small"]]
    assert names(pages(api, "/v1/models", "models", contains="_")) == [["a_b"]], "no wildcard"
    assert names(pages(api, "/v1/models", "models", prefix="zoo", contains="x")) == [[]]
    assert api.get("/v1/models", params={"prefix": "acme.iris"}).status_code == 422


@pytest.mark.parametrize(
    ("path", "items", "key", "expected"),
    [
        ("/v1/optimizations", "optimizations", "id", ["5", "4", "3", "2", "1", "0"]),
        ("/v1/models/digits/history", "events", "generation", [1, 2, 3, 4, 5, 6, 7]),
        ("/v1/models/digits/versions", "versions", "version", [1, 2, 3, 4, 5]),
        (
            "/v1/models/digits/drift",
            "reports",
            "created_at",
            [f"2026-01-01T00:0{minute}:00Z" for minute in (5, 4, 3, 2, 1, 0)],
        ),
    ],
)
def test_every_list_comes_whole_and_in_order_over_its_pages(
    api: TestClient, path: str, items: str, key: str, expected: list[object]
) -> None:
    found = list(pages(api, path, items))
    assert [item[key] for page in found for item in page] == expected
    assert all(len(page) == 2 for page in found[:-1])


def test_what_comes_in_between_is_neither_repeated_nor_skipped_over(api: TestClient, stack: FakeStack) -> None:
    first = api.get("/v1/models", params={"limit": "4", "prefix": "iris"}).json()
    assert first["next"] is None
    first = api.get("/v1/models", params={"limit": "1", "prefix": "iris"}).json()
    stack.platform.ledger.admit("iris-a", served(1))
    rest = api.get("/v1/models", params={"limit": "9", "prefix": "iris", "cursor": first["next"]}).json()
    assert [model["name"] for model in rest["models"]] == ["iris-small"]


@pytest.mark.parametrize("limit", ["0", "-1", "501", "many"])
def test_a_limit_out_of_bounds_is_refused(api: TestClient, limit: str) -> None:
    assert api.get("/v1/models", params={"limit": limit}).status_code == 422


def test_a_cursor_of_another_list_or_filter_is_refused(api: TestClient) -> None:
    cursor = api.get("/v1/models", params={"limit": "1"}).json()["next"]
    for path, more in (("/v1/models", {"prefix": "iris"}), ("/v1/optimizations", {}), ("/v1/models/digits/drift", {})):
        answer = api.get(path, params={"cursor": cursor, **more})
        assert (answer.status_code, "cursor" in answer.json()["detail"]) == (422, True)


@given(st.text(max_size=50) | st.binary(max_size=50).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_no_other_text_is_a_cursor(text: str) -> None:
    with pytest.raises(InputError, match="cursor"):
        api_pages.after(text, (api_pages.number,), "list")


@given(st.lists(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9), max_size=3))
def test_a_made_up_place_reads_as_a_place_or_not_at_all(place: list[object]) -> None:
    _, cursor = api_pages.page([1, 2], 1, lambda _: tuple(place), "list")
    assert cursor is not None
    for kind in (api_pages.number, api_pages.word, api_pages.moment):
        try:
            (read,) = api_pages.after(cursor, (kind,), "list") or ()
        except InputError:
            continue
        assert isinstance(read, int | str | datetime)
        assert len(place) == 1


def _report(at: datetime) -> DriftReport:
    return DriftReport(
        model="digits",
        version=1,
        created_at=at,
        requests=1,
        samples=1,
        columns=(),
        share_drifted=0,
        drifted=False,
        report="f" * 64,
    )
