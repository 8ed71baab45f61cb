"""Memory: what is in use is told apart from what the allocator keeps, and the peak from what stays."""

import ctypes
import gc
import threading
from collections.abc import Iterator

import pytest

from serving.memory import (
    allocated_bytes,
    give_back,
    keep_large_blocks_apart,
    peak_bytes,
    resident_set_bytes,
    start_peak,
    thread_count,
)

MIB = 2**20


@pytest.fixture(autouse=True)
def _nothing_of_other_tests_is_freed_meanwhile() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_what_is_in_use_counts_at_once_and_no_more_when_it_is_freed() -> None:
    before = allocated_bytes()
    held = ctypes.create_string_buffer(8 * MIB)
    assert allocated_bytes() - before > 7 * MIB, "other threads may free some"
    del held
    assert allocated_bytes() - before < 4 * MIB


def test_large_blocks_go_back_when_they_are_freed() -> None:
    keep_large_blocks_apart()
    blocks = [ctypes.create_string_buffer(4 * MIB) for _ in range(10)]
    full = resident_set_bytes()
    del blocks[1::2]
    assert full - resident_set_bytes() > 15 * MIB
    del blocks
    give_back()
    assert full - resident_set_bytes() > 30 * MIB


def test_the_peak_is_seen_after_it_is_over() -> None:
    before = start_peak()
    ctypes.memset(ctypes.create_string_buffer(32 * MIB), 1, 32 * MIB)
    assert peak_bytes() - before >= 30 * MIB
    assert start_peak() - before < 16 * MIB


def test_threads_more_are_counted() -> None:
    before = thread_count()
    go = threading.Event()
    threads = [threading.Thread(target=go.wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    more = thread_count() - before
    go.set()
    for thread in threads:
        thread.join()
    assert 15 <= more <= 25, "a few others of this process may come or go meanwhile"
