"""The flows that go through all models: one that fails keeps no other from its turn."""

import asyncio
import importlib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from registry.errors import BurnishError, RegistryError

NAMES = ("acme.m", "globex.m", "m")


@pytest.fixture(params=["monitor", "retrain"])
def flow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module of a flow, over a ledger of three models of which the second fails."""
    module = importlib.import_module(f"flows.{request.param}")
    ledger = SimpleNamespace(
        routes=lambda: [SimpleNamespace(model=name) for name in NAMES],
        models=lambda: NAMES,
        feedback=lambda _: (SimpleNamespace(labels=(1.0,)),),
        close=lambda: None,
    )

    async def turn(_: object, *about: object) -> str:
        (name,) = set(NAMES).intersection(one for one in about if isinstance(one, str))
        if name == "globex.m":
            raise RegistryError("its store is broken")
        module.done.append(name)
        return name

    monkeypatch.setenv("BURNISH_HOME", str(tmp_path))
    monkeypatch.setattr(module.wiring, "ledger", lambda _: ledger)
    monkeypatch.setattr(module, "done", [], raising=False)
    monkeypatch.setattr(module, "_report" if request.param == "monitor" else "_retrain", turn)
    return module


def test_a_model_that_fails_keeps_no_other_from_its_turn_and_is_told(flow: ModuleType) -> None:
    work = getattr(flow, flow.__name__.rpartition(".")[2])
    with pytest.raises(BurnishError, match=r"globex\.m: its store is broken"):
        asyncio.run(work.fn())
    assert flow.done == ["acme.m", "m"]
    with pytest.raises(RegistryError, match=r"^its store is broken"):
        asyncio.run(work.fn("globex.m"))
