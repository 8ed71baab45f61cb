import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from registry.disk_space import require_room, told_when_full
from registry.errors import StorageFull


def test_a_share_of_the_disk_is_never_given_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.disk_space.shutil.disk_usage", lambda _: SimpleNamespace(total=10_000, free=1000))
    require_room(tmp_path, 900)
    with pytest.raises(StorageFull, match=r"901 bytes do not fit: .* has 900 left"):
        require_room(tmp_path, 901)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_error(tmp_path: Path, number: int) -> None:
    with pytest.raises(StorageFull, match=f"the disk of {tmp_path} is full"), told_when_full(tmp_path):
        raise OSError(number, "full")


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), told_when_full(tmp_path):
        raise PermissionError(errno.EACCES, "no")
