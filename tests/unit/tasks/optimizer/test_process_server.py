"""The process server with servers of the tests' own: what it survives, and that nothing is lost with it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from registry.errors import CandidateError
from registry.plugins import PASSES, RUNTIMES, plugin_names
from tasks.optimizer import process_server as module
from tasks.optimizer.process_request import ProcessRequest
from tasks.optimizer.process_server import ProcessServer
from tasks.optimizer.process_server_child import LIBRARIES
from tasks.optimizer.settings import child_environment

HARMLESS = {"jemalloc_bg_thd"}
NO_RESULT = "ended with exit code 0 and no result"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that servers can import."""
    folder = tmp_path / "modules"
    folder.mkdir()

    def environment(home: Path, threads: int) -> dict[str, str]:
        return child_environment(home, threads) | {"PYTHONPATH": str(folder)}

    monkeypatch.setattr(module, "child_environment", environment)
    return folder


@pytest.fixture
def server(modules: Path) -> Iterator[ProcessServer]:
    """A server that imports no library of its own accord, so that it starts at once."""
    server = ProcessServer(frozenset(LIBRARIES))
    yield server
    server.stop()


@pytest.fixture
def job(modules: Path, tmp_path: Path) -> Callable[..., ProcessRequest]:
    """Return request(body, imports): a job that runs the body; ``here`` is its workspace."""

    def request(body: str, *imports: str, name: str = "job", **limits: float) -> ProcessRequest:
        workspace = tmp_path / name
        workspace.mkdir()
        (modules / f"{name}.py").write_text(
            f"import os, signal, subprocess, sys, time\nfrom pathlib import Path\nhere = Path.cwd()\n{body}\n"
        )
        (workspace / "log.txt").touch()
        return ProcessRequest(
            module=name,
            arguments=(),
            workspace=str(workspace),
            log=str(workspace / "log.txt"),
            environment=child_environment(workspace, 1) | {"PYTHONPATH": str(modules)},
            imports=imports,
            timeout_s=limits.get("timeout_s", 60.0),
            memory_mib=4096,
            threads=1,
        )

    return request


def test_a_killed_server_is_started_again(server: ProcessServer, job: Callable[..., ProcessRequest]) -> None:
    server.start()
    first = server.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert server.run(job("")) == NO_RESULT
    assert server.pid not in (None, first)


def test_a_running_job_outlives_its_server(
    server: ProcessServer, job: Callable[..., ProcessRequest], tmp_path: Path
) -> None:
    request = job("(here / 'begun').touch()\nwhile not (here / 'go').exists(): time.sleep(0.01)\nsys.exit(5)")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.run, request)
        _wait(lambda: (tmp_path / "job" / "begun").exists())
        server.stop()
        (tmp_path / "job" / "go").touch()
        assert running.result(60) == "ended with exit code 5 and no result"


def test_a_job_whose_warden_is_killed_is_lost_with_all_it_started(
    server: ProcessServer, job: Callable[..., ProcessRequest], tmp_path: Path
) -> None:
    body = (
        "inner = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "(here / 'pids.new').write_text(f'{os.getppid()} {os.getpid()} {inner.pid}')\n"
        "(here / 'pids.new').rename(here / 'pids')\ntime.sleep(600)"
    )
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.run, job(body))
        _wait(lambda: (tmp_path / "job" / "pids").exists())
        warden, *others = map(int, (tmp_path / "job" / "pids").read_text().split())
        os.kill(warden, signal.SIGKILL)
        assert running.result(60) == "was lost: what watches over it was killed"
        _wait(lambda: not any(psutil.pid_exists(pid) for pid in others))
    assert server.run(job("", name="next")) == NO_RESULT


