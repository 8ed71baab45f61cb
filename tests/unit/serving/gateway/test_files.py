import json
import stat
from pathlib import Path

import pytest

from registry.errors import InputError
from serving.gateway import config, files
from serving.gateway.plan import Endpoint, GatewayPlan

WORKERS = (Endpoint(host="127.0.0.1", port=8100), Endpoint(host="127.0.0.1", port=8110))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plan = GatewayPlan(port=8000, admin_port=8002, workers=WORKERS, access_log=tmp_path / "logs" / "access.json")
    files.render(plan, tmp_path / "gateway")
    return tmp_path / "gateway"


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def ports(folder: Path) -> list[int]:
    resource = json.loads((folder / config.ENDPOINTS_FILE).read_text())["resources"][0]
    found = resource["endpoints"][0]["lb_endpoints"]
    return [item["endpoint"]["address"]["socket_address"]["port_value"] for item in found]


def test_a_rendered_gateway_is_valid(folder: Path) -> None:
    files.validate(folder)
    assert ports(folder) == [8100, 8110]


def test_a_field_that_envoy_does_not_know_is_refused_with_its_name(folder: Path) -> None:
    change(folder / config.LISTENERS_FILE, "max_request_bytes", "max_request_bites")
    with pytest.raises(InputError, match="max_request_bites"):
        files.validate(folder)


def test_a_value_that_envoy_does_not_take_is_refused(folder: Path) -> None:
    change(folder / config.CLUSTERS_FILE, '"unhealthy_threshold": 2', '"unhealthy_threshold": "two"')
    with pytest.raises(InputError, match="Envoy refuses"):
        files.validate(folder)


def test_a_route_to_a_cluster_that_does_not_exist_is_refused(folder: Path) -> None:
    change(folder / config.LISTENERS_FILE, '"cluster": "engine"', '"cluster": "gone"')
    with pytest.raises(InputError, match="a route to gone"):
        files.validate(folder)


def test_a_cluster_without_endpoints_is_refused(folder: Path) -> None:
    change(folder / config.ENDPOINTS_FILE, '"cluster_name": "engine"', '"cluster_name": "other"')
    with pytest.raises(InputError, match="cluster engine has no endpoints"):
        files.validate(folder)


def test_files_that_are_missing_or_cut_short_are_refused_by_name(folder: Path) -> None:
    (folder / config.CLUSTERS_FILE).write_text('{"resources": [')
    with pytest.raises(InputError, match=config.CLUSTERS_FILE):
        files.validate(folder)
    (folder / config.BOOTSTRAP_FILE).unlink()
    with pytest.raises(InputError, match=config.BOOTSTRAP_FILE):
        files.validate(folder)


def test_workers_are_swapped_by_a_rename_and_nothing_else_changes(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    inode = (folder / config.ENDPOINTS_FILE).stat().st_ino
    files.set_workers(folder, WORKERS[:1])
    assert ports(folder) == [8100]
    assert (folder / config.ENDPOINTS_FILE).stat().st_ino != inode
    assert {p.name for p in folder.iterdir() if p.read_bytes() != before[p.name]} == {config.ENDPOINTS_FILE}


def test_the_last_worker_can_be_taken_out(folder: Path) -> None:
    files.set_workers(folder, ())
    files.validate(folder)
    assert ports(folder) == []


def test_a_worker_named_twice_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"127\.0\.0\.1:8100, 127\.0\.0\.1:8100"):
        files.set_workers(folder, (WORKERS[0], WORKERS[0]))


def test_the_command_names_a_binary_that_can_be_run(folder: Path) -> None:
    binary, *arguments = files.command(folder)
    assert Path(binary).stat().st_mode & stat.S_IXUSR
    assert arguments[arguments.index("-c") + 1] == str(folder / config.BOOTSTRAP_FILE)
    assert "--disable-hot-restart" in arguments
