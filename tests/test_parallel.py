"""The ordered map: order, bound, errors in turn, and an early end."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time

import pytest

from patchct_edge.parallel import ordered_map


def test_results_keep_the_order_of_the_items():
    def slow_at_first(n):
        time.sleep(0.02 if n % 4 == 0 else 0)
        return n * n

    found = list(ordered_map(slow_at_first, range(20), workers=4, ahead=8))
    assert found == [n * n for n in range(20)]


@pytest.mark.parametrize("items", [[], [1], [1, 2, 3]])
@pytest.mark.parametrize("ahead", [1, 2, 50])
def test_any_number_of_items_and_any_bound(items, ahead):
    assert list(ordered_map(str, items, workers=2, ahead=ahead)) == [str(n) for n in items]


def test_threads_work_at_the_same_time():
    together = threading.Barrier(3, timeout=10)
    assert len(list(ordered_map(lambda _: together.wait(), range(3), workers=3, ahead=3))) == 3


@pytest.mark.parametrize("ahead", [1, 3, 6])
def test_no_more_than_the_bound_is_taken_from_an_endless_source(ahead):
    taken = itertools.count()
    results = ordered_map(lambda n: n, taken, workers=2, ahead=ahead)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert next(taken) <= 10 + ahead
    results.close()


def test_nothing_starts_before_the_first_result_is_asked_for():
    started = []
    results = ordered_map(started.append, range(3), workers=1, ahead=2)
    assert started == []
    list(results)
    assert started == [0, 1, 2]


def test_an_exception_is_raised_in_its_turn():
    def third_fails(n):
        if n == 2:
            raise ValueError(f"item {n}")
        return n

    results = ordered_map(third_fails, range(9), workers=3, ahead=6)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="item 2"):
        next(results)
    assert list(results) == []


def test_an_exception_of_the_source_comes_through():
    def items():
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(ordered_map(str, items(), workers=1, ahead=4))


def test_closing_early_cancels_what_has_not_started():
    started, go_on = [], threading.Event()

    def work(n):
        started.append(n)
        if n:
            go_on.wait(10)
        return n

    results = ordered_map(work, range(100), workers=1, ahead=20)
    assert next(results) == 0
    threading.Timer(0.1, go_on.set).start()
    results.close()
    assert started in ([0], [0, 1])
    time.sleep(0.05)
    assert len(started) <= 2
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_what_takes_too_long_is_given_up_and_the_rest_goes_on():
    stuck = threading.Event()

    def work(n):
        if n in (1, 2, 5):
            stuck.wait(20)
        return n

    results = ordered_map(
        work, range(8), workers=2, ahead=4, limit=0.2, late=lambda n: f"{n} gave up"
    )
    began = time.monotonic()
    assert list(results) == [0, "1 gave up", "2 gave up", 3, 4, "5 gave up", 6, 7]
    assert time.monotonic() - began < 5
    stuck.set()


def test_a_slow_item_within_the_limit_is_waited_for():
    late = [].append
    found = ordered_map(
        lambda n: time.sleep(0.1) or n, range(6), workers=1, ahead=6, limit=0.4, late=late
    )
    assert list(found) == list(range(6))


def test_a_timeout_of_the_function_itself_is_its_own_error():
    def work(n):
        raise TimeoutError(f"item {n}")

    with pytest.raises(TimeoutError, match="item 0"):
        list(ordered_map(work, range(3), workers=1, ahead=2, limit=5, late=str))


def test_a_stuck_thread_does_not_keep_the_process():
    code = (
        "import time; from patchct_edge.parallel import ordered_map;"
        "print(list(ordered_map(time.sleep, [0, 600], workers=1, ahead=2, limit=0.2, late=str)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (0, "[None, '600']\n")
