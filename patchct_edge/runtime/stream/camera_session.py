"""A camera as the loop sees it: its steady labels, and all that is told of its frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from patchct_edge.arrays import RGB, Floats
from patchct_edge.bundle import Tag
from patchct_edge.errors import join_lines
from patchct_edge.runtime.stream.events import (
    CameraEvent,
    ChangeReason,
    FrameRow,
    LabelEvent,
    Message,
)
from patchct_edge.runtime.stream.sinks.base import SinkWorker
from patchct_edge.runtime.stream.smoothing import Change, Hysteresis, LabelSmoother
from patchct_edge.runtime.stream.sources.camera import Camera
from patchct_edge.runtime.stream.sources.frame import Frame
from patchct_edge.runtime.stream.trouble import Trouble


class CameraSession:
    """One camera, what is known of its labels, and the outlets that hear of it.

    Args:
        labels: names of the scores, (M,).
        stop: ends a wait for a slow outlet; None where none is waited for.
        note: told what a person should know.
    """

    def __init__(
        self,
        camera: Camera,
        rule: Hysteresis,
        labels: Sequence[str],
        couriers: Sequence[SinkWorker],
        stop: threading.Event | None,
        note: Callable[[str], None],
    ) -> None:
        self.camera = camera
        self._labels, self._steady = labels, LabelSmoother(rule)
        self._couriers, self._stop, self._note = couriers, stop, note
        self._pending = 0  # frames that were taken, and not yet tagged
        self._origin: float | None = None  # position of the first frame
        self._lost: float | None = None  # moment of the monotonic clock
        self._blind: float | None = None  # since when frames have had no tags
        self._trouble = Trouble(note)

    def take(self) -> Frame | None:
        """Take the newest frame; `tagged`, `failed` or `given_up` says what became of it."""
        frame = self.camera.mailbox.take()
        self._pending += frame is not None
        return frame

    def tagged(self, frame: Frame, rgb: RGB, scores: Floats, ready: float) -> float:
        """Tell of a frame's scores (M,), known at a moment of the monotonic clock.

        Returns:
            The seconds from capture to tags.
        """
        self._settled(frame)
        self._blind = None
        self._trouble.worked(f"{self.camera.name}: frames are tagged again")
        changes = self._steady.update(scores, frame.position, frame.captured)
        self.camera.counts.tagged += 1
        tags = [Tag(self._labels[m], float(self._steady.scores[m])) for m in self._steady.tags()]
        tags.sort(key=lambda tag: -tag.score)
        latency = ready - frame.captured
        self._send(self._row(frame, latency, tags=tags), rgb)
        self._tell(changes, "score", frame, rgb)
        return latency

    def failed(self, frame: Frame, error: Exception) -> None:
        """Tell of a frame that has no tags."""
        self._settled(frame)
        self._blind = self._blind or time.monotonic()
        self.camera.counts.failed += 1
        kind, text = type(error).__name__, join_lines(error)
        self._trouble.failed(
            f"{self.camera.name}: frame {frame.number} has no tags: {kind}: {text}"
        )
        latency = time.monotonic() - frame.captured
        self._send(self._row(frame, latency, error=(kind, text)))

    def given_up(self) -> None:
        """Count a frame as dropped that was taken for nothing."""
        self._pending -= 1
        self.camera.mailbox.count_drop()

    def look_after(self, stall: float, dark: bool = False) -> None:
        """Free a camera that hangs; turn its labels off after `stall` seconds in the dark.

        Args:
            dark: nothing could be tagged of any camera for so long.
        """
        self.camera.interrupt_if_stalled()
        long_ago = time.monotonic() - stall
        if dark or (self._blind is not None and self._blind < long_ago):
            self._forget()
        if self.waiting:
            return
        self._hear()
        if self.camera.done or (self._lost is not None and self._lost < long_ago):
            self._forget()

    def close(self) -> None:
        """Tell that nothing more will be known, where the stream is told to end."""
        self._hear()
        self._forget()
        if not self.camera.done:
            name, after = self.camera.name, self.camera.counts.captured
            self._send(CameraEvent(name, "ended", time.time(), "the stream was stopped", after))

    @property
    def waiting(self) -> bool:
        """Whether a frame is still to be tagged."""
        return bool(self._pending or self.camera.mailbox)

    @property
    def news(self) -> bool:
        """Whether there is a frame to take or an event to hear."""
        return bool(self.camera.mailbox or self.camera.events)

    def take_over(self, rule: Hysteresis, labels: Sequence[str]) -> None:
        """Go on by another rule; other labels begin anew."""
        if labels == self._labels:
            self._steady.rule = rule
        else:
            self._forget()
            self._labels, self._steady = labels, LabelSmoother(rule)

    def _row(self, frame: Frame, latency: float, **found: Any) -> FrameRow:
        position = self._position(frame)
        return FrameRow(self.camera.name, frame.number, frame.wall, position, latency, **found)

    def _position(self, frame: Frame) -> float:
        self._origin = frame.position if self._origin is None else self._origin
        return frame.position - self._origin

    def _settled(self, frame: Frame) -> None:
        self._pending -= 1
        self._hear(frame.number)

    def _hear(self, before: float = float("inf")) -> None:
        """Pass on what the camera had to tell before a frame of this number."""
        events = self.camera.events
        while events and events[0].after < before:
            event = events.popleft()
            if event.state != "connected":
                self._note(f"{event.camera}: {event.state}, {event.reason}")
                self._lost = self._lost or time.monotonic()
            elif self._lost is not None:
                self._note(f"{event.camera}: connected")
                self._lost = None
            self._send(event)

    def _forget(self) -> None:
        self._tell(self._steady.forget(time.monotonic()), "lost")

    def _tell(
        self,
        changes: Sequence[Change],
        reason: ChangeReason,
        frame: Frame | None = None,
        rgb: RGB | None = None,
    ) -> None:
        now, wall = time.monotonic(), time.time()
        position = None
        if frame is not None:
            now, wall, position = frame.captured, frame.wall, self._position(frame)
        for change in changes:
            label, since = self._labels[change.label], wall - (now - change.since)
            event = LabelEvent(
                self.camera.name, label, change.on, change.score, wall, since, reason, position
            )
            self._send(event, rgb)

    def _send(self, message: Message, rgb: RGB | None = None) -> None:
        for courier in self._couriers:
            courier.put(message, rgb, self._stop)