@pytest.mark.parametrize(
    "body",
    [
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
        "import os\nos._exit(1)",
        "raise SystemExit",
        "import time, sys\nif 'process_server_child' in sys.argv[0]: time.sleep(600)",
    ],
    ids=["threads", "dies", "exits", "hangs"],
)
def test_what_harms_the_server_when_imported_is_left_to_the_jobs(
    server: ProcessServer,
    job: Callable[..., ProcessRequest],
    modules: Path,
    body: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "hangs" in request.node.name:
        monkeypatch.setattr(module, "_START_WITHIN_S", 4.0)
    (modules / "harmful.py").write_text(body)
    assert server.run(job("assert 'harmful' not in sys.modules", "harmful")) == NO_RESULT
    second = server.pid
    assert server.run(job("", "harmful", name="next")) == NO_RESULT
    assert server.pid == second


def test_what_cannot_be_imported_harms_nobody(
    server: ProcessServer, job: Callable[..., ProcessRequest], modules: Path
) -> None:
    (modules / "broken.py").write_text("raise ValueError('no such library')")
    server.start()
    first = server.pid
    assert server.run(job("", "broken", "not_there")) == NO_RESULT
    assert server.pid == first


def test_an_import_is_done_once_for_all_jobs(
    server: ProcessServer, job: Callable[..., ProcessRequest], modules: Path
) -> None:
    (modules / "large.py").write_text("import os\nwho = os.getpid()")
    for name in ("one", "two"):
        body = "import large\nassert large.who != os.getpid()"
        assert server.run(job(body, "large", name=name)) == NO_RESULT


def test_paths_made_by_an_import_are_the_jobs_own(
    server: ProcessServer, job: Callable[..., ProcessRequest], modules: Path
) -> None:
    text = "import os, tempfile\nFOLDER = tempfile.gettempdir() + '/cache'\nos.environ['MADE'] = FOLDER"
    (modules / "library.py").write_text(text)
    body = "import library\nassert library.FOLDER == os.environ['MADE'] == str(here / 'cache')"
    assert server.run(job(body, "library")) == NO_RESULT


def test_jobs_of_several_threads_run_side_by_side(
    server: ProcessServer, job: Callable[..., ProcessRequest], tmp_path: Path
) -> None:
    """Each waits for the others to have begun."""
    body = "(here / 'begun').touch()\nwhile len(list(here.parent.glob('*/begun'))) < 4: time.sleep(0.01)"
    requests = [job(body, name=f"job{number}") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(server.run, requests)) == [NO_RESULT] * 4


def test_every_job_is_itself(server: ProcessServer, job: Callable[..., ProcessRequest], tmp_path: Path) -> None:
    body = (
        "import tempfile\n"
        "assert os.getsid(0) == os.getpgid(0) == os.getpid()\n"
        "assert tempfile.gettempdir() == os.environ['HOME'] == str(here)\n"
        "assert sys.stdin.read() == ''\n"
        "assert sorted(os.listdir('/proc/self/fd'))[:3] == ['0', '1', '2'] and len(os.listdir('/proc/self/fd')) == 4\n"
        "os.system('echo from a shell')"
    )
    assert server.run(job(body)) == NO_RESULT
    assert (tmp_path / "job" / "log.txt").read_text() == "from a shell\n"


def test_a_server_that_never_starts_is_told(
    server: ProcessServer, job: Callable[..., ProcessRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MODULE", "no_such_server")
    with pytest.raises(CandidateError, match=r"does not start: .*no_such_server"):
        server.run(job(""))


def test_no_built_in_plugin_starts_a_thread_when_imported(job: Callable[..., ProcessRequest]) -> None:
    """Otherwise the server would have to be started again without it, and every job would import it."""
    names = [f"{kind.package}.{name}" for kind in (PASSES, RUNTIMES) for name in plugin_names(kind)]
    server = ProcessServer()
    try:
        server.start()
        first = server.pid
        loaded = "assert {'torch', 'modelopt', 'onnxruntime', 'openvino'} <= set(sys.modules)"
        assert server.run(job(loaded, *LIBRARIES, *names)) == NO_RESULT
        assert server.pid == first
        threads = [path.read_text().strip() for path in Path(f"/proc/{first}/task").glob("*/comm")]
        assert len([name for name in threads if name not in HARMLESS]) == 1
    finally:
        server.stop()


def _wait(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
