import stat
from pathlib import Path

import pytest

from burnish.stack.plan import (
    PLAN_FILE,
    STATE_FILE,
    Part,
    PartState,
    ProcessId,
    StackPlan,
    SupervisorState,
    read_plan,
    read_state,
    write_record,
)


def test_a_plan_and_a_state_come_back_as_they_were_written(tmp_path: Path) -> None:
    plan = StackPlan(home=tmp_path, parts=(Part(name="one", command=("true",), probes=()),))
    state = SupervisorState(
        supervisor=ProcessId(pid=7, started=1.5),
        parts={"one": PartState(process=ProcessId(pid=8, started=2.5), starts=3)},
    )
    plan.run_folder.mkdir()
    write_record(plan.run_folder / PLAN_FILE, plan)
    write_record(plan.run_folder / STATE_FILE, state)
    assert read_plan(tmp_path) == plan
    assert read_state(tmp_path) == state


def test_what_may_hold_passwords_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for pid in (1, 2):
        write_record(path, ProcessId(pid=pid, started=0))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["record.json"]


def test_a_folder_without_a_stack_has_neither(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    assert read_state(tmp_path) is None


def test_a_state_that_is_removed_while_it_is_looked_at_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: True)
    assert read_state(tmp_path) is None
