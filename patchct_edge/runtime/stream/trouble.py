"""What goes wrong by the frame or by the message is told when it begins, and when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable

CALM = 10.0  # seconds


class Trouble:
    """One thing that may fail again and again.

    Args:
        note: told of it.
        calm: seconds without a failure after which it is over; what fails now and then is one.
    """

    def __init__(self, note: Callable[[str], None], calm: float = CALM) -> None:
        self._note, self._calm = note, calm
        self._failed: float | None = None  # when it last did, until it is over

    def failed(self, text: str) -> None:
        """Tell what failed, where that is news."""
        if self._failed is None:
            self._note(text)
        self._failed = time.monotonic()

    def worked(self, text: str) -> None:
        """Tell that it is over, where it is."""
        if self._failed is not None and time.monotonic() - self._failed >= self._calm:
            self._note(text)
            self._failed = None
