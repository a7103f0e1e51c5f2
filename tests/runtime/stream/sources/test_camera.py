"""A camera's thread over scripted sources: what is reopened, counted and told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from patchct_edge.runtime.stream.backoff import Backoff
from patchct_edge.runtime.stream.settings import CameraSettings
from patchct_edge.runtime.stream.sources.camera import Camera
from patchct_edge.runtime.stream.sources.frame import Frame, Source, SourceError

BLACK = np.zeros((4, 4, 3), np.uint8)
STALL = 0.3


class Scripted(Source):
    """Delivers `count` frames, then ends, fails, hangs, is slow, or repeats one picture."""

    live = True

    def __init__(self, count, then="end", stop=None):
        self._count, self._then = count, then
        self._freed = stop or threading.Event()
        self.interrupted = threading.Event()

    def frames(self) -> Iterator[Frame]:
        for n in range(self._count):
            yield self._frame(n)
        if self._then == "fail":
            raise SourceError("it broke at rtsp://me:secret@host/", got="a cut cable")
        if self._then == "bug":
            raise ZeroDivisionError("a bug of a library")
        while self._then == "hang" and not self.interrupted.wait(0.02):
            pass
        if self._then == "slow" and not self.interrupted.wait(STALL / 2):
            while not self.interrupted.wait(0.02):
                yield self._frame(time.monotonic_ns())
        while self._then == "freeze" and not self._freed.wait(0.02):
            yield self._frame(-1)

    def interrupt(self):
        self.interrupted.set()

    def _frame(self, n):
        now = time.monotonic()
        return Frame(lambda: BLACK, now, now, time.time(), lambda: n)


def camera(*sources, source="rtsp://me:secret@host/stream", **changes):
    """A camera that opens the sources one after the other, and then none any more."""
    waiting = list(sources)

    def opener(given, timeout, stop):
        if not waiting:
            raise SourceError("nobody there")
        found = waiting.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    given = CameraSettings(source=source, name="door", **changes)
    backoff = Backoff(0.01, 0.02)
    return Camera(given, STALL, threading.Condition(), opener=opener, backoff=backoff)


def states_of(watched, until, seconds=5):
    """Run a camera until it has told `until` events; return (state, reason) of each."""
    watched.start()
    limit = time.monotonic() + seconds
    while len(watched.events) < until and time.monotonic() < limit:
        watched.check()
        time.sleep(0.01)
    watched.stop()
    assert watched.join(2)
    watched.settle()
    return [(event.state, event.reason) for event in watched.events]


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("end", "the stream ended"),
        ("fail", "it broke at rtsp://me:***@host/; got: a cut cable"),
        ("bug", "ZeroDivisionError: a bug of a library"),
    ],
)
def test_whatever_ends_a_stream_it_is_opened_again(then, reason):
    watched = camera(Scripted(3, then), Scripted(2, then))
    found = states_of(watched, 5)
    assert found[:4] == [("connected", None), ("lost", reason)] * 2
    assert found[4] == ("lost", "nobody there")
    assert (watched.counts.captured, watched.counts.connects) == (5, 2)
    assert watched.counts.dropped == 5  # nobody took one


def test_the_same_complaint_is_told_once():
    refused = [SourceError("refused") for _ in range(5)]
    watched = camera(*refused, Scripted(1))
    found = states_of(watched, 4)
    assert [state for state, _ in found] == ["lost", "connected", "lost", "lost"]


def test_a_camera_that_hangs_within_a_library_is_freed():
    hanging = Scripted(1, "hang")
    watched = camera(hanging)
    states_of(watched, 2)
    assert hanging.interrupted.is_set()


def test_a_picture_that_never_changes_counts_as_lost_until_it_does():
    stop = threading.Event()
    watched = camera(*[Scripted(0, "freeze", stop) for _ in range(3)], Scripted(5))
    found = states_of(watched, 4)
    stop.set()
    frozen = ("lost", "the camera delivers the same picture for ever")
    assert found[:4] == [
        ("connected", None),
        frozen,
        ("connected", None),
        ("lost", "the stream ended"),
    ]
    assert watched.counts.connects == 2


def test_a_camera_that_comes_back_late_has_its_time_for_the_first_frame():
    slow = Scripted(0, "slow")
    watched = camera(*[SourceError("refused") for _ in range(60)], slow)  # for longer than 2 STALL
    found = states_of(watched, 2)
    assert found == [("lost", "refused"), ("connected", None)]
    assert watched.counts.captured > 0


def test_a_bug_ends_a_file_with_an_error(tmp_path):
    bug = Scripted(1, "bug")
    bug.live = False
    watched = camera(bug, source=str(tmp_path))
    states_of(watched, 2)
    assert watched.done
    assert watched.error == "ZeroDivisionError: a bug of a library"


def test_numbers_count_every_frame_whatever_becomes_of_it():
    watched = camera(Scripted(7))
    watched.start()
    time.sleep(0.3)
    assert watched.mailbox.take().number == 7
    watched.stop()
    watched.join(2)


@pytest.mark.parametrize(("fps", "left"), [(10, 100), (30, 300), (40, 300)])
def test_fps_takes_an_even_share(fps, left):
    class Timed(Source):
        live = True

        def frames(self):
            for n in range(300):
                yield Frame(lambda: BLACK, round(n / 30, 3), time.monotonic(), time.time())

    watched = camera(Timed(), max_fps=fps)
    states_of(watched, 2)
    assert watched.counts.captured - watched.counts.skipped == left


def test_an_event_knows_the_frame_before_it():
    watched = camera(Scripted(3), Scripted(4))
    states_of(watched, 5)
    assert [event.after for event in watched.events] == [0, 3, 3, 7, 7]
