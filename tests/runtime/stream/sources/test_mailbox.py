"""The slot for the newest frame."""

from __future__ import annotations

import threading
import time

import numpy as np

from patchct_edge.runtime.stream.sources.frame import Frame
from patchct_edge.runtime.stream.sources.mailbox import Mailbox


def make_frame(number):
    return Frame(lambda: np.zeros((2, 2, 3), np.uint8), number, number, number, number=number)


def test_the_newest_frame_is_taken_and_overtaken_ones_are_counted():
    mailbox = Mailbox(threading.Condition())
    for number in range(5):
        mailbox.put(make_frame(number))
    newest = mailbox.take()
    assert newest is not None
    assert (newest.number, mailbox.dropped, mailbox.take()) == (4, 4, None)


def test_a_frame_that_waits_for_an_empty_slot_is_never_dropped():
    mailbox, stop = Mailbox(threading.Condition()), threading.Event()
    numbers: list[int] = []

    def put_frames():
        for number in range(20):
            mailbox.put_when_empty(make_frame(number), stop)

    thread = threading.Thread(target=put_frames)
    thread.start()
    while len(numbers) < 20:
        frame = mailbox.take()
        if frame is not None:
            numbers.append(frame.number)
        time.sleep(0.001)
    thread.join()
    assert (numbers, mailbox.dropped) == (list(range(20)), 0)


def test_stop_ends_the_wait_for_an_empty_slot():
    mailbox, stop = Mailbox(threading.Condition()), threading.Event()
    mailbox.put(make_frame(0))
    thread = threading.Thread(target=mailbox.put_when_empty, args=(make_frame(1), stop))
    thread.start()
    stop.set()
    thread.join(2)
    assert not thread.is_alive()
