"""The bounded queue before a sink."""

from __future__ import annotations

import threading
import time

import pytest
from messages import close_worker, frame_row

from patchct_edge.logs import RecurringFailureFilter
from patchct_edge.runtime.stream.sinks import base
from patchct_edge.runtime.stream.sinks.base import Sink, SinkWorker

QUIET_PERIOD_S = 0.2


class GateSink(Sink):
    """Delivers while its gate is open; raises `error` if there is one."""

    name, capacity = "gate", 5

    def __init__(self):
        super().__init__()
        self.gate, self.error, self.frames = threading.Event(), None, []

    def accepts(self, message):
        return True

    def deliver(self, message, rgb):
        self.gate.wait(5)
        if self.error is not None:
            raise self.error
        self.frames.append(message.frame)


@pytest.fixture
def short_quiet_period(monkeypatch):
    """Let failures count as over after a short time."""
    monkeypatch.setattr(base.logger, "filters", [RecurringFailureFilter(QUIET_PERIOD_S)])


def test_a_slow_sink_loses_the_oldest_messages_and_nobody_waits():
    sink = GateSink()
    worker = SinkWorker(sink)
    start = time.monotonic()
    for number in range(100):
        worker.put(frame_row(number), None)
    assert time.monotonic() - start < 0.5
    sink.gate.set()
    counts = close_worker(worker)
    assert sink.frames[-5:] == [95, 96, 97, 98, 99]
    assert counts.delivered + counts.dropped == 100
    assert counts.lost == 0


def test_undelivered_messages_are_counted_as_lost_at_the_end():
    sink = GateSink()
    worker = SinkWorker(sink)
    for number in range(4):
        worker.put(frame_row(number), None)
    counts = close_worker(worker, 0.2)
    sink.gate.set()
    assert (counts.delivered, counts.lost) == (0, 4)


def test_a_recurring_failure_is_logged_when_it_begins_and_when_it_ends(caplog, short_quiet_period):
    caplog.set_level("INFO", "patchct_edge")
    sink = GateSink()
    sink.gate.set()
    sink.capacity = 100
    worker = SinkWorker(sink)
    for number in range(20):
        fails = number < 10 and number != 5  # one success among the failures
        sink.error = OSError("no route to http://me:secret@host/") if fails else None
        time.sleep(1.5 * QUIET_PERIOD_S if number == 19 else 0)
        worker.put(frame_row(number), None)
        while worker.counts.delivered + worker.counts.failed <= number:
            time.sleep(0.001)
    assert close_worker(worker).failed == 9
    assert caplog.messages == [
        "gate: cannot deliver: no route to http://me:***@host/",
        "gate: works again; 9 messages failed",
    ]


def test_a_failure_while_idle_is_logged_and_the_sink_goes_on(caplog, monkeypatch):
    sink = GateSink()
    sink.gate.set()
    maintained = threading.Event()

    def fail_to_maintain():
        maintained.set()
        raise OSError("the disk is gone")

    monkeypatch.setattr(sink, "maintain", fail_to_maintain)
    worker = SinkWorker(sink)
    assert maintained.wait(5)
    worker.put(frame_row(1), None)
    assert close_worker(worker).delivered == 1
    assert caplog.messages == ["gate: cannot deliver: the disk is gone"]


def test_a_sink_that_cannot_be_opened_is_logged_and_nobody_waits(caplog, monkeypatch):
    sink = GateSink()
    sink.backpressure = True

    def fail_to_open():
        raise OSError("no such database: db://me:secret@host/")

    monkeypatch.setattr(sink, "open", fail_to_open)
    worker = SinkWorker(sink)
    for number in range(10):
        worker.put(frame_row(number), None, threading.Event())
    counts = close_worker(worker)
    assert (counts.delivered, counts.dropped, counts.lost) == (0, 5, 5)
    (message,) = caplog.messages
    assert message.startswith("gate: cannot be opened; its messages are lost\nTraceback")
    assert message.endswith("OSError: no such database: db://me:***@host/")
    assert "secret" not in caplog.text
