"""The servers of the benchmark: what they are sent, and that nothing is unpinned."""

import re
from pathlib import Path

import numpy as np
import orjson
import pytest

from benchmarks.serving.environments import PEERS
from benchmarks.serving.network import INPUTS, binary_head, expected, sample, write_networks, write_requests

ROOT = Path(__file__).parents[4]
PINNED = re.compile(r"[a-z0-9-]+==[0-9a-z.]+")


def requirements(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("peer", [folder.name for folder in PEERS.iterdir() if (folder / "requirements.txt").is_file()])
def test_every_distribution_of_a_peer_is_pinned(peer: str) -> None:
    lines = requirements(PEERS / peer / "requirements.txt")
    assert lines
    assert [line for line in lines if not PINNED.fullmatch(line)] == []


def test_the_bare_server_has_the_libraries_of_the_engine() -> None:
    ours = requirements(ROOT / "constraints.txt")
    assert [line for line in requirements(PEERS / "bare" / "requirements.txt") if line not in ours] == []


def test_all_forms_of_a_request_hold_the_same_sample(tmp_path: Path) -> None:
    write_networks(tmp_path)
    write_requests(tmp_path)
    for name, inputs in INPUTS.items():
        x = sample(name)
        tensor = orjson.loads((tmp_path / f"{name}.json").read_bytes())["inputs"][0]
        assert np.array_equal(np.array(tensor["data"], np.float32).reshape(tensor["shape"]), x)
        assert np.array_equal(np.array(orjson.loads((tmp_path / f"{name}.lists").read_bytes())["x"], np.float32), x)
        binary = (tmp_path / f"{name}.binary").read_bytes()
        assert np.array_equal(np.frombuffer(binary[len(binary_head(name)) :], np.float32), x[0])
        assert x.shape == (1, inputs)
        assert np.abs(expected(tmp_path, name)).max() > 0
