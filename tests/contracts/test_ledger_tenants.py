"""Tenants, keys, what is owned and what is used, on SQLite and on Postgres."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import pytest

from registry.errors import InputError, ModelNotFound, VersionConflict
from registry.ledger import usage
from registry.ledger.ledger import Ledger
from registry.ledger.tenants import Holdings, Shortage
from registry.records.audit import AuditDraft
from registry.records.release import OptimizationState
from registry.records.tenant import ApiKey, Counters, Quotas, Scope, TenantState
from tests.drafts import optimization, served

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def key(key_id: str, tenant: str = "acme") -> ApiKey:
    return ApiKey(id=key_id, tenant=tenant, sha256="ab" * 32, scopes=(Scope.PREDICT, Scope.DEPLOY), made_at=NOON)


def draft(tenant: str = "acme") -> AuditDraft:
    return AuditDraft(tenant=tenant, actor="ana", source="127.0.0.1", action="promote", target="m", outcome="done")


def test_tenants_are_made_bounded_blocked_and_removed(ledger: Ledger) -> None:
    assert [tenant.name for tenant in ledger.tenants.all()] == ["default"]
    made = ledger.tenants.add("acme", Quotas(models=2))
    assert ledger.tenants.get("acme") == made
    with pytest.raises(InputError, match="'acme' already"):
        ledger.tenants.add("acme", Quotas())
    assert ledger.tenants.set_quotas("acme", Quotas(requests_per_s=2.5)).quotas == Quotas(requests_per_s=2.5)
    assert ledger.tenants.set_state("acme", TenantState.BLOCKED).state is TenantState.BLOCKED
    ledger.keys.add(key("0" * 12))
    ledger.tenants.remove("acme")
    assert ledger.keys.find("0" * 12) is None
    for change in (ledger.tenants.remove, ledger.tenants.get):
        with pytest.raises(ModelNotFound, match="no tenant 'acme'"):
            change("acme")
    with pytest.raises(InputError, match="always exists"):
        ledger.tenants.remove("default")


def test_of_those_who_change_what_they_have_seen_at_once_one_wins(ledger: Ledger) -> None:
    seen = ledger.tenants.add("acme", Quotas())
    started, won, lost = threading.Barrier(4), [], []

    def bound(models: int) -> None:
        started.wait(60)
        try:
            won.append(ledger.tenants.set_quotas("acme", Quotas(models=models), seen))
        except VersionConflict:
            lost.append(models)

    threads = [threading.Thread(target=bound, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(won), len(lost)) == (1, 3)
    assert ledger.tenants.get("acme") == won[0]
    with pytest.raises(VersionConflict, match="changed by another"):
        ledger.tenants.set_state("acme", TenantState.BLOCKED, seen)
    assert ledger.tenants.set_state("acme", TenantState.BLOCKED, won[0]) == ledger.tenants.get("acme")


def when_all_are(ready: threading.Barrier, step: Callable[[], object]) -> None:
    ready.wait(60)
    step()


def test_nothing_is_added_to_a_tenant_that_is_removed_at_the_same_time(ledger: Ledger) -> None:
    with ThreadPoolExecutor(3) as pool:
        for number in range(12):
            name, all_ready = f"tenant-{number}", threading.Barrier(3)
            ledger.tenants.add(name, Quotas())
            steps = (
                partial(ledger.tenants.remove, name),
                partial(ledger.keys.add, key(f"{number:012x}", name)),
                partial(ledger.tenants.own, name, "c" * 64, 100),
            )
            ends = [pool.submit(when_all_are, all_ready, step) for step in steps]
            for end in ends:
                assert isinstance(end.exception(60), ModelNotFound | None)
            assert not ledger.keys.all(name)
            assert not ledger.tenants.owns(name, "c" * 64)
    assert [tenant.name for tenant in ledger.tenants.all()] == ["default"]


def test_a_tenant_is_not_removed_while_a_version_of_its_may_be_made(ledger: Ledger) -> None:
    ledger.tenants.add("acme", Quotas())
    queued = optimization("1" * 32, "acme.m", OptimizationState.QUEUED)
    assert ledger.tenants.claim_version(queued) is None
    with pytest.raises(InputError, match="1 optimizations of the tenant 'acme' still run"):
        ledger.tenants.remove("acme")
    ledger.save_optimization(queued.model_copy(update={"state": OptimizationState.CANCELLED}))
    ledger.tenants.remove("acme")


def test_a_name_whose_audit_is_kept_is_not_given_again(ledger: Ledger) -> None:
    ledger.tenants.add("acme", Quotas())
    ledger.audit.append(draft())
    ledger.tenants.remove("acme")
    with pytest.raises(InputError, match="existed before"):
        ledger.tenants.add("acme", Quotas())
    assert [tenant.name for tenant in ledger.tenants.all()] == ["default"]


def test_what_a_tenant_has_is_counted_by_its_own_models_and_artifacts(ledger: Ledger) -> None:
    ledger.tenants.add("acme", Quotas())
    for name, number in (("m", 1), ("acme.m", 1), ("acme.m", 2), ("acme.n", 1), ("acme-2.m", 1)):
        ledger.admit(name, served(number))
    ledger.tenants.own("acme", "c" * 64, 100)
    ledger.tenants.own("acme", "c" * 64, 100)
    one, two = (served(number).artifact.size_bytes for number in (1, 2))
    assert ledger.tenants.holdings("acme") == Holdings(models=2, versions=3, stored_bytes=one + two + 100)
    assert ledger.tenants.holdings("default") == Holdings(models=1, versions=1, stored_bytes=one)
    assert ledger.tenants.owns("acme", "c" * 64)
    assert not ledger.tenants.owns("default", "c" * 64)
    with pytest.raises(InputError, match="has 2 models"):
        ledger.tenants.remove("acme")


def test_keys_are_kept_expire_and_are_revoked_once(ledger: Ledger) -> None:
    ledger.tenants.add("acme", Quotas())
    with pytest.raises(ModelNotFound, match="no tenant 'nobody'"):
        ledger.keys.add(key("1" * 12, "nobody"))
    for number in ("1", "2"):
        ledger.keys.add(key(number * 12))
    assert ledger.keys.all("acme") == (key("1" * 12), key("2" * 12))
    assert ledger.keys.all("default") == ()
    ledger.keys.expire("1" * 12, NOON)
    ledger.keys.expire("1" * 12, NOON + timedelta(days=1))
    ledger.keys.revoke("2" * 12, NOON)
    ledger.keys.revoke("2" * 12, NOON + timedelta(days=1))
    first, second = ledger.keys.all()
    assert (first.expires_at, first.revoked_at, second.expires_at, second.revoked_at) == (NOON, None, None, NOON)


def counters(requests: int) -> Counters:
    return Counters(requests=requests, failed=1, compute_ns=5, received_bytes=2**40, sent_bytes=0)


def test_usage_adds_what_each_worker_counted_since_it_was_read(ledger: Ledger) -> None:
    day = timedelta(days=1)
    now = datetime.now(UTC)
    ledger.usage.add_reading("a", {"acme.m": counters(10), "m": counters(1)})
    ledger.usage.add_reading("a", {"acme.m": counters(10), "m": counters(1)})
    ledger.usage.add_reading("a", {"acme.m": counters(12)})
    ledger.usage.add_reading("b", {"acme.m": counters(3)})
    found = ledger.usage.of(tenant="acme", since=now - day, until=now + day)
    assert sum(hour.requests for hour in found) == 15
    assert sum(hour.received_bytes for hour in found) == 2 * 2**40
    assert {(hour.tenant, hour.model, hour.hour.minute) for hour in found} == {("acme", "m", 0)}
    both = ledger.usage.of(tenant=None, since=now - day, until=now + day)
    assert sum(hour.requests for hour in both) == 16
    assert ledger.usage.of(tenant="acme", since=now + day, until=now + 2 * day) == ()


def test_readers_at_once_count_nothing_twice(ledger: Ledger) -> None:
    readings = [{"acme.m": counters(number)} for number in range(1, 6)]
    threads = [
        threading.Thread(target=ledger.usage.add_reading, args=(boot, readings[-1]))
        for boot in "aabb"
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    now = datetime.now(UTC)
    found = ledger.usage.of(tenant=None, since=now - timedelta(days=1), until=now + timedelta(days=1))
    assert sum(hour.requests for hour in found) == 10


def counted(ledger: Ledger) -> int:
    found = ledger.usage.of(tenant=None, since=NOON - timedelta(days=1), until=NOON + timedelta(days=9999))
    return sum(hour.requests for hour in found)


def test_a_reading_that_comes_after_a_later_one_counts_nothing(ledger: Ledger) -> None:
    for number in (10, 5, 12):
        ledger.usage.add_reading("a", {"m": counters(number)})
    assert counted(ledger) == 12
    ledger.usage.add_reading("a", {"n": counters(1)})
    ledger.usage.add_reading("a", {"m": counters(12), "n": counters(1)})
    assert counted(ledger) == 13


def test_a_worker_that_is_read_is_remembered_however_long_it_is_idle(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(10):
        monkeypatch.setattr(usage, "datetime", SimpleNamespace(now=lambda _, day=day: NOON + timedelta(days=day)))
        ledger.usage.add_reading("idle", {"m": counters(10)})
        ledger.usage.add_reading("busy", {"m": counters(1 + day)})
    ledger.usage.add_reading("idle", {"m": counters(11)})
    assert counted(ledger) == 11 + 10


def test_claims_at_once_never_take_more_than_the_quota(ledger: Ledger) -> None:
    ledger.tenants.add("acme", Quotas(models=2, versions=3))
    started, short = threading.Barrier(8), []

    def claim(number: int) -> None:
        status = optimization(f"{number:032x}", f"acme.m{number % 4}", OptimizationState.QUEUED)
        started.wait(60)
        short.append(ledger.tenants.claim_version(status))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    begun = ledger.optimizations()
    assert (len(short), len(begun)) == (8, short.count(None))
    assert len(begun) <= 3
    assert 1 <= len({status.model for status in begun}) <= 2
    for found in short:
        assert found is None or (found.quota, found.limit) in (("models", 2), ("versions", 3))
    ledger.tenants.set_quotas("acme", Quotas(versions=len(begun) + 1))
    assert ledger.tenants.claim_version(optimization("a" * 32, "acme.m9", OptimizationState.QUEUED)) is None
    full = ledger.tenants.claim_version(optimization("b" * 32, "acme.m9", OptimizationState.QUEUED))
    assert full == Shortage("versions", len(begun) + 1, len(begun) + 1, 1)


def test_what_has_ended_and_what_is_anothers_takes_no_place(ledger: Ledger) -> None:
    ledger.tenants.add("acme", Quotas(models=1, versions=2))
    ledger.admit("acme.m", served(1))
    ledger.save_optimization(optimization("c" * 32, "acme.m", OptimizationState.FAILED))
    ledger.save_optimization(optimization("d" * 32, "other.m", OptimizationState.RUNNING))
    other = ledger.tenants.claim_version(optimization("e" * 32, "acme.new", OptimizationState.QUEUED))
    assert other == Shortage("models", 1, 1, 1)
    assert ledger.tenants.claim_version(optimization("f" * 32, "acme.m", OptimizationState.QUEUED)) is None
    with pytest.raises(ModelNotFound, match="no tenant 'nobody'"):
        ledger.tenants.claim_version(optimization("0" * 32, "nobody.m", OptimizationState.QUEUED))
