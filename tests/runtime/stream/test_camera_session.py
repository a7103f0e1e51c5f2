"""The messages about a camera whose stream comes and goes."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

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
STALL_TIMEOUT_S = 0.3
SUCCESSFUL_ATTEMPT = 4


class ThreeFrames(Source):
    """Yields three frames, then breaks off."""

    live = True

    def read_frames(self):
        for _ in range(3):
            now = time.monotonic()
            yield Frame(lambda: BLACK, now, now, time.time())
            time.sleep(0.02)
        raise SourceError("the cable was cut")


class MessageList:
    """Keeps the messages that it receives in place of a sink's worker."""

    def __init__(self):
        self.messages = []

    def put(self, message, rgb, stop=None):
        self.messages.append(message)


@pytest.fixture
def camera():
    """A camera that delivers at its fourth attempt only; each refusal has another reason."""
    attempts = []

    def open_source(settings, timeout, stop):
        attempts.append(settings)
        if len(attempts) == SUCCESSFUL_ATTEMPT:
            return ThreeFrames()
        raise SourceError(f"refused at attempt {len(attempts)}")

    camera = Camera(
        CameraSettings(source="rtsp://host/", name="door"),
        STALL_TIMEOUT_S,
        threading.Condition(),
        opener=open_source,
        backoff=Backoff(0.05, 0.1),
    )
    yield camera
    camera.stop()
    camera.join(2)


def test_labels_turn_off_when_their_camera_is_gone(camera, caplog):
    caplog.set_level(logging.INFO, "patchct_edge")
    worker: Any = MessageList()
    hysteresis = Hysteresis(np.array([0.5]), np.array([0.4]), 0.0, 0.0)
    session = CameraSession(camera, hysteresis, ["person"], [worker], threading.Event())

    def changes():
        return [(m.on, m.reason) for m in worker.messages if isinstance(m, LabelEvent)]

    camera.start()
    deadline = time.monotonic() + 10
    while len(changes()) < 2 and time.monotonic() < deadline:
        frame = session.take_frame()
        if frame is not None:
            session.send_tags(frame, BLACK, np.array([0.9]), time.monotonic())
        session.check(STALL_TIMEOUT_S)
        time.sleep(0.005)
    assert changes() == [(True, "score"), (False, "lost")]
    states = [m.state for m in worker.messages if isinstance(m, CameraEvent)]
    refusals = SUCCESSFUL_ATTEMPT - 1
    assert states[: refusals + 2] == ["lost"] * refusals + ["connected", "lost"]
    assert caplog.messages[refusals : refusals + 2] == [
        "door: connected",
        "door: lost, the cable was cut",
    ]
