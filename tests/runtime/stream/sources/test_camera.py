"""A camera's thread over scripted sources: what is reopened, counted and reported."""

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

BLACK_PICTURE = np.zeros((4, 4, 3), np.uint8)
STALL_TIMEOUT_S = 0.3


class ScriptedSource(Source):
    """Delivers `count` frames, then ends, fails, hangs, is slow, or repeats one picture."""

    live = True

    def __init__(self, count, then="end", stop=None):
        self._count, self._then = count, then
        self._stop_freezing = stop or threading.Event()
        self.interrupted = threading.Event()

    def read_frames(self) -> Iterator[Frame]:
        for number in range(self._count):
            yield self._make_frame(number)
        if self._then == "fail":
            raise SourceError("it broke at rtsp://me:secret@host/", got="a cut cable")
        if self._then == "bug":
            raise ZeroDivisionError("a bug of a library")
        while self._then == "hang" and not self.interrupted.wait(0.02):
            pass
        if self._then == "slow" and not self.interrupted.wait(STALL_TIMEOUT_S / 2):
            while not self.interrupted.wait(0.02):
                yield self._make_frame(time.monotonic_ns())
        while self._then == "freeze" and not self._stop_freezing.wait(0.02):
            yield self._make_frame(-1)

    def interrupt(self):
        self.interrupted.set()

    def _make_frame(self, checksum):
        now = time.monotonic()
        return Frame(lambda: BLACK_PICTURE, now, now, time.time(), lambda: checksum)


def make_camera(*sources, source="rtsp://me:secret@host/stream", **settings):
    """Return a camera that opens the sources one after the other; an exception is raised."""
    remaining = list(sources)

    def open_next(settings, timeout, stop):
        if not remaining:
            raise SourceError("nobody there")
        opened_source = remaining.pop(0)
        if isinstance(opened_source, Exception):
            raise opened_source
        return opened_source

    return Camera(
        CameraSettings(source=source, name="door", **settings),
        STALL_TIMEOUT_S,
        threading.Condition(),
        opener=open_next,
        backoff=Backoff(0.01, 0.02),
    )


def run_until(camera, events, seconds=5):
    """Run a camera until there are so many events; return the (state, reason) of each."""
    camera.start()
    deadline = time.monotonic() + seconds
    while len(camera.events) < events and time.monotonic() < deadline:
        camera.interrupt_if_stalled()
        time.sleep(0.01)
    camera.stop()
    assert camera.join(2)
    camera.drop_waiting_frame()
    return [(event.state, event.reason) for event in camera.events]


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("end", "the stream ended"),
        ("fail", "it broke at rtsp://me:***@host/; got: a cut cable"),
        ("bug", "ZeroDivisionError: a bug of a library"),
    ],
)
def test_a_source_is_reopened_however_it_ends(then, reason):
    camera = make_camera(ScriptedSource(3, then), ScriptedSource(2, then))
    events = run_until(camera, 5)
    assert events[:4] == [("connected", None), ("lost", reason)] * 2
    assert events[4] == ("lost", "nobody there")
    assert (camera.counts.captured, camera.counts.connects) == (5, 2)
    assert camera.counts.dropped == 5  # nobody took one


def test_a_repeated_failure_is_reported_once():
    refusals = [SourceError("refused") for _ in range(5)]
    camera = make_camera(*refusals, ScriptedSource(1))
    events = run_until(camera, 4)
    assert [state for state, _ in events] == ["lost", "connected", "lost", "lost"]


def test_a_camera_that_hangs_within_a_library_is_interrupted():
    hanging = ScriptedSource(1, "hang")
    run_until(make_camera(hanging), 2)
    assert hanging.interrupted.is_set()


def test_a_frozen_feed_counts_as_lost_until_the_picture_changes():
    stop = threading.Event()
    frozen = [ScriptedSource(0, "freeze", stop) for _ in range(3)]
    camera = make_camera(*frozen, ScriptedSource(5))
    events = run_until(camera, 4)
    stop.set()
    assert events[:4] == [
        ("connected", None),
        ("lost", "camera feed is frozen"),
        ("connected", None),
        ("lost", "the stream ended"),
    ]
    assert camera.counts.connects == 2


def test_a_camera_that_was_away_for_long_has_the_full_timeout_for_its_first_frame():
    # Refused for longer than twice the timeout.
    refusals = [SourceError("refused") for _ in range(60)]
    camera = make_camera(*refusals, ScriptedSource(0, "slow"))
    events = run_until(camera, 2)
    assert events == [("lost", "refused"), ("connected", None)]
    assert camera.counts.captured > 0


def test_a_bug_ends_a_file_with_an_error(tmp_path):
    buggy = ScriptedSource(1, "bug")
    buggy.live = False
    camera = make_camera(buggy, source=str(tmp_path))
    run_until(camera, 2)
    assert camera.done
    assert camera.error == "ZeroDivisionError: a bug of a library"


def test_numbers_count_every_frame_even_if_dropped():
    camera = make_camera(ScriptedSource(7))
    camera.start()
    time.sleep(0.3)
    assert camera.mailbox.take().number == 7
    camera.stop()
    camera.join(2)


@pytest.mark.parametrize(("max_fps", "accepted"), [(10, 100), (30, 300), (40, 300)])
def test_max_fps_takes_evenly_spaced_frames(max_fps, accepted):
    class TimedSource(Source):
        live = True

        def read_frames(self):
            for number in range(300):
                position = round(number / 30, 3)
                yield Frame(lambda: BLACK_PICTURE, position, time.monotonic(), time.time())

    camera = make_camera(TimedSource(), max_fps=max_fps)
    run_until(camera, 2)
    assert camera.counts.captured - camera.counts.skipped == accepted


def test_an_event_holds_the_number_of_the_frame_before_it():
    camera = make_camera(ScriptedSource(3), ScriptedSource(4))
    run_until(camera, 5)
    assert [event.after for event in camera.events] == [0, 3, 3, 7, 7]
