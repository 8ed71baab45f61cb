"""The search with real child processes: endings that only a process has, and the script that repeats a candidate."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from registry.records.optimization import CandidateStatus, OptimizationConfig
from tasks.optimizer.evaluate import load_arrays
from tests.unit.tasks.optimizer.odd_passes import odd_passes
from tests.unit.tasks.optimizer.odd_search import Run, made_up_benchmark, request, search

CONFIG = OptimizationConfig(
    passes=("quick", "stumbles", "crashes", "hangs"), runtimes=("onnxruntime",), candidate_timeout_s=6.0
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("search")
    with odd_passes(folder / "plugins"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.optimizer.measurement.benchmark", made_up_benchmark)
        yield search(request(folder, CONFIG))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stumbles", "KeyError: 'layer'; log: "),
        ("crashes", "the child process ended with exit code 7 and no result; log: "),
        ("hangs", "the child process took longer than 6 s and was killed; log: "),
    ],
)
def test_a_failed_candidate_says_how_and_where_its_log_is(run: Run, name: str, said: str) -> None:
    failed = run.of(name)
    assert failed.status is CandidateStatus.FAILED
    assert said in failed.reason
    assert (run.request.out / str(failed.folder) / "work" / "log.txt").is_file()


def test_the_search_went_on_to_a_winner(run: Run) -> None:
    assert run.result.chosen == run.of("quick")


def test_reproduce_runs_one_candidate_alone_to_the_same_answers(run: Run) -> None:
    folder = run.request.out / str(run.of("quick").folder)
    subprocess.run([sys.executable, str(folder / "reproduce.py")], capture_output=True, timeout=60, check=True)
    found = load_arrays(folder / "reproduced" / "predictions.npz")
    cached = [load_arrays(file)["y"] for file in run.request.cache.glob("*/content/predictions.npz")]
    assert any(np.array_equal(found["y"], one) for one in cached)


def test_reproduce_tells_how_a_candidate_failed(run: Run) -> None:
    folder = run.request.out / str(run.of("stumbles").folder)
    subprocess.run([sys.executable, str(folder / "reproduce.py")], capture_output=True, timeout=60, check=True)
    assert "KeyError: 'layer'" in (folder / "reproduced" / "result.json").read_text()
