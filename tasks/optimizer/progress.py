"""What is known of each candidate while a search runs, told to the caller and kept on disk."""

from collections.abc import Callable

from registry.records.optimization import CandidateResult, CandidateStatus
from tasks.optimizer.output import Output
from tasks.optimizer.space import Planned

OnEvent = Callable[[CandidateResult], None]


class Progress:
    """Every candidate's latest result, told to the caller and kept in ``candidates.json``."""

    def __init__(self, output: Output, on_event: OnEvent) -> None:
        """Start with nothing known."""
        self._output = output
        self._on_event = on_event
        self._results: dict[str, CandidateResult] = {}

    @property
    def results(self) -> tuple[CandidateResult, ...]:
        """Every candidate, in the order of their first mention."""
        return tuple(self._results.values())

    def announce(self, planned: Planned) -> None:
        """Tell of a candidate as pending, or as skipped if it cannot be tried."""
        self.tell(
            CandidateResult(
                candidate=planned.candidate,
                status=CandidateStatus.SKIPPED if planned.skip else CandidateStatus.PENDING,
                baseline=planned.baseline,
                reason=planned.skip,
                repairs=planned.repairs,
            )
        )

    def begin(self, planned: Planned) -> CandidateResult:
        """Return what is known of a candidate that is about to be built, with its folder."""
        folder = self._output.candidate_folder(planned.candidate).relative_to(self._output.folder)
        return self.of(planned).model_copy(update={"folder": folder.as_posix()})

    def of(self, planned: Planned) -> CandidateResult:
        """What is known of a candidate."""
        return self._results[planned.candidate.id]

    def tell(self, result: CandidateResult) -> None:
        """Replace what is known of a candidate."""
        self._results[result.candidate.id] = result
        self._output.write_candidates(self.results)
        self._on_event(result)

    def end(self, result: CandidateResult, status: CandidateStatus, reason: str) -> None:
        """A candidate has come to its end, for a reason."""
        self.tell(result.model_copy(update={"status": status, "reason": reason}))
