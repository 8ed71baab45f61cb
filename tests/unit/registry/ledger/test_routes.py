"""The replay of a history: promotions push, rollbacks pop."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from registry.ledger.routes import standing_champions
from registry.records.release import ReleaseAction, ReleaseEvent


def event(action: ReleaseAction, champion: int, generation: int) -> ReleaseEvent:
    return ReleaseEvent(
        model="digits",
        generation=generation,
        action=action,
        champion=champion,
        previous=None,
        actor="ana",
        reason="",
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@given(st.lists(st.integers(min_value=0, max_value=5), max_size=30))
def test_the_replay_ends_with_what_is_live(choices: list[int]) -> None:
    """Walk at random (0: roll back, 5: change the policy) and keep the champions in a linked list, not in a stack."""
    before: dict[int, tuple[int, int | None]] = {}  # generation of a promotion -> (champion, promotion before it)
    history: list[ReleaseEvent] = []
    live: int | None = None
    for generation, choice in enumerate(choices, start=1):
        if choice == 5:
            if live is not None:
                history.append(event(ReleaseAction.POLICY, before[live][0], generation))
        elif choice:
            if live is None or before[live][0] != choice:  # otherwise it ends a split
                before[generation] = (choice, live)
                live = generation
            history.append(event(ReleaseAction.PROMOTE, choice, generation))
        elif live is not None and (parent := before[live][1]) is not None:
            live = parent
            history.append(event(ReleaseAction.ROLLBACK, before[parent][0], generation))
        champions = standing_champions(tuple(history))
        assert champions[-1:] == (() if live is None else (before[live][0],))
        if history:
            assert champions[-1] == history[-1].champion
