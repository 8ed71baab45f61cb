"""The quotas of memory reach the engine's file, and it is written only when they change."""

from pathlib import Path

from flows import resident_quotas
from registry.records.tenant import Quotas
from serving.engine.tenant_shares import LimitsFile
from tests.unit.flows.api_stack import fake_stack


def test_the_file_follows_the_ledger(tmp_path: Path) -> None:
    stack = fake_stack(tmp_path)
    ledger, catalog = stack.platform.ledger, tmp_path / "elsewhere"
    assert not resident_quotas.tell(ledger, catalog, 2), "nobody has a quota"
    ledger.tenants.add("acme", Quotas(resident_bytes=15))
    ledger.tenants.add("beta", Quotas())
    assert [resident_quotas.tell(ledger, catalog, 2) for _ in range(2)] == [True, False]
    assert LimitsFile(catalog).look() == {"acme": 7}, "the part of each of two workers"
    ledger.tenants.set_quotas("acme", Quotas())
    assert resident_quotas.tell(ledger, catalog, 2)
    assert LimitsFile(catalog).look() == {}
