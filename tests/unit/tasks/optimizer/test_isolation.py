import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from registry.errors import CandidateError
from tasks.optimizer import isolation
from tasks.optimizer.isolation import Limits, ask_child, run_child
from tasks.optimizer.settings import child_environment

RunChild = Callable[..., dict[str, Any]]

BODY = """
import os, signal, subprocess, sys, time
from registry.errors import InputError
from tasks.optimizer.isolation import answer

def work(job, workspace):
    {body}

answer(work)
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunChild:
    """Return run(body, **limits): the body of a child's work, run in a child."""
    modules = tmp_path / "modules"
    modules.mkdir()

    def with_modules(home: Path, threads: int) -> dict[str, str]:
        return child_environment(home, threads) | {"PYTHONPATH": str(modules)}

    monkeypatch.setattr(isolation, "child_environment", with_modules)

    def run(body: str, **limits: float) -> dict[str, Any]:
        (modules / "worker.py").write_text(BODY.format(body=body.replace("\n", "\n    ")), encoding="utf-8")
        return run_child(
            "worker",
            {"number": 20},
            workspace=tmp_path / "work",
            limits=Limits(limits.get("timeout_s", 120.0), int(limits.get("memory_mib", 8192))),
        )

    return run


def test_a_value_comes_back_and_prints_go_to_the_log(child: RunChild, tmp_path: Path) -> None:
    value = child("print('noise')\nreturn {'twice': job['number'] * 2, 'here': str(workspace)}")
    assert value == {"twice": 40, "here": str(tmp_path / "work")}
    assert (tmp_path / "work/log.txt").read_text() == "noise\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise InputError('take another file')", "take another file"),
        ("raise KeyError('weight')", "KeyError: 'weight'"),
        ("raise MemoryError", "MemoryError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise BaseException('odd')", "BaseException: odd"),
        ("bytearray(20 << 30)", "it asked for more memory than it may use (MemoryError)"),
        ("os.kill(os.getppid(), signal.SIGKILL)", "PermissionError: [Errno 1] Operation not permitted"),
        ("(workspace.parent / 'elsewhere').touch()", "a child may write below its workspace only"),
        ("os.close(1)\nos.close(2)\nos._exit(3)", "ended with exit code 3 and no result"),
        ("os._exit(3)", "ended with exit code 3 and no result"),
        ("sys.exit(0)", "ended with exit code 0 and no result"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL (the system may have run out of memory)"),
        ("return object()", "TypeError"),
    ],
)
def test_every_bad_ending_is_a_candidate_error_that_says_what_happened(
    child: RunChild, tmp_path: Path, body: str, said: str
) -> None:
    with pytest.raises(CandidateError) as caught:
        child(body)
    assert said in str(caught.value)
    assert str(tmp_path / "work/log.txt") in str(caught.value)


def test_an_unexpected_error_leaves_its_traceback_in_the_log(child: RunChild, tmp_path: Path) -> None:
    with pytest.raises(CandidateError):
        child("raise ValueError('no such layer')")
    assert "Traceback" in (tmp_path / "work/log.txt").read_text()


def test_a_hang_is_killed_with_everything_it_started(child: RunChild, tmp_path: Path) -> None:
    body = (
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "(workspace / 'inner').write_text(str(inner.pid))\ntime.sleep(600)"
    )
    inner = tmp_path / "work" / "inner"
    for seconds in (3, 60):  # the second time only on a machine so busy that the child had not come as far as to hang
        with pytest.raises(CandidateError, match=f"took longer than {seconds} s"):
            child(body, timeout_s=float(seconds))
        if inner.is_file():
            break
    assert _gone(int(inner.read_text()))


def test_a_process_left_behind_is_ended_after_success(child: RunChild, tmp_path: Path) -> None:
    value = child("inner = subprocess.Popen(['sleep', '600'])\nreturn {'pid': inner.pid}")
    assert _gone(value["pid"])


def test_too_much_memory_is_killed(child: RunChild) -> None:
    with pytest.raises(CandidateError, match="MiB of memory, more than the 400 MiB allowed"):
        child("hoard = bytearray(os.urandom(1 << 20)) * 600\ntime.sleep(600)", memory_mib=400)


def test_a_thread_that_never_ends_does_not_hold_an_answered_child(child: RunChild) -> None:
    body = "import threading\nthreading.Thread(target=time.sleep, args=(600,)).start()\nreturn {'done': True}"
    assert child(body) == {"done": True}


def test_the_child_sees_no_credentials(child: RunChild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("BURNISH_LEDGER_URL", "postgresql://user:secret@host/db")
    seen = child("return dict(os.environ)")
    assert "secret" not in json.dumps(seen)
    assert seen["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
    assert seen["HOME"] != str(Path.home())


ASKER = """
import sys
from pathlib import Path
from tasks.optimizer import isolation
from tasks.optimizer.process_server import process_server
from tasks.optimizer.settings import child_environment

modules, work = map(Path, sys.argv[1:])
isolation.child_environment = lambda home, threads: child_environment(home, threads) | {"PYTHONPATH": str(modules)}
process_server().start()
(work.parent / "server").write_text(str(process_server().pid))
isolation.run_child("worker", {}, workspace=work, limits=isolation.Limits(600.0))
"""


def test_nothing_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    body = (
        "apart = subprocess.Popen(['sleep', '600'], start_new_session=True)\n    "
        "(workspace / 'pids').write_text(f'{os.getpid()} {os.getppid()} {apart.pid}')\n    time.sleep(600)"
    )
    (tmp_path / "worker.py").write_text(BODY.format(body=body), encoding="utf-8")
    (tmp_path / "asker.py").write_text(ASKER, encoding="utf-8")
    pids = tmp_path / "work" / "pids"
    environment = child_environment(tmp_path, 1) | {"PYTHONPATH": str(Path(isolation.__file__).parents[2])}
    command = [sys.executable, str(tmp_path / "asker.py"), str(tmp_path), str(tmp_path / "work")]
    with psutil.Popen(command, env=environment, cwd=tmp_path) as asker:
        _wait(lambda: pids.is_file() and len(pids.read_text().split()) == 3)
        asker.kill()
    server = (tmp_path / "server").read_text()
    assert all(_gone(int(pid)) for pid in [*pids.read_text().split(), server])
    assert not list(tmp_path.glob("burnish-process-server-*"))


def test_an_old_result_is_never_taken_for_a_new_one(child: RunChild, tmp_path: Path) -> None:
    child("return {'first': True}")
    with pytest.raises(CandidateError, match="exit code 1"):
        child("os._exit(1)")


def test_the_answer_of_a_failed_child_holds_no_log_path(tmp_path: Path) -> None:
    answered = ask_child("no_such_module_here", {}, workspace=tmp_path, limits=Limits(timeout_s=120.0))
    assert answered.value is None
    assert answered.failure == "the child process ended with exit code 1 and no result"


def _wait(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _gone(pid: int) -> bool:
    if not psutil.pid_exists(pid):
        return True
    try:
        psutil.Process(pid).wait(timeout=60)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True
