"""The ledger keeps its promises on SQLite and on Postgres, from one process and from many."""

import multiprocessing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from registry.errors import InputError, ModelNotFound, RegistryError, VersionConflict
from registry.ledger import migrations
from registry.ledger.ledger import Ledger
from registry.ledger.tables import METADATA
from registry.records.change import Promote, RollBack
from registry.records.model import PluginConfig
from registry.records.release import Feedback, OptimizationState, ReleaseAction, ServingPolicy
from tests.drafts import change, optimization, served

SPAWN = multiprocessing.get_context("spawn")


def promote(ledger: Ledger, version: int, expected: int | None = None) -> int:
    return ledger.change_route(
        change(Promote(version=version), reason="faster", expected_generation=expected)
    ).generation


def roll_back(ledger: Ledger, expected: int | None = None) -> int:
    return ledger.change_route(change(RollBack(), actor="ben", reason="slow", expected_generation=expected)).champion


def _migrate(url: str) -> None:
    Ledger(url).migrate()


def test_processes_that_migrate_at_once_make_the_tables_once(ledger_url: str) -> None:
    processes = [SPAWN.Process(target=_migrate, args=(ledger_url,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
    assert [process.exitcode for process in processes] == [0, 0]
    with sa.create_engine(ledger_url).connect() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all() == ["0005"]


def test_the_migrations_make_the_tables_that_the_code_uses(ledger: Ledger, ledger_url: str) -> None:
    with sa.create_engine(ledger_url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_migrating_again_keeps_everything(digits: Ledger, ledger_url: str) -> None:
    promote(digits, 1)
    again = Ledger(ledger_url)
    again.migrate()
    assert again.route("digits") == digits.route("digits")
    assert again.served("digits") == (served(1), served(2), served(3))
    again.close()


def test_admitting_is_idempotent_and_never_changes_a_version(digits: Ledger) -> None:
    digits.admit("digits", served(2))
    digits.admit("other", served(1))
    assert digits.served("digits") == (served(1), served(2), served(3))
    assert digits.models() == ("digits", "other")
    changed = served(2).model_copy(update={"runtime": PluginConfig(name="openvino")})
    with pytest.raises(RegistryError, match="version 2 of 'digits' is already admitted"):
        digits.admit("digits", changed)
    assert digits.served("digits")[1] == served(2)


def test_a_new_ledger_is_empty(ledger: Ledger) -> None:
    assert (ledger.models(), ledger.routes(), ledger.route("digits"), ledger.history("digits")) == ((), (), None, ())
    assert (ledger.served("digits"), ledger.optimizations(), ledger.feedback("digits")) == ((), (), ())


def test_each_promotion_replaces_the_route_and_adds_one_to_the_generation(digits: Ledger) -> None:
    assert [promote(digits, 1), promote(digits, 3), promote(digits, 2)] == [1, 2, 3]
    route = digits.route("digits")
    assert route is not None
    assert (route.champion, route.generation, route.split.weights) == (2, 3, {2: 100.0})
    assert digits.routes() == (route,)
    last = digits.history("digits")[-1]
    assert (last.action, last.champion, last.previous, last.actor) == (ReleaseAction.PROMOTE, 2, 3, "ana")
    assert (last.generation, last.reason, last.at) == (3, "faster", route.updated_at)


def test_the_expected_generation_must_be_the_one_that_is(digits: Ledger) -> None:
    with pytest.raises(VersionConflict, match="nothing is live yet"):
        promote(digits, 1, expected=1)
    assert promote(digits, 1, expected=0) == 1
    assert promote(digits, 2, expected=1) == 2
    with pytest.raises(VersionConflict, match=r"generation 2, not 1 as expected: ana made version 2 live \(promote\)"):
        promote(digits, 3, expected=1)
    with pytest.raises(VersionConflict):
        roll_back(digits, expected=1)
    assert [event.generation for event in digits.history("digits")] == [1, 2]


def test_what_is_live_or_not_admitted_cannot_be_promoted(digits: Ledger) -> None:
    promote(digits, 1)
    with pytest.raises(InputError, match="version 1 of 'digits' is already live"):
        promote(digits, 1)
    with pytest.raises(VersionConflict):
        promote(digits, 1, expected=7)
    with pytest.raises(ModelNotFound, match=r"version 9 .* admitted: 1, 2, 3"):
        promote(digits, 9)
    with pytest.raises(ModelNotFound, match="admitted: none"):
        digits.change_route(change(Promote(version=1), model="other"))
    assert len(digits.history("digits")) == 1


def test_rollback_returns_to_what_was_live_before_the_current_champion(digits: Ledger) -> None:
    for version in (1, 2):
        promote(digits, version)
    assert roll_back(digits) == 1
    promote(digits, 3)
    promote(digits, 2)
    assert [roll_back(digits), roll_back(digits, expected=6)] == [3, 1]
    with pytest.raises(InputError, match="nothing to roll back to: version 1 is the first"):
        roll_back(digits)
    actions = [(event.action.value, event.champion, event.previous) for event in digits.history("digits")[2:4]]
    assert actions == [("rollback", 1, 2), ("promote", 3, 1)]


def test_nothing_live_cannot_be_rolled_back(digits: Ledger) -> None:
    with pytest.raises(InputError, match="nothing is live"):
        roll_back(digits)
    with pytest.raises(ModelNotFound):
        digits.change_route(change(RollBack(), model="other", actor="ben"))


def test_a_ledger_of_the_first_revision_is_upgraded_and_keeps_its_routes(ledger_url: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = sa.create_engine(ledger_url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for statement in (
            "INSERT INTO served_versions VALUES ('digits', 1, '{}', '2026-01-01 00:00:00')",
            "INSERT INTO routes VALUES ('digits', 4, 1, '{\"weights\": {\"1\": 100}}', '2026-01-01 00:00:00')",
            "INSERT INTO release_events VALUES ('digits', 4, 'promote', 1, NULL, 'ana', '', '2026-01-01 00:00:00')",
        ):
            connection.exec_driver_sql(statement)
    engine.dispose()
    ledger = Ledger(ledger_url)
    ledger.migrate()
    route = ledger.route("digits")
    assert route is not None
    assert (route.generation, route.policy, route.shadow) == (4, ServingPolicy(), None)
    assert [(event.policy, event.shadow) for event in ledger.history("digits")] == [(ServingPolicy(), None)]
    ledger.close()


def _promote_together(url: str, version: int, barrier: object, results: "multiprocessing.Queue[str]") -> None:
    ledger = Ledger(url)
    ledger.routes()  # connected before the start
    barrier.wait(180)  # type: ignore[attr-defined]
    try:
        results.put(f"generation {promote(ledger, version, expected=1)}")
    except VersionConflict:
        results.put("conflict")


def test_two_processes_promoting_at_once_give_one_success_and_one_conflict(digits: Ledger, ledger_url: str) -> None:
    promote(digits, 1)
    barrier, results = SPAWN.Barrier(2), SPAWN.Queue()
    processes = [
        SPAWN.Process(target=_promote_together, args=(ledger_url, version, barrier, results)) for version in (2, 3)
    ]
    for process in processes:
        process.start()
    assert sorted(results.get(timeout=180) for _ in processes) == ["conflict", "generation 2"]
    for process in processes:
        process.join(180)
    assert [event.generation for event in digits.history("digits")] == [1, 2]


def _promote_in_turn(url: str, versions: tuple[int, ...]) -> None:
    ledger = Ledger(url)
    for version in versions * 10:
        ledger.change_route(change(Promote(version=version), actor=f"{version}"))


def test_promotions_without_expectation_are_serialised_and_none_is_lost(digits: Ledger, ledger_url: str) -> None:
    digits.admit("digits", served(4))
    processes = [SPAWN.Process(target=_promote_in_turn, args=(ledger_url, pair)) for pair in ((1, 2), (3, 4))]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
    assert [process.exitcode for process in processes] == [0, 0]
    history = digits.history("digits")
    assert [event.generation for event in history] == list(range(1, 41))
    assert [event.previous for event in history[1:]] == [event.champion for event in history[:-1]]


def test_optimizations_are_kept_as_they_are(ledger: Ledger) -> None:
    first = optimization("1", "digits", OptimizationState.QUEUED)
    other = optimization("2", "iris", OptimizationState.REFUSED)
    ledger.save_optimization(first)
    ledger.save_optimization(other)
    assert ledger.optimizations() == (first, other)
    done = first.model_copy(update={"state": OptimizationState.RELEASED, "version": 3})
    ledger.save_optimization(done)
    assert (ledger.optimization("1"), ledger.optimizations("digits"), ledger.optimizations("no")) == (done, (done,), ())
    with pytest.raises(ModelNotFound, match="optimization '3'"):
        ledger.optimization("3")


def test_optimizations_that_have_not_ended_are_found_whoevers_they_are(ledger: Ledger) -> None:
    for number, state in enumerate(OptimizationState):
        ledger.save_optimization(optimization(str(number), "acme.m", state))
    quoting = optimization("q", "m", OptimizationState.FAILED).model_copy(update={"message": '"state":"queued"'})
    ledger.save_optimization(quoting)
    found = [one.state for one in ledger.listings.open_optimizations()]
    assert found == [OptimizationState.QUEUED, OptimizationState.RUNNING, OptimizationState.CANCELLING]


def test_feedback_is_kept_once_a_request(digits: Ledger) -> None:
    first, second = (Feedback(model="digits", request_id=name, labels=(1.0, 2.5)) for name in ("b", "a"))
    for feedback in (first, second):
        digits.add_feedback(feedback)
    assert digits.feedback("digits") == (first, second)
    corrected = Feedback(model="digits", request_id="a", labels=(0.0,))
    digits.add_feedback(corrected)
    assert digits.feedback("digits") == (first, corrected)
    with pytest.raises(ModelNotFound, match="'other'"):
        digits.add_feedback(Feedback(model="other", request_id="a", labels=(0.0,)))
