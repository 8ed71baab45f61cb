from pathlib import Path

import pytest

from burnish.stack.home import bring_up, require_keys_beyond_loopback
from flows.settings import StackSettings
from registry.errors import InputError


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "gpu-host"])
def test_a_stack_that_others_can_reach_needs_keys_and_writes_nothing_without(tmp_path: Path, host: str) -> None:
    home = tmp_path / "home"
    with pytest.raises(InputError, match="BURNISH_REQUIRE_KEYS=true"):
        bring_up(StackSettings(home=home, host=host), lambda *_: None)
    assert not home.exists()
    require_keys_beyond_loopback(StackSettings(home=home, host=host, require_keys=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_a_laptop_needs_none(tmp_path: Path, host: str) -> None:
    require_keys_beyond_loopback(StackSettings(home=tmp_path, host=host))
