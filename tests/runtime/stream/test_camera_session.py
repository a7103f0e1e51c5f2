"""What is told of a camera whose stream comes and goes."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from patchct_edge.runtime.stream.backoff import Backoff
from patchct_edge.runtime.stream.camera_session import CameraSession
from patchct_edge.runtime.stream.events import CameraEvent, LabelEvent
from patchct_edge.runtime.stream.settings import CameraSettings
from patchct_edge.runtime.stream.smoothing import Hysteresis
from patchct_edge.runtime.stream.sources.camera import Camera
from patchct_edge.runtime.stream.sources.frame import Frame, Source, SourceError

BLACK = np.zeros((4, 4, 3), np.uint8)
STALL = 0.3
REFUSALS = 4


class Three(Source):
    """Three frames, then a cut cable."""

    live = True

    def read_frames(self):
        for _ in range(3):
            now = time.monotonic()
            yield Frame(lambda: BLACK, now, now, time.time())
            time.sleep(0.02)
        raise SourceError("a cut cable")


class Heard:
    """Keeps what it is told, in place of an outlet."""

    def __init__(self):
        self.messages = []

    def put(self, message, rgb, stop=None):
        self.messages.append(message)


@pytest.fixture
def door():
    """A camera that is refused first, then delivers, then is refused in other words each time."""
    opened = []

    def opener(given, timeout, stop):
        opened.append(given)
        if len(opened) == REFUSALS:
            return Three()
        raise SourceError(f"refused for the {len(opened)}th time")

    camera = Camera(
        CameraSettings(source="rtsp://host/", name="door"),
        STALL,
        threading.Condition(),
        opener=opener,
        backoff=Backoff(0.05, 0.1),
    )
    yield camera
    camera.stop()
    camera.join(2)


def test_labels_of_a_camera_that_is_gone_are_turned_off_whatever_it_says(door):
    heard, notes = Heard(), []
    rule = Hysteresis(np.array([0.5]), np.array([0.4]), 0.0, 0.0)
    watched = CameraSession(door, rule, ["person"], [heard], threading.Event(), notes.append)

    def changes():
        return [(m.on, m.reason) for m in heard.messages if isinstance(m, LabelEvent)]

    door.start()
    until = time.monotonic() + 10
    while len(changes()) < 2 and time.monotonic() < until:
        frame = watched.take()
        if frame is not None:
            watched.tagged(frame, BLACK, np.array([0.9]), time.monotonic())
        watched.look_after(STALL)
        time.sleep(0.005)
    assert changes() == [(True, "score"), (False, "lost")]
    states = [m.state for m in heard.messages if isinstance(m, CameraEvent)]
    assert states[: REFUSALS + 1] == ["lost"] * (REFUSALS - 1) + ["connected", "lost"]
    assert notes[REFUSALS - 1 : REFUSALS + 1] == ["door: connected", "door: lost, a cut cable"]
