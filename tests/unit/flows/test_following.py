from collections.abc import Sequence
from pathlib import Path

import pytest

from flows import following, releases
from flows.following import IN_STEP, Following
from registry.ledger.ledger import Ledger
from registry.records.change import Promote
from registry.records.release import CatalogEntry
from registry.store.base import CHAMPION
from tests.drafts import change
from tests.unit.flows.api_stack import FakeStack, fake_stack


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    made = fake_stack(tmp_path)
    for model in ("digits", "iris"):
        made.register(model)
        made.platform.ledger.change_route(change(Promote(version=1), model=model))
    return made


def follow(stack: FakeStack) -> Following:
    return Following(stack.platform.ledger, stack.store, stack.platform.settings.catalog_folder)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the models whose catalog file is compared with the ledger."""
    asked: list[str] = []

    def publish(ledger: Ledger, folder: Path, model: str) -> bool:
        asked.append(model)
        return releases.publish(ledger, folder, model)

    monkeypatch.setattr(following, "publish", publish)
    return asked


def test_a_round_looks_closer_only_at_what_has_changed(stack: FakeStack, published: list[str]) -> None:
    followed, folder = follow(stack), stack.platform.settings.catalog_folder
    assert len(list(followed.repair())) == 4
    assert (sorted(published), followed.mirrors) == (["digits", "iris"], IN_STEP)
    published.clear()
    assert list(followed.repair(whole=False)) == []
    assert published == []
    (folder / "iris.json").write_text("{ half of a fi")
    stack.register("digits")
    notes = list(followed.repair(whole=False))
    assert sorted(published) == ["digits", "iris"]
    assert [note.split(":")[0] for note in notes] == ["digits", "iris", "digits"]
    (folder / "digits.json").unlink()
    assert next(followed.repair(whole=False)) == "digits: the catalog was behind the ledger and was written again"


def test_aliases_that_others_moved_are_repaired_by_a_whole_round_and_changed_routes_by_any(stack: FakeStack) -> None:
    followed = follow(stack)
    list(followed.repair())
    stack.store.set_alias("iris", CHAMPION, None)
    stack.register("digits")
    stack.platform.ledger.change_route(change(Promote(version=2)))
    list(followed.repair(whole=False))
    assert (stack.store.alias("digits", CHAMPION), stack.store.alias("iris", CHAMPION)) == (2, None)
    list(followed.repair())
    assert stack.store.alias("iris", CHAMPION) == 1


def test_of_models_that_were_just_changed_no_others_are_looked_at(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = follow(stack)
    list(followed.repair())
    for model in ("digits", "iris"):
        stack.register(model)
        stack.platform.ledger.change_route(change(Promote(version=2), model=model))

    def marks() -> None:
        raise AssertionError("the whole ledger was looked at")

    monkeypatch.setattr(stack.platform.ledger.listings, "marks", marks)
    (note,) = followed.follow(["digits"])
    assert note.startswith("digits: the alias champion was behind")
    assert (stack.store.alias("digits", CHAMPION), stack.store.alias("iris", CHAMPION)) == (2, 1)
    monkeypatch.undo()
    assert [note.split(":")[0] for note in followed.repair(whole=False)] == ["digits", "iris", "iris"]
    assert list(followed.follow([])) == []
    assert followed.mirrors == IN_STEP


def test_many_files_are_compared_by_few_queries(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_AT_ONCE", 2)
    for number in range(3):
        stack.register(f"m{number}")
    assert len(list(follow(stack).repair())) == 5 + 2 + 3, "all files written, two aliases set, three never released"
    asked: list[int] = []
    listings = stack.platform.ledger.listings
    read = listings.entries

    def entries(models: Sequence[str]) -> tuple[CatalogEntry, ...]:
        asked.append(len(models))
        return read(models)

    monkeypatch.setattr(listings, "entries", entries)
    assert not any("written again" in note for note in follow(stack).repair())
    assert asked == [2, 2, 1]


def test_what_waits_for_a_release_is_named_up_to_a_bound(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_NAMED", 1)
    followed = follow(stack)
    stack.register("digits")
    assert list(followed.repair())[-1].startswith(
        "digits: version 2 is registered but was never released (live: version 1"
    )
    stack.register("new")
    assert list(followed.repair())[-1] == "more versions are registered but were never released"
