import json
import stat
from pathlib import Path

import pytest

from registry.errors import InputError
from serving.gateway import files
from serving.gateway.config import BOOTSTRAP_FILE
from serving.gateway.plan import Endpoint, GatewayPlan, Tls
from serving.gateway.state import read_state

WORKERS = (Endpoint(host="127.0.0.1", port=8100), Endpoint(host="127.0.0.1", port=8110))


@pytest.fixture
def plan(tmp_path: Path) -> GatewayPlan:
    # Nobody can listen on port 1 of a test's machine, so no running gateway is found there.
    return GatewayPlan(port=8000, admin_port=1, workers=WORKERS, access_log=tmp_path / "logs" / "access.json")


@pytest.fixture
def folder(tmp_path: Path, plan: GatewayPlan) -> Path:
    files.render(plan, tmp_path / "gateway")
    return tmp_path / "gateway"


def ports(folder: Path, cluster: str = "engine-rest") -> list[int]:
    resource = json.loads((folder / f"eds-{cluster}.json").read_text())["resources"][0]
    found = resource["endpoints"][0]["lb_endpoints"]
    return [item["endpoint"]["address"]["socket_address"]["port_value"] for item in found]


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_ino) for path in folder.iterdir()}


def test_a_rendered_gateway_has_its_workers_by_both_protocols(folder: Path) -> None:
    assert (ports(folder), ports(folder, "engine-grpc")) == ([8100, 8110], [8101, 8111])


def test_all_files_are_for_their_owner_alone_and_no_draft_is_left(folder: Path) -> None:
    kept = [path for path in folder.iterdir() if path.suffix == ".json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    assert not list(folder.glob("*.new"))


def test_set_workers_takes_one_out_and_in_again(folder: Path) -> None:
    files.set_workers(folder, WORKERS[1:])
    assert (ports(folder), ports(folder, "engine-grpc")) == ([8110], [8111])
    assert read_state(folder).out == WORKERS[:1]
    files.set_workers(folder, WORKERS)
    assert ports(folder) == [8100, 8110]


def test_what_does_not_change_is_not_written_again(folder: Path, plan: GatewayPlan) -> None:
    before = snapshot(folder)
    files.render(plan, folder)
    files.set_workers(folder, WORKERS)
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("workers", "says"),
    [
        ((Endpoint(host="127.0.0.1", port=9),), "has no workers 127.0.0.1:9; it has 127.0.0.1:8100, 127.0.0.1:8110"),
        ((), "would be left without a worker"),
    ],
)
def test_workers_that_cannot_be_are_refused_and_every_file_stays(
    folder: Path, workers: tuple[Endpoint, ...], says: str
) -> None:
    before = snapshot(folder)
    with pytest.raises(InputError, match=says):
        files.set_workers(folder, workers)
    assert snapshot(folder) == before


def test_what_envoy_refuses_changes_no_file(folder: Path, plan: GatewayPlan, tmp_path: Path) -> None:
    before = snapshot(folder)
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(InputError, match=r"Envoy refuses.*certificate"):
        files.render(plan.model_copy(update={"tls": Tls(certificate=broken, key=broken)}), folder)
    assert snapshot(folder) == before


def test_workers_of_a_gateway_that_was_never_configured_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no gateway is configured"):
        files.set_workers(tmp_path, WORKERS)


def test_the_command_runs_the_bootstrap_of_the_folder(folder: Path) -> None:
    command = files.command(folder)
    assert Path(command[0]).name == "envoy"
    assert str(folder / BOOTSTRAP_FILE) in command
