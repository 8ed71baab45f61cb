"""One search over passes that go wrong in every way a process can, and the scripts that repeat each one alone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from registry.records.optimization import CandidateStatus, OptimizationConfig
from tasks.optimizer.confinement import landlock_unavailable
from tasks.optimizer.evaluate import load_arrays
from tests.unit.tasks.optimizer.odd_passes import odd_passes
from tests.unit.tasks.optimizer.odd_search import Run, made_up_benchmark, request, search

TOO_LONG = "the child process took longer than 5 s and was killed"
ENDINGS = {
    "stumbles": "KeyError: 'layer'",
    "crashes": "the child process ended with exit code 7 and no result",
    "leaves": "the child process ended with exit code 0 and no result",
    "quits": "the child process ended with exit code 0 and no result",
    "segfaults": "the child process was ended by SIGSEGV",
    "spins": TOO_LONG,
    "deaf": TOO_LONG,
    "swells": "MiB of memory, more than the 500 MiB allowed, and was killed",
    "bursts": "it asked for more memory than it may use (MemoryError: Unable to allocate 20.0 GiB",
    "chatters": "ValueError: all said",
    "mutes": "ValueError: not a word",
    "interrupts": "KeyboardInterrupt",
    "bases": "BaseException: not an Exception",
}
CONFINED = {
    "orphans": "PermissionError: [Errno 1] Operation not permitted",
    "escapes": "a child may write below its workspace only",
    "spoils": "a child may write below its workspace only",
}
if not landlock_unavailable():
    ENDINGS |= CONFINED

CONFIG = OptimizationConfig(
    passes=("quick", *ENDINGS), runtimes=("onnxruntime",), candidate_timeout_s=5.0, candidate_memory_mib=500
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("search")
    with odd_passes(folder / "plugins"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.optimizer.measurement.benchmark", made_up_benchmark)
        yield search(request(folder, CONFIG))


@pytest.fixture(scope="module")
def reproduced(run: Run) -> dict[str, str]:
    """What each failed candidate's script printed, run alone."""

    def repeat(name: str) -> str:
        script = _folder(run, name) / "reproduce.py"
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 1
        return done.stderr

    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(ENDINGS, pool.map(repeat, ENDINGS), strict=True))


def _folder(run: Run, name: str) -> Path:
    return run.request.out / str(run.of(name).folder)


@pytest.mark.parametrize("name", ENDINGS)
def test_a_failed_candidate_says_how_and_where_its_log_is(run: Run, name: str) -> None:
    failed = run.of(name)
    assert failed.status is CandidateStatus.FAILED
    assert ENDINGS[name] in failed.reason
    assert f"log: {_folder(run, name) / 'work' / 'log.txt'}" in failed.reason
    assert (_folder(run, name) / "work" / "log.txt").is_file()


def test_the_search_went_on_to_a_winner(run: Run) -> None:
    assert run.result.chosen == run.of("quick")


@pytest.mark.parametrize("name", ENDINGS)
def test_its_script_repeats_it_alone(reproduced: dict[str, str], name: str) -> None:
    assert ENDINGS[name] in reproduced[name]


def test_what_a_candidate_printed_is_in_its_log(run: Run) -> None:
    assert (_folder(run, "chatters") / "work" / "log.txt").stat().st_size > 20_000_000
    assert "Segmentation fault" in (_folder(run, "segfaults") / "work" / "log.txt").read_text()


def test_nothing_that_a_candidate_started_lives_on(run: Run) -> None:
    pid = int((_folder(run, "deaf") / "work" / "inner").read_text())
    assert not psutil.pid_exists(pid)


def test_reproduce_runs_one_candidate_alone_to_the_same_answers(run: Run) -> None:
    folder = _folder(run, "quick")
    subprocess.run([sys.executable, str(folder / "reproduce.py")], capture_output=True, timeout=180, check=True)
    assert "value" in json.loads((folder / "reproduced" / "result.json").read_text())
    found = load_arrays(folder / "reproduced" / "predictions.npz")
    cached = [load_arrays(file)["y"] for file in run.request.cache.glob("*/content/predictions.npz")]
    assert any(np.array_equal(found["y"], one) for one in cached)
