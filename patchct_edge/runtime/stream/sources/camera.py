"""One camera: a thread that opens it, reads it, and opens it again, whatever becomes of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from patchct_edge.errors import EngineError, UserError, on_one_line
from patchct_edge.runtime.stream.backoff import Backoff
from patchct_edge.runtime.stream.events import CameraEvent, CameraState
from patchct_edge.runtime.stream.settings import CameraSettings
from patchct_edge.runtime.stream.sources.address import parse_address, redact
from patchct_edge.runtime.stream.sources.frame import Frame, Source
from patchct_edge.runtime.stream.sources.mailbox import Mailbox
from patchct_edge.runtime.stream.sources.open import open_source

SETTLED = 10.0  # seconds of frames after which a camera counts as working
LOOK = 1.0  # seconds between two looks whether a picture still changes
EARLY = 0.05  # share of a step of `max_fps` by which a frame may come early: times are rounded
Open = Callable[[CameraSettings, float, threading.Event], Source]


@dataclass
class FrameCounts:
    """What became of a camera's frames: captured = tagged + failed + dropped + skipped, and one
    that may wait."""

    captured: int = 0
    tagged: int = 0
    failed: int = 0  # no tags: the engine, or a picture that could not be converted
    dropped: int = 0  # overtaken by a newer one
    skipped: int = 0  # beyond `max_fps`
    corrupt: int = 0  # packets and frames that the decoder refused
    connects: int = 0

    def to_json(self) -> dict[str, int]:
        return asdict(self)


class FrozenError(UserError):
    """A camera that delivers the same picture for ever."""


class Camera:
    """A camera that delivers its newest frame to a mailbox until it is stopped.

    Attributes:
        counts: written by this thread, but for `tagged` and `failed`.
        events: what the camera has to tell, for the one reader.
        drops: its frames do not wait to be taken, as those of a file do.
        done: nothing more will come; `error` says why, where that was no ordinary end.
    """

    def __init__(
        self,
        given: CameraSettings,
        stall: float,
        arrived: threading.Condition,
        *,
        opener: Open = open_source,
        backoff: Backoff | None = None,
    ) -> None:
        self.settings, self._stall, self._open = given, stall, opener
        self._address = parse_address(given.source)
        self._backoff = backoff or Backoff()
        self._arrived = arrived
        self.mailbox = Mailbox(arrived)
        self.counts = FrameCounts()
        self.events: deque[CameraEvent] = deque()
        self.done, self.error = False, ""
        self._stop = threading.Event()
        self._source: Source | None = None
        self._heard = time.monotonic()  # when this thread last gave a sign of life
        self._told: tuple[CameraState, str | None] | None = None
        self._due: float | None = None  # position at which the next frame is wanted
        self._alike = FrozenFeedDetector(stall)
        live = self._address.live or self._address.kind == "pattern"
        self.drops = live or given.realtime  # a file waits instead
        self._thread = threading.Thread(target=self._run, name=f"camera {given.name}", daemon=True)

    @property
    def name(self) -> str:
        return self.settings.name

    def start(self) -> None:
        """Begin to capture."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end, without waiting."""
        self._stop.set()
        source = self._source
        if source is not None:
            source.interrupt()

    def join(self, seconds: float) -> bool:
        """Wait for the thread; return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def settle(self) -> None:
        """Count a frame that still waits as dropped, once nothing is captured any more."""
        if self.mailbox.take() is not None:
            self.mailbox.dropped += 1
        self.counts.dropped = self.mailbox.dropped

    def check(self) -> None:
        """Free a thread that has waited too long within a library, where that can be done."""
        source = self._source
        if source is not None and source.live and time.monotonic() - self._heard > self._stall:
            self._heard = time.monotonic()
            source.interrupt()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._capture()
                reason = "the stream ended"
                if not (self._address.live or self._stop.is_set()) and self.counts.corrupt:
                    self.error = f"{self.counts.corrupt} pictures could not be decoded"
            except Exception as error:  # also a library's own, or a bug: the other cameras go on
                reason = self._clean(error)
                if not self._address.live or isinstance(error, EngineError):
                    self.error = reason
            if self.error or not (self._address.live or self._stop.is_set()):
                self._end(reason)
                return
            if not self._stop.is_set():
                self._tell("lost", reason)
                self._stop.wait(self._backoff.delay())

    def _capture(self) -> None:
        """Open the source and deliver its frames until it ends, stalls or is stopped."""
        began: Frame | None = None
        with self._open(self.settings, self._stall, self._stop) as source:
            self._heard = time.monotonic()
            self._alike.begin(self._heard)
            self._source, corrupt = source, self.counts.corrupt
            try:
                if self._stop.is_set():  # `stop` may not have seen the source
                    return
                for frame in source.frames():
                    if self._stop.is_set():
                        return
                    self._heard = frame.captured
                    if source.live and not self._alike.changes(frame):
                        continue
                    if began is None:
                        began = frame
                        self.counts.connects += 1
                        self._tell("connected")
                    elif frame.captured - began.captured > SETTLED:
                        self._backoff.reset()
                    self.counts.corrupt = corrupt + source.corrupt
                    self._deliver(self._paced(frame, began))
            finally:
                self.counts.corrupt = corrupt + source.corrupt
                self._source = None

    def _deliver(self, frame: Frame) -> None:
        self.counts.captured += 1
        frame = replace(frame, number=self.counts.captured)
        if not self._wanted(frame.position):
            self.counts.skipped += 1
            return
        if self.drops:
            self.mailbox.put(frame)
        else:
            self.mailbox.put_after(frame, self._stop)
        self.counts.dropped = self.mailbox.dropped

    def _wanted(self, position: float) -> bool:
        """Whether `max_fps` leaves room for a frame: on a grid, so 10 of 30 a second are 10."""
        if self.settings.max_fps is None:
            return True
        step = 1 / self.settings.max_fps
        due = position if self._due is None else self._due
        if position < due - EARLY * step:
            return False
        self._due = max(due, position - step) + step
        return True

    def _paced(self, frame: Frame, began: Frame) -> Frame:
        """Wait for a frame's time where a file is played as if it were a camera."""
        if not self.settings.realtime or self._address.live:
            return frame
        self._stop.wait(began.captured + frame.position - began.position - time.monotonic())
        return replace(frame, captured=time.monotonic(), wall=time.time())

    def _end(self, reason: str) -> None:
        self._tell("ended", reason)
        with self._arrived:
            self.done = True
            self._arrived.notify_all()

    def _tell(self, state: CameraState, reason: str | None = None) -> None:
        """Leave an event; one that says what the last one said is not worth another."""
        if (state, reason) == self._told:
            return
        self._told = (state, reason)
        event = CameraEvent(self.name, state, time.time(), reason, self.counts.captured)
        self.events.append(event)
        with self._arrived:
            self._arrived.notify_all()

    def _clean(self, error: Exception) -> str:
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return redact(on_one_line(text), self._address.secrets)


class FrozenFeedDetector:
    """Notices a picture that does not change for `limit` seconds."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._digest: int | None = None
        self._frozen = False  # so it was when last seen, and so it still counts until it changes
        self._since = self._looked = float("-inf")

    def begin(self, now: float) -> None:
        """Begin with a stream that was opened at this moment of the monotonic clock."""
        self._since, self._looked = now, float("-inf")
        if not self._frozen:
            self._digest = None

    def changes(self, frame: Frame) -> bool:
        """Look at a frame now and then; return False for the picture that was frozen before.

        Raises:
            FrozenError: it has been the same for too long.
        """
        now = frame.captured
        if frame.digest is None or (now - self._looked < LOOK and not self._frozen):
            return True
        self._looked, digest = now, frame.digest()
        if digest != self._digest:
            self._digest, self._since, self._frozen = digest, now, False
        elif now - self._since > self._limit:
            self._frozen = True
            raise FrozenError("the camera delivers the same picture for ever")
        return not self._frozen
