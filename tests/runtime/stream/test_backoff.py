"""Delays between attempts."""

from __future__ import annotations

from patchct_edge.runtime.stream.backoff import Backoff


def test_delays_double_up_to_the_limit_and_start_again_after_a_reset():
    backoff = Backoff(1, 10, uniform=lambda: 0.0)
    assert [backoff.next_delay() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.reset()
    assert backoff.next_delay() == 1


def test_delays_are_randomly_shortened_by_up_to_half():
    assert Backoff(8, uniform=lambda: 1.0).next_delay() == 4
    delays = {Backoff(8).next_delay() for _ in range(50)}
    assert len(delays) > 40
    assert all(4 <= delay <= 8 for delay in delays)
