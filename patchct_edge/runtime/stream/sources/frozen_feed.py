"""Detect a camera whose picture no longer changes."""

from __future__ import annotations

from patchct_edge.errors import UserError
from patchct_edge.runtime.stream.sources.frame import Frame

CHECK_INTERVAL_S = 1.0


class FrozenFeedError(UserError):
    """A camera that delivers the same picture again and again."""


class FrozenFeedDetector:
    """Compares a camera's pictures by their checksums, also across reconnects.

    Args:
        limit: seconds without a change after which the feed is frozen.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._checksum: int | None = None
        self._frozen = False  # stays so across reconnects, until the picture changes
        self._unchanged_since = self._last_check = float("-inf")

    def start(self, now: float) -> None:
        """Start with a source that was opened at this moment of the monotonic clock."""
        self._unchanged_since, self._last_check = now, float("-inf")
        if not self._frozen:
            self._checksum = None

    def accepts(self, frame: Frame) -> bool:
        """Return False for a frame that still shows the frozen picture.

        Checksums are compared every `CHECK_INTERVAL_S` seconds, and for every frame of a feed that
        is frozen.

        Raises:
            FrozenFeedError: the picture has not changed for longer than the limit.
        """
        now = frame.captured_at
        recently_checked = now - self._last_check < CHECK_INTERVAL_S
        if frame.checksum is None or (recently_checked and not self._frozen):
            return True
        self._last_check, checksum = now, frame.checksum()
        if checksum != self._checksum:
            self._checksum, self._unchanged_since, self._frozen = checksum, now, False
        elif now - self._unchanged_since > self._limit:
            self._frozen = True
            raise FrozenFeedError("camera feed is frozen")
        return not self._frozen
