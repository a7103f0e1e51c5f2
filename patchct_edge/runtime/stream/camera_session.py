"""A camera as the loop sees it: its smoothed labels, and the messages about its frames."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from patchct_edge.arrays import RGB, Floats
from patchct_edge.bundle import Tag
from patchct_edge.errors import join_lines
from patchct_edge.logs import RecurringFailureFilter
from patchct_edge.runtime.stream.events import (
    CameraEvent,
    ChangeReason,
    FrameRow,
    LabelEvent,
    Message,
)
from patchct_edge.runtime.stream.sinks.base import SinkWorker
from patchct_edge.runtime.stream.smoothing import Hysteresis, LabelSmoother, LabelTransition
from patchct_edge.runtime.stream.sources.camera import Camera
from patchct_edge.runtime.stream.sources.frame import Frame

logger = logging.getLogger(__name__)
logger.addFilter(RecurringFailureFilter())


class CameraSession:
    """One camera, the state of its labels, and the sinks that receive its messages.

    Args:
        labels: names of the scores, (M,).
        stop: ends a wait for a slow sink; None if slow sinks are not waited for.
    """

    def __init__(
        self,
        camera: Camera,
        hysteresis: Hysteresis,
        labels: Sequence[str],
        workers: Sequence[SinkWorker],
        stop: threading.Event | None,
    ) -> None:
        self.camera = camera
        self._labels, self._smoother = labels, LabelSmoother(hysteresis)
        self._workers, self._stop = workers, stop
        self._pending_frames = 0  # taken, but neither tagged nor failed nor returned
        self._first_position: float | None = None
        self._lost_since: float | None = None  # in seconds of the monotonic clock
        self._untagged_since: float | None = None  # the same: since then every frame has failed
        self._has_failed, self._failure_key = False, object()

    def take_frame(self) -> Frame | None:
        """Take the newest frame; one of the next three methods must be called for it."""
        frame = self.camera.mailbox.take()
        self._pending_frames += frame is not None
        return frame

    def send_tags(self, frame: Frame, rgb: RGB, scores: Floats, ready: float) -> float:
        """Send the tags of a frame, and the labels that they turn on or off.

        Args:
            rgb: the frame, uint8 (H, W, 3).
            scores: float (M,), 0..1.
            ready: when the scores were computed, in seconds of the monotonic clock.

        Returns:
            Seconds from capture to tags.
        """
        self._settle_frame(frame)
        self._untagged_since = None
        if self._has_failed:  # a healthy stream spends nothing on log records
            logger.warning(
                "%s: frames are tagged again",
                self.camera.name,
                extra={"recovery": self._failure_key},
            )
        changes = self._smoother.update(scores, frame.position, frame.captured_at)
        self.camera.counts.tagged += 1
        tags = [
            Tag(self._labels[m], float(self._smoother.smoothed_scores[m]))
            for m in self._smoother.active_labels()
        ]
        tags.sort(key=lambda tag: -tag.score)
        latency = ready - frame.captured_at
        self._send(self._make_row(frame, latency, tags=tags), rgb)
        self._send_changes(changes, "score", frame, rgb)
        return latency

    def send_failure(self, frame: Frame, error: Exception) -> None:
        """Send the error of a frame that could not be tagged."""
        self._settle_frame(frame)
        self._has_failed = True
        self._untagged_since = self._untagged_since or time.monotonic()
        self.camera.counts.failed += 1
        kind, text = type(error).__name__, join_lines(error)
        logger.warning(
            "%s: frame %d was not tagged: %s: %s",
            self.camera.name,
            frame.number,
            kind,
            text,
            extra={"failure": self._failure_key},
        )
        latency = time.monotonic() - frame.captured_at
        self._send(self._make_row(frame, latency, error=(kind, text)))

    def drop_frame(self) -> None:
        """Count a taken frame as dropped: it will not be tagged."""
        self._pending_frames -= 1
        self.camera.mailbox.count_drop()

    def check(self, stall_timeout: float, engine_failed: bool = False) -> None:
        """Interrupt a camera that hangs, pass its events on, and turn labels off if it is gone.

        Args:
            stall_timeout: seconds without tags after which the labels are no longer known.
            engine_failed: the engine has tagged no frame of any camera for that long.
        """
        self.camera.interrupt_if_stalled()
        limit = time.monotonic() - stall_timeout
        if engine_failed or (self._untagged_since is not None and self._untagged_since < limit):
            self._turn_labels_off()
        if self.has_frames:
            return
        self._send_camera_events()
        if self.camera.done or (self._lost_since is not None and self._lost_since < limit):
            self._turn_labels_off()

    def close(self) -> None:
        """Turn all labels off and send that the camera has ended, because the stream ends."""
        self._send_camera_events()
        self._turn_labels_off()
        if not self.camera.done:
            name, last_frame = self.camera.name, self.camera.counts.captured
            reason = "the stream was stopped"
            self._send(CameraEvent(name, "ended", time.time(), reason, last_frame))

    @property
    def has_frames(self) -> bool:
        """Whether a frame is still to be tagged."""
        return bool(self._pending_frames or self.camera.mailbox)

    @property
    def has_news(self) -> bool:
        """Whether there is a frame to take or an event to send."""
        return bool(self.camera.mailbox or self.camera.events)

    def use_model(self, hysteresis: Hysteresis, labels: Sequence[str]) -> None:
        """Continue with another model; labels stay on only if their names are the same."""
        if labels == self._labels:
            self._smoother.hysteresis = hysteresis
        else:
            self._turn_labels_off()
            self._labels, self._smoother = labels, LabelSmoother(hysteresis)

    def _make_row(self, frame: Frame, latency: float, **outcome: Any) -> FrameRow:
        position = self._relative_position(frame)
        return FrameRow(
            self.camera.name, frame.number, frame.wall_time, position, latency, **outcome
        )

    def _relative_position(self, frame: Frame) -> float:
        if self._first_position is None:
            self._first_position = frame.position
        return frame.position - self._first_position

    def _settle_frame(self, frame: Frame) -> None:
        self._pending_frames -= 1
        self._send_camera_events(before_frame=frame.number)

    def _send_camera_events(self, before_frame: float = float("inf")) -> None:
        """Send what happened to the camera before a frame of this number."""
        events = self.camera.events
        while events and events[0].after < before_frame:
            event = events.popleft()
            if event.state == "lost":
                logger.warning("%s: lost, %s", event.camera, event.reason)
            elif event.state == "ended":
                logger.info("%s: ended, %s", event.camera, event.reason)
            elif self._lost_since is not None:
                logger.info("%s: connected", event.camera)
            if event.state == "connected":
                self._lost_since = None
            else:
                self._lost_since = self._lost_since or time.monotonic()
            self._send(event)

    def _turn_labels_off(self) -> None:
        self._send_changes(self._smoother.forget(time.monotonic()), "lost")

    def _send_changes(
        self,
        changes: Sequence[LabelTransition],
        reason: ChangeReason,
        frame: Frame | None = None,
        rgb: RGB | None = None,
    ) -> None:
        now, wall_time = time.monotonic(), time.time()
        position = None
        if frame is not None:
            now, wall_time, position = (
                frame.captured_at,
                frame.wall_time,
                self._relative_position(frame),
            )
        for change in changes:
            label, since = self._labels[change.label], wall_time - (now - change.since)
            event = LabelEvent(
                self.camera.name, label, change.on, change.score, wall_time, since, reason, position
            )
            self._send(event, rgb)

    def _send(self, message: Message, rgb: RGB | None = None) -> None:
        for worker in self._workers:
            worker.put(message, rgb, self._stop)
