"""One slot for a camera's newest frame: capturing never waits, and overtaken frames are counted."""

from __future__ import annotations

import threading

from patchct_edge.runtime.stream.sources.frame import Frame

STOP_CHECK_INTERVAL_S = 0.1


class Mailbox:
    """The newest frame of one source.

    Args:
        arrived: notified of every frame; shared by all mailboxes that one reader waits for.

    Attributes:
        dropped: frames that were never tagged, because a newer one overtook them or the stream
            ended.
    """

    def __init__(self, arrived: threading.Condition) -> None:
        self._arrived = arrived
        self._frame: Frame | None = None
        self.dropped = 0

    def put(self, frame: Frame) -> None:
        """Store a frame; a frame that still waits is dropped."""
        with self._arrived:
            self._replace(frame)

    def put_when_empty(self, frame: Frame, stop: threading.Event) -> None:
        """Store a frame as soon as the frame before it is taken, or `stop` is set."""
        with self._arrived:
            while self._frame is not None and not stop.is_set():
                self._arrived.wait(STOP_CHECK_INTERVAL_S)
            self._replace(frame)

    def take(self) -> Frame | None:
        """Remove and return the waiting frame, or None."""
        with self._arrived:
            frame, self._frame = self._frame, None
            if frame is not None:
                self._arrived.notify_all()  # for `put_when_empty`
            return frame

    def count_drop(self) -> None:
        """Count a frame that was taken but will not be tagged."""
        with self._arrived:
            self.dropped += 1

    def __bool__(self) -> bool:
        """Whether a frame waits."""
        return self._frame is not None

    def _replace(self, frame: Frame) -> None:
        self.dropped += self._frame is not None
        self._frame = frame
        self._arrived.notify_all()
