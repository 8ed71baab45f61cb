"""Rounds of load: short ones, every target in turn, in random order, many times over."""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.serving.figures import LoadJob, Round, Target
from benchmarks.serving.load_process import LoadProcess


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


class LoadGenerator(LoadProcess):
    """Holds rounds of one target at a time."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        super().__init__("benchmarks.serving.load")

    def hold(self, job: LoadJob) -> Round:
        """Hold one round.

        Raises:
            RuntimeError: the process is gone.
        """
        return Round.model_validate_json(self.ask(job.model_dump_json()))


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
