"""The response cache: equal to the bit or not at all, bounded, the least recently used forgotten first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.response_cache import ResponseCache, request_key
from serving.runtime import Array, Arrays
from tests.unit.serving.engine.doubles import served

X = np.array([[1, 2]], np.float32)


def text(*elements: bytes) -> Array:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array


DIFFERENT: list[Arrays] = [
    {"x": X},
    {"z": X},
    {"x": X.astype(np.float64)},
    {"x": X.reshape(2, 1)},
    {"x": X.view(np.int32)},
    {"x": -X},
    {"x": X, "z": X},
    {"x": np.array([[0.0]], np.float32)},
    {"x": np.array([[-0.0]], np.float32)},
    {"x": text(b"ab", b"c")},
    {"x": text(b"a", b"bc")},
    {"x": text(b"abc", b"")},
]


def test_whatever_differs_has_a_key_of_its_own() -> None:
    keys = {
        request_key(version, inputs) for version in (served(1), served(2), served(1, "other")) for inputs in DIFFERENT
    }
    assert len(keys) == 3 * len(DIFFERENT)


def test_equal_requests_have_one_key_however_their_arrays_are_held() -> None:
    wide = np.array([[1, 9, 2, 9]], np.float32)
    assert request_key(served(1), {"x": wide[:, ::2]}) == request_key(served(1), {"x": X})
    assert request_key(served(1), {"x": text(b"a" * 3)}) == request_key(served(1), {"x": text(b"aaa")})


def test_what_is_kept_is_a_copy_that_nobody_can_change() -> None:
    batch = np.arange(8, dtype=np.float32).reshape(4, 2)
    cache = ResponseCache(10_000)
    cache.put(b"k", {"y": batch[1:2]})
    batch[:] = 0
    kept = cache.get(b"k")
    assert kept is not None
    assert kept["y"].tolist() == [[2, 3]]
    assert kept["y"].base is None
    with pytest.raises(ValueError, match="read-only"):
        kept["y"][0, 0] = 1


def test_the_least_recently_used_is_forgotten_and_the_too_large_never_kept() -> None:
    cache = ResponseCache(3 * 1512)
    for name in (b"a", b"b", b"c"):
        cache.put(name, {"y": np.zeros(250, np.float32)})
    cache.get(b"a")
    cache.put(b"d", {"y": np.zeros(250, np.float32)})
    assert [name for name in (b"a", b"b", b"c", b"d") if cache.get(name)] == [b"a", b"c", b"d"]
    cache.put(b"large", {"y": np.zeros(2000, np.float32)})
    assert cache.get(b"large") is None
    assert cache.get(b"a") is not None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 300)), max_size=60), st.integers(600, 4000))
def test_it_never_holds_more_than_it_may(puts: list[tuple[int, int]], max_bytes: int) -> None:
    cache, sizes = ResponseCache(max_bytes), {}
    for name, size in puts:
        key = bytes([name])
        if cache.get(key) is None:
            sizes[key] = size
        cache.put(key, {"y": np.full(size, name, np.float32)})
        found = cache.get(key)
        assert (found is None) == (512 + 4 * sizes[key] > max_bytes)
        assert found is None or found["y"].tolist() == [name] * sizes[key]
        assert 0 <= cache.bytes <= max_bytes
