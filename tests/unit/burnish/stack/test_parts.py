import sys
from pathlib import Path

import pytest

from burnish.stack.parts import gateway_plan, stack_plan
from burnish.stack.plan import Part
from flows.settings import StackSettings
from serving.settings import EngineSettings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackSettings:
    monkeypatch.setenv("BURNISH_HOME", str(tmp_path / "elsewhere"))
    return StackSettings(home=tmp_path, workers=3, door_port=9100, prefect_port=9200, artifacts_url="s3://b/p")


def parts(settings: StackSettings) -> dict[str, Part]:
    return {part.name: part for part in stack_plan(settings).parts}


def test_the_stack_has_its_six_parts_and_each_can_be_asked_how_it_is(settings: StackSettings) -> None:
    found = parts(settings)
    assert set(found) == {"prefect", "mlflow", "control", "runner", "engine", "gateway"}
    assert all(part.probes for part in found.values())


def test_every_port_setting_is_claimed_by_a_part_under_its_own_variable(settings: StackSettings) -> None:
    claimed = {(port.variable, port.number) for part in parts(settings).values() for port in part.ports}
    wanted = {
        (f"BURNISH_{name.upper()}", getattr(settings, name))
        for name in StackSettings.model_fields
        if name.endswith("_port")
    }
    assert claimed == wanted | {("BURNISH_DOOR_PORT", port) for port in (9101, 9110, 9111, 9120, 9121)}


def test_only_the_gateway_and_the_control_api_follow_the_host(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_ENGINE_HOST", "0.0.0.0")  # nor may the engine's own variable open its doors
    open_to_others = settings.model_copy(update={"host": "0.0.0.0"})
    found, plan = parts(open_to_others), gateway_plan(open_to_others)
    assert plan.host == "0.0.0.0"
    assert {worker.host for worker in plan.workers} == {"127.0.0.1"}
    beyond = {port.variable for part in found.values() for port in part.ports if port.host != "127.0.0.1"}
    assert beyond == {"BURNISH_GATEWAY_PORT", "BURNISH_CONTROL_PORT"}
    bound = {
        name: part.command[part.command.index("--host") + 1] for name, part in found.items() if "--host" in part.command
    }
    assert bound == {"prefect": "127.0.0.1", "mlflow": "127.0.0.1", "control": "0.0.0.0", "engine": "127.0.0.1"}
    assert found["engine"].environment["BURNISH_ENGINE_HOST"] == "127.0.0.1"
    assert found["control"].environment["PREFECT_API_URL"] == "http://127.0.0.1:9200/api"


def test_python_parts_take_nothing_from_the_folder_they_run_in(settings: StackSettings) -> None:
    for part in parts(settings).values():
        if part.name != "gateway":
            assert part.command[:2] == (sys.executable, "-P")
        assert part.environment["PYTHONSAFEPATH"] == "1"


def test_no_part_calls_home(settings: StackSettings) -> None:
    for part in parts(settings).values():
        assert part.environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
        assert part.environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
        assert part.environment["ORT_DISABLE_TELEMETRY"] == "1"
        assert part.environment["BENTOML_DO_NOT_TRACK"] == "True"
        assert part.environment["GX_ANALYTICS_ENABLED"] == "false"
        assert part.environment["DO_NOT_TRACK"] == "1"


def test_the_engine_gets_the_stacks_settings_in_its_own_words(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in parts(settings)["engine"].environment.items():
        monkeypatch.setenv(name, value)
    engine = EngineSettings()
    assert engine.catalog_folder == settings.catalog_folder
    assert engine.artifacts_url == "s3://b/p"
    assert (engine.workers, engine.door_port) == (3, 9100)


def test_the_engine_may_drain_before_it_is_killed_and_the_gateway_has_the_engines_body_limit(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_ENGINE_DRAIN_SECONDS", "70")
    monkeypatch.setenv("BURNISH_ENGINE_MAX_BODY_BYTES", "1234")
    assert parts(settings)["engine"].stop_seconds > 70
    assert gateway_plan(settings).max_body_bytes == 1234


def test_the_gateway_has_one_endpoint_a_worker_and_each_is_asked_for_readiness(settings: StackSettings) -> None:
    doors = [9100, 9110, 9120]
    workers = gateway_plan(settings).workers
    assert [worker.port for worker in workers] == doors
    folder = settings.home / "engine" / "doors"
    assert [worker.sockets for worker in workers] == [folder / f"9100-{worker}" for worker in range(3)]
    urls = [probe.url for probe in parts(settings)["engine"].probes]
    assert urls == [f"http://127.0.0.1:{port}/v2/health/ready" for port in doors]


def test_where_the_homes_path_is_too_long_for_sockets_the_gateway_comes_by_the_ports(settings: StackSettings) -> None:
    far = settings.model_copy(update={"home": settings.home / ("far" * 30)})
    assert [(worker.port, worker.sockets) for worker in gateway_plan(far).workers] == [
        (port, None) for port in (9100, 9110, 9120)
    ]


def test_databases_beyond_one_laptop_reach_the_servers(settings: StackSettings) -> None:
    there = settings.model_copy(
        update={"prefect_database_url": "postgresql+asyncpg://p", "mlflow_backend_url": "postgresql://m"}
    )
    found, local = parts(there), parts(settings)
    assert found["prefect"].environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == "postgresql+asyncpg://p"
    assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" not in local["prefect"].environment
    assert "postgresql://m" in found["mlflow"].command
    assert f"sqlite:///{settings.home}/mlflow/mlflow.db" in local["mlflow"].command


def test_a_proxy_is_not_asked_for_loopback_and_the_persons_own_exceptions_stay(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "minio.local")
    assert parts(settings)["runner"].environment["NO_PROXY"].split(",") == ["minio.local", "127.0.0.1", "localhost"]
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy", raising=False)
    assert parts(settings)["runner"].environment["no_proxy"].split(",") == ["127.0.0.1", "localhost"]
