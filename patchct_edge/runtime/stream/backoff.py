"""How long to wait before a stream is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays that double from `first` to `cap` seconds, each shortened by chance by up to half.

    By chance, so that many devices do not come back to one server at the same moment.

    Args:
        uniform: gives a number within 0..1.
    """

    def __init__(
        self, first: float = 0.5, cap: float = 30.0, uniform: Callable[[], float] = random.random
    ) -> None:
        self._first, self._cap, self._uniform = first, cap, uniform
        self._next = first

    def delay(self) -> float:
        """Return the seconds to wait now; the next ones are longer."""
        delay, self._next = self._next, min(self._cap, 2 * self._next)
        return delay * (1 - self._uniform() / 2)

    def reset(self) -> None:
        """Begin anew: it works again."""
        self._next = self._first
