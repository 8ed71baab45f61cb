import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from registry.errors import InputError
from registry.records.tenant import Scope
from serving.gateway.tenants import TENANTS_FILE, GatewayKey, GatewayTenant, GatewayTenants, set_tenants


def key(number: int, text: str | None = None) -> GatewayKey:
    plain = SecretStr(text or f"bn_{number:012x}_{'s' * 43}")
    return GatewayKey(id=f"{number:012x}", key=plain, scopes=(Scope.PREDICT,))


def test_the_tenants_are_kept_whole_in_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    tenants = (GatewayTenant(name="default"), GatewayTenant(name="acme", keys=(key(1),), requests_per_s=5.0))
    set_tenants(tmp_path, tenants, require_keys=True)
    path = tmp_path / TENANTS_FILE
    assert GatewayTenants.model_validate_json(path.read_bytes()) == GatewayTenants(require_keys=True, tenants=tenants)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_shows_itself_to_nobody() -> None:
    assert "ssss" not in repr(GatewayTenant(name="acme", keys=(key(1),)))


@pytest.mark.parametrize(
    ("tenants", "message"),
    [
        ((GatewayTenant(name="acme"), GatewayTenant(name="acme")), "acme more often"),
        (
            tuple(GatewayTenant(name=f"t{number}", keys=(key(number, "k" * 20),)) for number in (1, 2)),
            "000000000001, 000000000002 are the same text",
        ),
    ],
)
def test_what_cannot_be_is_refused_and_the_last_file_stays(
    tmp_path: Path, tenants: tuple[GatewayTenant, ...], message: str
) -> None:
    set_tenants(tmp_path, (), require_keys=False)
    before = (tmp_path / TENANTS_FILE).read_bytes()
    with pytest.raises(InputError, match=message):
        set_tenants(tmp_path, tenants, require_keys=False)
    assert (tmp_path / TENANTS_FILE).read_bytes() == before
