"""One camera: a thread that opens its source, reads it, and reopens it whenever it breaks off."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from patchct_edge.errors import EngineError, UserError, join_lines
from patchct_edge.runtime.stream.backoff import Backoff
from patchct_edge.runtime.stream.events import CameraEvent, CameraState
from patchct_edge.runtime.stream.redaction import redact
from patchct_edge.runtime.stream.settings import CameraSettings
from patchct_edge.runtime.stream.sources.address import parse_address
from patchct_edge.runtime.stream.sources.frame import Frame, Source
from patchct_edge.runtime.stream.sources.frozen_feed import FrozenFeedDetector
from patchct_edge.runtime.stream.sources.mailbox import Mailbox
from patchct_edge.runtime.stream.sources.open import open_source

STABLE_AFTER_S = 10.0  # seconds of frames after which the next reconnect waits shortly again
MAX_EARLY_SHARE = 0.05  # of the interval of `max_fps`: timestamps are rounded
SourceOpener = Callable[[CameraSettings, float, threading.Event], Source]


@dataclass
class FrameCounts:
    """How a camera's frames ended.

    At the end of a stream, captured = tagged + failed + dropped + skipped.
    """

    captured: int = 0
    tagged: int = 0
    failed: int = 0  # not tagged: the engine failed, or the picture could not be converted
    dropped: int = 0  # overtaken by a newer frame
    skipped: int = 0  # beyond `max_fps`
    corrupt: int = 0  # packets and pictures that the decoder refused; never captured
    connects: int = 0

    def to_json(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


class Camera:
    """A camera that delivers its newest frame to a mailbox until it is stopped.

    Args:
        stall_timeout: seconds without a new picture after which the source is reopened.
        arrived: notified of every frame and event; shared by all cameras of a stream.
        opener: opens the source.
        backoff: delays between attempts to open it.

    Attributes:
        counts: written by the camera's thread, except `tagged` and `failed`.
        events: what happened to the camera, for one reader.
        drops_frames: True if frames do not wait to be tagged; those of a file do.
        done: the camera has ended for good; `error` says why, if it was not the end of a file.
    """

    def __init__(
        self,
        settings: CameraSettings,
        stall_timeout: float,
        arrived: threading.Condition,
        *,
        opener: SourceOpener = open_source,
        backoff: Backoff | None = None,
    ) -> None:
        self.settings, self._stall_timeout, self._open_source = settings, stall_timeout, opener
        self._address = parse_address(settings.source)
        self._backoff = backoff or Backoff()
        self._arrived = arrived
        self.mailbox = Mailbox(arrived)
        self.counts = FrameCounts()
        self.events: deque[CameraEvent] = deque()
        self.done, self.error = False, ""
        self._stop = threading.Event()
        self._source: Source | None = None
        self._last_activity = time.monotonic()  # of the camera's thread
        self._last_event: tuple[CameraState, str | None] | None = None
        self._next_position: float | None = None  # of the next frame that `max_fps` allows
        self._frozen_feed = FrozenFeedDetector(stall_timeout)
        live = self._address.live or self._address.kind == "pattern"
        self.drops_frames = live or settings.realtime
        self._thread = threading.Thread(
            target=self._run, name=f"camera {settings.name}", daemon=True
        )

    @property
    def name(self) -> str:
        """The camera's name in rows, events and messages."""
        return self.settings.name

    def start(self) -> None:
        """Start capturing."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end, without waiting for it."""
        self._stop.set()
        source = self._source
        if source is not None:
            source.interrupt()

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end; return whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def drop_waiting_frame(self) -> None:
        """Count the frame that still waits as dropped; call it after `join`."""
        if self.mailbox.take() is not None:
            self.mailbox.count_drop()
        self.counts.dropped = self.mailbox.dropped

    def interrupt_if_stalled(self) -> None:
        """Interrupt a source that has waited too long within a library, if it supports that."""
        source = self._source
        stalled_for = time.monotonic() - self._last_activity
        if source is not None and source.live and stalled_for > self._stall_timeout:
            self._last_activity = time.monotonic()
            source.interrupt()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._capture()
                reason = "the stream ended"
                if not (self._address.live or self._stop.is_set()) and self.counts.corrupt:
                    self.error = f"{self.counts.corrupt} pictures could not be decoded"
            except Exception as error:  # from any library, or a bug: the other cameras go on
                reason = self._describe_error(error)
                if not self._address.live or isinstance(error, EngineError):
                    self.error = reason
            if self.error or not (self._address.live or self._stop.is_set()):
                self._end(reason)
                return
            if not self._stop.is_set():
                self._emit_event("lost", reason)
                self._stop.wait(self._backoff.next_delay())

    def _capture(self) -> None:
        """Open the source and deliver its frames until it ends, stalls or is stopped."""
        first: Frame | None = None
        with self._open_source(self.settings, self._stall_timeout, self._stop) as source:
            self._last_activity = time.monotonic()
            self._frozen_feed.start(self._last_activity)
            self._source, corrupt_before = source, self.counts.corrupt
            try:
                if self._stop.is_set():  # `stop` may have been called before there was a source
                    return
                for frame in source.read_frames():
                    if self._stop.is_set():
                        return
                    self._last_activity = frame.captured_at
                    if source.live and not self._frozen_feed.accepts(frame):
                        continue
                    if first is None:
                        first = frame
                        self.counts.connects += 1
                        self._emit_event("connected")
                    elif frame.captured_at - first.captured_at > STABLE_AFTER_S:
                        self._backoff.reset()
                    self.counts.corrupt = corrupt_before + source.corrupt
                    self._deliver(self._wait_for_playback(frame, first))
            finally:
                self.counts.corrupt = corrupt_before + source.corrupt
                self._source = None

    def _deliver(self, frame: Frame) -> None:
        self.counts.captured += 1
        frame = replace(frame, number=self.counts.captured)
        if not self._is_due(frame.position):
            self.counts.skipped += 1
            return
        if self.drops_frames:
            self.mailbox.put(frame)
        else:
            self.mailbox.put_when_empty(frame, self._stop)
        self.counts.dropped = self.mailbox.dropped

    def _is_due(self, position: float) -> bool:
        """Whether `max_fps` allows a frame: on a fixed grid, so that 10 of 30 a second are 10."""
        if self.settings.max_fps is None:
            return True
        interval = 1 / self.settings.max_fps
        due = position if self._next_position is None else self._next_position
        if position < due - MAX_EARLY_SHARE * interval:
            return False
        self._next_position = max(due, position - interval) + interval
        return True

    def _wait_for_playback(self, frame: Frame, first: Frame) -> Frame:
        """Wait for the frame's time if a file is played in real time."""
        if not self.settings.realtime or self._address.live:
            return frame
        self._stop.wait(first.captured_at + frame.position - first.position - time.monotonic())
        return replace(frame, captured_at=time.monotonic(), wall_time=time.time())

    def _end(self, reason: str) -> None:
        self._emit_event("ended", reason)
        with self._arrived:
            self.done = True
            self._arrived.notify_all()

    def _emit_event(self, state: CameraState, reason: str | None = None) -> None:
        """Add an event, unless it repeats the last one."""
        if (state, reason) == self._last_event:
            return
        self._last_event = (state, reason)
        event = CameraEvent(self.name, state, time.time(), reason, self.counts.captured)
        self.events.append(event)
        with self._arrived:
            self._arrived.notify_all()

    def _describe_error(self, error: Exception) -> str:
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return redact(join_lines(text), self._address.secrets)
