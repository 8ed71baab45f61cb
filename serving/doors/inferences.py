"""The inferences that came in one round, by whichever door: those that need not wait are answered side by side.

See ``round`` for why.
"""

from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from registry.errors import BurnishError
from serving.engine.fair_turns import Tenant
from serving.engine.infer import Answer, Asked
from serving.engine.urgency import Urgency
from serving.engine.worker import Worker

R = TypeVar("R")


@dataclass(slots=True, eq=False)
class Inference(ABC, Generic[R]):
    """One inference whose request is right; what was parsed of it is not kept while it waits."""

    asked: Asked
    urgency: Urgency

    @abstractmethod
    def reply(self, answer: Answer) -> R:
        """Write the answer.

        Raises:
            BurnishError: it cannot be written.
        """

    @abstractmethod
    def failed(self, error: BurnishError) -> R:
        """Write the refusal."""


@dataclass(slots=True, eq=False)
class InferenceCall(ABC, Generic[R]):
    """A request for an inference of which only the head was read."""

    tenant: Tenant
    size: int
    """Bytes of its body."""

    @abstractmethod
    def begin(self) -> "R | Inference[R]":
        """Read the request, and answer it if it is wrong."""

    @abstractmethod
    def refused(self, error: BurnishError) -> R:
        """Answer one whose turn does not come."""


class Inferences:
    """Answers inferences of one worker."""

    def __init__(self, worker: Worker) -> None:
        """Take the worker that computes."""
        self._worker = worker

    def answer(self, calls: Sequence[InferenceCall[R]]) -> list[R | Coroutine[Any, Any, R]]:
        """Answer calls that came together, in their order: at once where they need not wait, else later."""
        if len(calls) == 1:
            return self._answer_of(calls[0].tenant, calls)
        by_tenant: dict[Tenant, list[InferenceCall[R]]] = {}
        for call in calls:
            by_tenant.setdefault(call.tenant, []).append(call)
        answers = {tenant: iter(self._answer_of(tenant, some)) for tenant, some in by_tenant.items()}
        return [next(answers[call.tenant]) for call in calls]

    def _answer_of(self, tenant: Tenant, calls: Sequence[InferenceCall[R]]) -> list[R | Coroutine[Any, Any, R]]:
        """Answer calls of one tenant, if it is its turn."""
        turns = self._worker.turns
        if tenant == turns.alone or turns.may_go(tenant):
            return self._answer_now(calls)
        return [self._answer_in_turn(call) for call in calls]

    async def _answer_in_turn(self, call: InferenceCall[R]) -> R:
        try:
            answer_now = partial(self._answer_now, [call])
            (answer,) = await self._worker.turns.in_turn(call.tenant, call.size, answer_now)
        except BurnishError as error:
            return call.refused(error)
        return await answer if isinstance(answer, Coroutine) else answer

    def _answer_now(self, calls: Sequence[InferenceCall[R]]) -> list[R | Coroutine[Any, Any, R]]:
        begun = [call.begin() for call in calls]
        self._worker.engine.infer_now([one.asked for one in begun if isinstance(one, Inference)])
        return [self._settle(one) if isinstance(one, Inference) else one for one in begun]

    def _settle(self, inference: Inference[R]) -> R | Coroutine[Any, Any, R]:
        outcome = inference.asked.outcome
        if outcome is None:
            return self._answer_later(inference)
        try:
            if isinstance(outcome, BurnishError):
                raise outcome
            return inference.reply(outcome)
        except BurnishError as error:
            return inference.failed(error)

    async def _answer_later(self, inference: Inference[R]) -> R:
        engine, asked = self._worker.engine, inference.asked
        try:
            return inference.reply(await engine.infer(asked.slot, asked.request_id, asked.inputs, inference.urgency))
        except BurnishError as error:
            return inference.failed(error)
