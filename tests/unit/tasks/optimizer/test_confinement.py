"""What a confined process can no longer do, tried in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.optimizer import confinement
from tasks.optimizer.confinement import confine, landlock_unavailable

SCRIPT = """
import json, os, resource, socket, sys
from pathlib import Path
from tasks.optimizer.confinement import confine

inside, outside = map(Path, sys.argv[1:])
missing = confine(inside, 500)

def listen():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        socket.create_connection(server.getsockname(), 5).close()

TRIES = {
    "write inside": lambda: (inside / "new").write_text("new"),
    "rename inside": lambda: (inside / "new").rename(inside / "newer"),
    "folder inside": lambda: (inside / "folder").mkdir(),
    "move into a folder": lambda: (inside / "newer").rename(inside / "folder" / "newer"),
    "nothing": lambda: Path(os.devnull).write_text("gone"),
    "loopback": listen,
    "read outside": lambda: (outside / "kept").read_text(),
    "write outside": lambda: (outside / "new").write_text("new"),
    "change outside": lambda: (outside / "kept").write_text("changed"),
    "truncate outside": lambda: os.truncate(outside / "kept", 0),
    "remove outside": lambda: (outside / "kept").unlink(),
    "rename outside": lambda: (outside / "kept").rename(outside / "moved"),
    "move outside": lambda: (inside / "folder" / "newer").rename(outside / "newer"),
    "link outside": lambda: os.link(outside / "kept", inside / "linked"),
    "folder outside": lambda: (outside / "folder").mkdir(),
    "signal the parent": lambda: os.kill(os.getppid(), 0),
    "network": lambda: socket.create_connection(("192.0.2.1", 80), 5).close(),
    "much memory": lambda: len(bytearray(8 << 30)),
}

def outcome(work):
    try:
        work()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"

found = {name: outcome(work) for name, work in TRIES.items()}
print(json.dumps({"missing": missing, "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
    "file": resource.getrlimit(resource.RLIMIT_FSIZE)[0], "tries": found}))
"""


@pytest.fixture(scope="module")
def confined(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("confined")
    inside, outside = folder / "inside", folder / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "kept").write_text("kept")
    command = [sys.executable, "-c", SCRIPT, str(inside), str(outside)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert (outside / "kept").read_text() == "kept" or landlock_unavailable()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "name",
    ["write inside", "rename inside", "folder inside", "move into a folder", "nothing", "loopback", "read outside"],
)
def test_what_it_can_still_do(confined: dict[str, Any], name: str) -> None:
    assert confined["tries"][name] == "done"


@pytest.mark.skipif(landlock_unavailable() is not None, reason=str(landlock_unavailable()))
@pytest.mark.parametrize(
    "name",
    [
        "write outside",
        "change outside",
        "truncate outside",
        "remove outside",
        "rename outside",
        "move outside",
        "link outside",
        "folder outside",
        "signal the parent",
    ],
)
def test_what_it_cannot_do_outside_of_its_workspace(confined: dict[str, Any], name: str) -> None:
    assert confined["tries"][name] in ("PermissionError", "OSError")


def test_it_takes_no_more_than_its_share(confined: dict[str, Any]) -> None:
    assert confined["tries"]["much memory"] == "MemoryError"
    assert confined["core"] == 0
    assert 0 < confined["file"] <= 64 * 2**30


def test_it_reaches_no_network_or_says_so(confined: dict[str, Any]) -> None:
    said = [reason for reason in confined["missing"] if "network" in reason]
    assert said or confined["tries"]["network"] == "OSError"


def test_what_the_kernel_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OldKernel:
        def syscall(self, *_: object) -> int:
            return -1

        def unshare(self, _: int) -> int:
            return -1

    monkeypatch.setattr(confinement, "_libc", OldKernel())
    monkeypatch.setattr(confinement, "_limit_resources", lambda *_: None)
    network, writes = confine(tmp_path, 500)
    assert "the network stays reachable" in network
    assert "writes outside of the workspace are not prevented: Landlock is missing" in writes
    assert "Linux 5.13" in str(landlock_unavailable())
