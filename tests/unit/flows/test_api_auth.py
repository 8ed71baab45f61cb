from pathlib import Path

from fastapi.testclient import TestClient

from flows.api_app import build_app
from tests.unit.flows.api_stack import fake_stack

NOBODY = "bn_" + "0" * 12 + "_" + "A" * 43


def test_on_a_laptop_everybody_is_the_operator_but_a_wrong_key_is_refused(tmp_path: Path) -> None:
    stack = fake_stack(tmp_path)
    stack.register()
    with TestClient(build_app(stack.platform)) as api:
        assert [model["name"] for model in api.get("/v1/models").json()["models"]] == ["digits"]
        assert api.get("/v1/tenants").json()["tenants"][0]["name"] == "default"
        api.post("/v1/models/digits/promote", json={"version": 1})
        assert stack.platform.ledger.audit.entries(tenant=None, limit=1)[0].actor == "operator"
        assert api.get("/v1/models", headers={"x-api-key": NOBODY}).status_code == 401
