"""Names of tenants and models, and keys that hold for a time."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from registry.records.tenant import ApiKey, QualifiedName, Quotas, Scope, TenantName, qualified, split_name

NAMES = TypeAdapter(QualifiedName)
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("tenant", ["default", "acme", "a-1"])
@pytest.mark.parametrize("model", ["m", "digits_2", "a-b"])
def test_a_qualified_name_splits_into_what_it_was_made_of(tenant: str, model: str) -> None:
    assert split_name(NAMES.validate_python(qualified(tenant, model))) == (tenant, model)


def test_the_default_tenants_models_keep_their_names() -> None:
    assert qualified("default", "digits") == "digits"
    assert qualified("acme", "digits") == "acme.digits"


@pytest.mark.parametrize("name", ["", ".m", "acme.", "acme.a.b", "ac_me.m", "Acme.m", "acme.M", f"{'a' * 32}.m", "a/b"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        NAMES.validate_python(name)


def test_the_longest_qualified_name_fits_its_column() -> None:
    longest = qualified("t" * 31, "m" * 63)
    assert NAMES.validate_python(longest) == longest
    assert len(longest) == 95


@pytest.mark.parametrize("name", ["", "-a", "a_b", "a.b", "A", "a" * 32])
def test_a_tenant_has_a_plain_name(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(TenantName).validate_python(name)


def key(**changes: datetime) -> ApiKey:
    made = {"id": "0" * 12, "tenant": "acme", "sha256": "ab" * 32, "scopes": (Scope.PREDICT,), "made_at": NOON}
    return ApiKey.model_validate({**made, **changes})


def test_a_key_holds_until_it_expires_or_is_revoked() -> None:
    assert key().holds_at(NOON + timedelta(days=999))
    rotated = key(expires_at=NOON + timedelta(hours=1))
    assert rotated.holds_at(NOON + timedelta(minutes=59))
    assert not rotated.holds_at(NOON + timedelta(hours=1))
    assert not key(revoked_at=NOON).holds_at(NOON)


def test_a_keys_hash_is_not_in_what_it_prints() -> None:
    assert "abab" not in repr(key())


@pytest.mark.parametrize(
    "rates", [{"bytes_per_s": 2**32}, {"bytes_per_s": 0}, {"requests_per_s": 1e-7}, {"requests_per_s": 1e7}]
)
def test_a_rate_that_no_bucket_of_the_gateway_can_hold_is_refused(rates: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Quotas.model_validate(rates)
