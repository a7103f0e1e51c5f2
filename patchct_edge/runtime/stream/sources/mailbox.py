"""One slot for the newest frame of a camera: capture never waits, what is overtaken is counted."""

from __future__ import annotations

import threading

from patchct_edge.runtime.stream.sources.frame import Frame

WAIT = 0.1  # seconds after which a waiting file looks whether it shall stop


class Mailbox:
    """The newest frame of one source.

    Args:
        arrived: notified of every frame; shared by all mailboxes that one reader waits for.

    Attributes:
        dropped: frames that were never tagged: a newer one came first, or the stream ended.
    """

    def __init__(self, arrived: threading.Condition) -> None:
        self._arrived = arrived
        self._frame: Frame | None = None
        self.dropped = 0

    def put(self, frame: Frame) -> None:
        """Leave a frame; one that still waits is dropped for it."""
        with self._arrived:
            self.dropped += self._frame is not None
            self._frame = frame
            self._arrived.notify_all()

    def put_after(self, frame: Frame, stop: threading.Event) -> None:
        """Leave a frame once the one before was taken, unless `stop` is set meanwhile."""
        with self._arrived:
            while self._frame is not None and not stop.is_set():
                self._arrived.wait(WAIT)
            self.dropped += self._frame is not None
            self._frame = frame
            self._arrived.notify_all()

    def take(self) -> Frame | None:
        """Return the frame that waits, or None."""
        with self._arrived:
            frame, self._frame = self._frame, None
            if frame is not None:
                self._arrived.notify_all()  # a file that waits for its turn
            return frame

    def drop(self) -> None:
        """Count a frame as dropped that was taken for nothing."""
        with self._arrived:
            self.dropped += 1

    def __bool__(self) -> bool:
        """Whether a frame waits."""
        return self._frame is not None
