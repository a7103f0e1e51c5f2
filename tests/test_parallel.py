"""map_in_order: order, bound, errors in turn, timeouts, and an early end."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from patchct_edge.parallel import map_in_order


def test_results_keep_the_order_of_the_items():
    def slow_at_first(n):
        time.sleep(0.02 if n % 4 == 0 else 0)
        return n * n

    results = list(map_in_order(slow_at_first, range(20), workers=4, max_pending=8))
    assert results == [n * n for n in range(20)]


@pytest.mark.parametrize("items", [[], [1], [1, 2, 3]])
@pytest.mark.parametrize("max_pending", [1, 2, 50])
def test_any_number_of_items_and_any_bound(items, max_pending):
    assert list(map_in_order(str, items, workers=2, max_pending=max_pending)) == [
        str(n) for n in items
    ]


def test_threads_work_at_the_same_time():
    barrier = threading.Barrier(3, timeout=10)
    assert (
        len(list(map_in_order(lambda _: barrier.wait(), range(3), workers=3, max_pending=3))) == 3
    )


@pytest.mark.parametrize("max_pending", [1, 3, 6])
def test_an_endless_source_is_read_no_further_than_the_bound(max_pending):
    source = itertools.count()
    results = map_in_order(lambda n: n, source, workers=2, max_pending=max_pending)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert next(source) <= 10 + max_pending
    results.close()


def test_nothing_starts_before_the_first_result_is_asked_for():
    started: list[int] = []
    results = map_in_order(started.append, range(3), workers=1, max_pending=2)
    assert started == []
    list(results)
    assert started == [0, 1, 2]


def test_an_exception_is_raised_in_its_turn():
    def third_fails(n):
        if n == 2:
            raise ValueError(f"item {n}")
        return n

    results = map_in_order(third_fails, range(9), workers=3, max_pending=6)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="item 2"):
        next(results)
    assert list(results) == []


def test_an_exception_of_the_source_comes_through():
    def items():
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(map_in_order(str, items(), workers=1, max_pending=4))


def test_closing_early_cancels_the_items_that_have_not_started():
    started, release = [], threading.Event()

    def work(n):
        started.append(n)
        if n:
            release.wait(10)
        return n

    results = map_in_order(work, range(100), workers=1, max_pending=20)
    assert next(results) == 0
    threading.Timer(0.1, release.set).start()
    results.close()
    assert started in ([0], [0, 1])
    time.sleep(0.05)
    assert len(started) <= 2
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_an_item_that_hangs_is_replaced_and_the_rest_goes_on():
    release = threading.Event()

    def work(n):
        if n in (1, 2, 5):
            release.wait(20)
        return n

    results = map_in_order(
        work,
        range(8),
        workers=2,
        max_pending=4,
        timeout_s=0.2,
        on_timeout=lambda n: f"{n} timed out",
    )
    start = time.monotonic()
    assert list(results) == [0, "1 timed out", "2 timed out", 3, 4, "5 timed out", 6, 7]
    assert time.monotonic() - start < 5
    release.set()


def test_a_slow_item_within_the_limit_is_waited_for():
    on_timeout: Any = [].append

    def work(n):
        time.sleep(0.1)
        return n

    results = map_in_order(
        work,
        range(6),
        workers=1,
        max_pending=6,
        timeout_s=0.4,
        on_timeout=on_timeout,
    )
    assert list(results) == list(range(6))


def test_a_timeout_of_the_function_itself_is_its_own_error():
    def work(n):
        raise TimeoutError(f"item {n}")

    with pytest.raises(TimeoutError, match="item 0"):
        list(map_in_order(work, range(3), workers=1, max_pending=2, timeout_s=5, on_timeout=str))


def test_a_hanging_thread_does_not_keep_the_process():
    code = (
        "import time; from patchct_edge.parallel import map_in_order;"
        "print(list(map_in_order(time.sleep, [0, 600], workers=1, max_pending=2, timeout_s=0.2,"
        " on_timeout=str)))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (process.returncode, process.stdout) == (0, "[None, '600']\n")
