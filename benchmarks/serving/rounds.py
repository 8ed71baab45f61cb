"""Rounds of load: short ones, every target in turn, in random order, many times over."""

import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from benchmarks.serving.figures import LoadJob, Round, Target

_ROOT = Path(__file__).parents[2]


class Plan(NamedTuple):
    """How long to measure."""

    cycles: int
    """Each holds one round of every bout."""
    seconds: float
    """Of one round."""
    warm_seconds: float
    """Under load before each round."""


class Bout(NamedTuple):
    """A target under a number of connections."""

    target: Target
    connections: int


class LoadGenerator:
    """The process that puts load on servers."""

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serving.load"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def hold(self, job: LoadJob) -> Round:
        """Hold one round.

        Raises:
            RuntimeError: the process is gone.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(job.model_dump_json() + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended; what it wrote stands above")
        return Round.model_validate_json(line)


def measure(bouts: Sequence[Bout], pids: Mapping[str, tuple[int, ...]], plan: Plan) -> list[list[Round]]:
    """Return [cycle][bout] what every round measured; the order inside a cycle is drawn anew for each.

    Args:
        bouts: what takes turns.
        pids: the processes of each server, by its name.
        plan: how long.
    """
    draw = random.Random(0)
    cycles = []
    with LoadGenerator() as generator:
        for _ in range(plan.cycles):
            done: dict[int, Round] = {}
            for number in draw.sample(range(len(bouts)), len(bouts)):
                target, connections = bouts[number]
                job = LoadJob(
                    target=target,
                    connections=connections,
                    warm_seconds=plan.warm_seconds,
                    seconds=plan.seconds,
                    pids=pids[target.server],
                )
                done[number] = generator.hold(job)
            cycles.append([done[number] for number in range(len(bouts))])
    return cycles
