"""The one slot before the loop, and the waits before a stream is tried again."""

from __future__ import annotations

import threading
import time

import numpy as np

from patchct_edge.runtime.stream.backoff import Backoff
from patchct_edge.runtime.stream.sources.frame import Frame
from patchct_edge.runtime.stream.sources.mailbox import Mailbox


def frame(number):
    return Frame(lambda: np.zeros((2, 2, 3), np.uint8), number, number, number, number=number)


def test_the_newest_frame_is_taken_and_the_overtaken_are_counted():
    box = Mailbox(threading.Condition())
    for number in range(5):
        box.put(frame(number))
    assert (box.take().number, box.dropped, box.take()) == (4, 4, None)


def test_a_frame_that_waits_for_its_turn_is_never_dropped():
    box, stop, taken = Mailbox(threading.Condition()), threading.Event(), []

    def put():
        for number in range(20):
            box.put_after(frame(number), stop)

    thread = threading.Thread(target=put)
    thread.start()
    while len(taken) < 20:
        found = box.take()
        if found is not None:
            taken.append(found.number)
        time.sleep(0.001)
    thread.join()
    assert (taken, box.dropped) == (list(range(20)), 0)


def test_waiting_for_a_turn_ends_when_told_to_stop():
    box, stop = Mailbox(threading.Condition()), threading.Event()
    box.put(frame(0))
    thread = threading.Thread(target=box.put_after, args=(frame(1), stop))
    thread.start()
    stop.set()
    thread.join(2)
    assert not thread.is_alive()


def test_delays_double_up_to_the_cap_and_begin_anew():
    backoff = Backoff(1, 10, uniform=lambda: 0.0)
    assert [backoff.delay() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.reset()
    assert backoff.delay() == 1


def test_chance_takes_up_to_half_of_a_delay():
    assert Backoff(8, uniform=lambda: 1.0).delay() == 4
    delays = {Backoff(8).delay() for _ in range(50)}
    assert len(delays) > 40
    assert all(4 <= delay <= 8 for delay in delays)
