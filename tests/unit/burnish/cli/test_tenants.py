"""`burnish tenant | key | audit | usage | metrics | logs` against a control API in this process that requires keys."""

import json
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from burnish.cli.main import run
from flows.api_app import build_app
from flows.settings import keep_settings
from tests.unit.flows.api_stack import FakeStack, fake_stack

Told = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeStack]:
    """A stack of three tenants' names, served on a free port."""
    home = tmp_path_factory.mktemp("stack")
    made = fake_stack(home, require_keys=True)
    server = uvicorn.Server(uvicorn.Config(build_app(made.platform), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    keep_settings(made.platform.settings.model_copy(update={"control_port": port}))
    yield made
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def operator(stack: FakeStack, monkeypatch: pytest.MonkeyPatch, capsys: Told) -> Iterator[str]:
    """The first key, made on the ledger itself, in the environment."""
    monkeypatch.setenv("BURNISH_HOME", str(stack.platform.settings.home))
    for name in ("BURNISH_CONTROL_URL", "BURNISH_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert run(["key", "add", "--scope", "admin", "--label", "first"]) == 0
    out, err = capsys.readouterr()
    assert "on the ledger itself" in err
    monkeypatch.setenv("BURNISH_API_KEY", out.strip())
    yield out.strip()


def called(capsys: Told, *arguments: str) -> str:
    assert run(list(arguments)) == 0
    return capsys.readouterr().out


def test_a_tenants_life_on_the_command_line(operator: str, stack: FakeStack, capsys: Told) -> None:
    called(capsys, "tenant", "add", "acme", "models=2", "requests_per_s=5.5")
    called(capsys, "tenant", "quota", "acme", "models=none", "versions=7")
    shown = json.loads(called(capsys, "tenant", "show", "acme", "--json"))
    quotas = {name: bound for name, bound in shown["tenant"]["quotas"].items() if bound is not None}
    assert (quotas, shown["versions"]) == ({"versions": 7, "requests_per_s": 5.5}, 0)
    assert "versions=7" in called(capsys, "tenant", "list")
    made = json.loads(called(capsys, "key", "add", "--tenant", "acme", "--scope", "deploy", "--json"))
    rotated = json.loads(called(capsys, "key", "rotate", made["id"], "--tenant", "acme", "--json"))
    called(capsys, "key", "revoke", rotated["id"], "--tenant", "acme")
    listed = json.loads(called(capsys, "key", "list", "--tenant", "acme", "--json"))
    assert [(one["id"], one["holds"]) for one in listed] == [(made["id"], True), (rotated["id"], False)]
    assert json.loads(called(capsys, "usage", "--json"))["usage"] == []
    assert called(capsys, "metrics").startswith("# HELP burnish_worker_up ")
    (up, *_) = json.loads(called(capsys, "metrics", "--json"))
    assert up == {"name": "burnish_worker_up", "labels": {"worker": "0"}, "value": 1.0}
    log = stack.platform.settings.access_log
    log.parent.mkdir(exist_ok=True)
    log.write_text('{"tenant":"default","path":"/v2/models/m/infer","status":200}\n' * 3)
    assert [one["status"] for one in json.loads(called(capsys, "logs", "--limit", "2", "--json"))] == [200, 200]
    assert "/v2/models/m/infer" in called(capsys, "logs")
    called(capsys, "tenant", "remove", "acme")
    assert run(["tenant", "show", "acme"]) == 3
    assert run(["tenant", "add", "new", "cakes=3"]) == 2
    assert "cakes" in capsys.readouterr().err


def test_the_audit_is_listed_and_verified_against_a_head(operator: str, stack: FakeStack, capsys: Told) -> None:
    entries = json.loads(called(capsys, "audit", "list", "--json"))
    assert entries[0]["action"] == "add_key"
    assert entries[0]["actor"].endswith("(CLI)")
    head = called(capsys, "audit", "verify").splitlines()[-1]
    assert run(["audit", "verify", "--checkpoint", head]) == 0
    sequence, digest = head.split(":")
    assert run(["audit", "verify", "--checkpoint", f"{int(sequence) + 1}:{digest}"]) == 1
    assert f"entry {int(sequence) + 1} is missing" in capsys.readouterr().out


def test_a_wrong_key_is_not_helped_by_the_ledger(operator: str, monkeypatch: pytest.MonkeyPatch, capsys: Told) -> None:
    monkeypatch.setenv("BURNISH_API_KEY", operator[:-1] + ("A" if operator[-1] != "A" else "B"))
    assert run(["key", "add", "--scope", "admin"]) == 3
    assert "401" in capsys.readouterr().err
