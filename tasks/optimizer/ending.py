"""The end of a search: the finalists measured together, one of them chosen, everyone's end told."""

from collections.abc import Sequence
from dataclasses import dataclass

from registry.records.optimization import CandidateResult, CandidateStatus, OptimizationConfig
from tasks.bench.process import BenchmarkRun
from tasks.optimizer.cost import cost_per_million
from tasks.optimizer.measurement import Contestant, Measurement
from tasks.optimizer.output import Output
from tasks.optimizer.pareto import choose, front, why_not_chosen
from tasks.optimizer.progress import Progress
from tasks.optimizer.standings import Standings


@dataclass(frozen=True)
class Ending:
    """What is needed to end a search."""

    config: OptimizationConfig
    standings: Standings
    measurement: Measurement
    progress: Progress
    output: Output

    def choose(self, baseline: Contestant, seconds: float) -> str | None:
        """Measure the finalists, tell of every candidate's end, and return the winner's id if one may be chosen.

        Args:
            baseline: is measured whatever its gate said.
            seconds: that the measurement may take, with loading.
        """
        others = [one for one in self.standings.finalists if not one.result.baseline]
        contestants = self.measurement.within([baseline, *others], seconds)
        run = self.measurement.final(contestants, seconds)
        results = [_measured(one.result, run) for one in contestants]
        winner = choose(results, self.config.policy, self.config.latency_limit_ms)
        self._tell_finalists(results, winner)
        self._tell_others(contestants, winner)
        if winner is None:
            return None
        artifact = next(one.artifact for one in contestants if one.result.candidate == winner.candidate)
        self.output.write_best(winner, artifact)
        return winner.candidate.id

    def _tell_finalists(self, results: Sequence[CandidateResult], winner: CandidateResult | None) -> None:
        on_front = front(results)
        for result in results:
            update: dict[str, object] = {"on_front": result.candidate.id in on_front}
            if winner and result.status is CandidateStatus.MEASURED and result != winner:
                update["reason"] = self._why_not(result, winner)
            self.progress.tell(self._priced(result).model_copy(update=update))

    def _tell_others(self, finalists: Sequence[Contestant], winner: CandidateResult | None) -> None:
        for result in self.standings.others(finalists):
            reason = f"not among the best {len(finalists) - 1} at a first look"
            if winner:
                reason += f": {self._why_not(result, winner)}"
            self.progress.end(self._priced(result), CandidateStatus.MEASURED, reason)

    def _why_not(self, result: CandidateResult, winner: CandidateResult) -> str:
        return why_not_chosen(result, winner, self.config.policy, self.config.latency_limit_ms)

    def _priced(self, result: CandidateResult) -> CandidateResult:
        price = self.config.price_per_core_hour
        if price is None or result.benchmark is None:
            return result
        return result.model_copy(update={"cost_per_million": cost_per_million(result.benchmark, price)})


def _measured(result: CandidateResult, run: BenchmarkRun) -> CandidateResult:
    """A finalist's result with its final figures; a baseline that its gate refused stays refused."""
    failure = run.failures.get(result.candidate.id)
    if failure:
        reason = f"could not be measured: {failure}"
        return result.model_copy(update={"status": CandidateStatus.FAILED, "reason": reason})
    status = CandidateStatus.MEASURED if result.gate.passed else result.status
    figures = run.figures[result.candidate.id]
    return result.model_copy(update={"status": status, "benchmark": figures, "finalist": True})
