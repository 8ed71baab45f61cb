"""A route's policy, shadow and traffic are changed as its champion is, on SQLite and on Postgres."""

import pytest

from registry.errors import InputError, ModelNotFound, VersionConflict
from registry.ledger.ledger import Ledger
from registry.records.change import Promote, RollBack, SetPolicy, SetShadow, SetTraffic
from registry.records.release import ServingPolicy, Shadow, TrafficSplit
from tests.drafts import change


def promote(ledger: Ledger, version: int, expected: int | None = None) -> int:
    return ledger.change_route(change(Promote(version=version), expected_generation=expected)).generation


def roll_back(ledger: Ledger, expected: int | None = None) -> int:
    return ledger.change_route(change(RollBack(), expected_generation=expected)).champion


def test_a_change_of_policy_or_shadow_is_a_generation_with_its_event(digits: Ledger) -> None:
    promote(digits, 1)
    policy = ServingPolicy(latency_objective_ms=5, pinned=True)
    route = digits.change_route(change(SetPolicy(policy=policy), reason="slow", expected_generation=1))
    assert (route.generation, route.champion, route.policy, route.shadow) == (2, 1, policy, None)
    shadow = Shadow(version=2, percent=12.5)
    route = digits.change_route(change(SetShadow(shadow=shadow), actor="ben", reason="try"))
    assert (route.generation, route.policy, route.shadow) == (3, policy, shadow)
    assert digits.route("digits") == route
    seen = [(event.action.value, event.policy, event.shadow, event.previous) for event in digits.history("digits")]
    assert seen == [
        ("promote", ServingPolicy(), None, None),
        ("policy", policy, None, 1),
        ("shadow", policy, shadow, 1),
    ]
    with pytest.raises(VersionConflict, match="ben changed its shadow"):
        digits.change_route(change(SetPolicy(policy=ServingPolicy()), expected_generation=2))
    assert digits.change_route(change(SetPolicy(policy=policy), reason="again")).generation == 3, "nothing to change"
    assert digits.change_route(change(SetShadow(shadow=shadow), reason="again")).generation == 3


def test_releases_keep_the_policy_and_end_the_shadow_that_becomes_champion(digits: Ledger) -> None:
    promote(digits, 1)
    policy, shadow = ServingPolicy(cache_mib=3), Shadow(version=2)
    digits.change_route(change(SetPolicy(policy=policy)))
    digits.change_route(change(SetShadow(shadow=shadow)))
    promote(digits, 3)
    route = digits.route("digits")
    assert route is not None
    assert (route.policy, route.shadow) == (policy, shadow)
    promote(digits, 2)
    route = digits.route("digits")
    assert route is not None
    assert (route.champion, route.policy, route.shadow) == (2, policy, None)
    digits.change_route(change(SetShadow(shadow=Shadow(version=3))))
    assert roll_back(digits) == 3
    route = digits.route("digits")
    assert route is not None
    assert (route.policy, route.shadow, route.generation) == (policy, None, 7)


def test_a_shadow_is_an_admitted_version_that_is_not_live(digits: Ledger) -> None:
    with pytest.raises(ModelNotFound, match="nothing of 'digits' is live"):
        digits.change_route(change(SetShadow(shadow=Shadow(version=2))))
    with pytest.raises(ModelNotFound, match="nothing of 'digits' is live"):
        digits.change_route(change(SetPolicy(policy=ServingPolicy())))
    promote(digits, 1)
    with pytest.raises(InputError, match="version 1 of 'digits' is live"):
        digits.change_route(change(SetShadow(shadow=Shadow(version=1))))
    with pytest.raises(ModelNotFound, match=r"version 9 .* admitted: 1, 2, 3"):
        digits.change_route(change(SetShadow(shadow=Shadow(version=9))))
    assert digits.change_route(change(SetShadow(shadow=None))).generation == 1
    assert len(digits.history("digits")) == 1


def test_a_split_of_the_traffic_keeps_the_champion_in_it_and_ends_with_a_promotion(digits: Ledger) -> None:
    halves = TrafficSplit(weights={1: 50, 2: 50})
    with pytest.raises(ModelNotFound, match="nothing of 'digits' is live"):
        digits.change_route(change(SetTraffic(split=halves)))
    promote(digits, 1)
    digits.change_route(change(SetShadow(shadow=Shadow(version=2))))
    route = digits.change_route(change(SetTraffic(split=halves), expected_generation=2))
    assert (route.generation, route.champion, route.split, route.shadow) == (3, 1, halves, None)
    assert digits.change_route(change(SetTraffic(split=halves))).generation == 3, "nothing to change"
    with pytest.raises(VersionConflict, match="ana changed its traffic"):
        promote(digits, 2, expected=2)
    for weights, message in (({2: 100.0}, "version 1 is the champion"), ({1: 100.0, 3: 0.0}, "version 3 .* 0 %")):
        with pytest.raises(InputError, match=message):
            digits.change_route(change(SetTraffic(split=TrafficSplit(weights=weights))))
    with pytest.raises(ModelNotFound, match=r"version 9 .* admitted: 1, 2, 3"):
        digits.change_route(change(SetTraffic(split=TrafficSplit(weights={1: 50, 9: 50}))))
    assert promote(digits, 1) == 4, "the champion takes all of it again"
    with pytest.raises(InputError, match="nothing to roll back to"):
        roll_back(digits, expected=4)
    assert [event.split for event in digits.history("digits")[2:]] == [halves, TrafficSplit(weights={1: 100})]
