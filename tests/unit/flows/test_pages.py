import asyncio

import pytest
from prefect.client.schemas.actions import ArtifactCreate

from flows import pages
from registry.records.tenant import qualified

NAMES = [("default", "m"), ("default", "a_b-"), ("acme", "m"), ("acme-", "a_b_"), ("0" * 31, "m" * 63)]


@pytest.mark.parametrize(("tenant", "model"), NAMES)
def test_every_models_name_makes_keys_that_prefect_takes(
    monkeypatch: pytest.MonkeyPatch, tenant: str, model: str
) -> None:
    made: list[ArtifactCreate] = []

    async def create(key: str, **_: str) -> None:
        made.append(ArtifactCreate(key=key))

    monkeypatch.setattr(pages, "acreate_markdown_artifact", create)
    monkeypatch.setattr(pages, "acreate_link_artifact", create)

    async def show() -> None:
        await pages.show_gate(qualified(tenant, model), ())
        await pages.show_link("drift", qualified(tenant, model), "http://127.0.0.1:8080", "a link")

    asyncio.run(show())
    assert len({one.key for one in made}) == 2


def test_a_page_of_a_tenants_model_is_found_by_the_operator() -> None:
    report = "models/{model}/drift/report"
    assert pages.page_url("http://c", "m", report) == "http://c/v1/models/m/drift/report"
    assert pages.page_url("http://c", "acme.m", report) == "http://c/v1/models/m/drift/report?tenant=acme"
