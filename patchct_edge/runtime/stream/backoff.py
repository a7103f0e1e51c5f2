"""Growing delays between attempts.

By hand, because a camera's attempts go on forever and each wait ends when the stream stops: the
caller waits on its own event for `next_delay()` seconds. Retry libraries sleep by themselves.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays that double from `first_s` to `max_s` seconds, each randomly shortened by up to half.

    The randomness keeps many devices from reconnecting to one server at the same moment.

    Args:
        uniform: returns a random number between 0 and 1.
    """

    def __init__(
        self,
        first_s: float = 0.5,
        max_s: float = 30.0,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._first_s, self._max_s, self._uniform = first_s, max_s, uniform
        self._delay_s = first_s

    def next_delay(self) -> float:
        """Return the seconds to wait before the next attempt, and lengthen the delay after it."""
        delay_s, self._delay_s = self._delay_s, min(self._max_s, 2 * self._delay_s)
        return delay_s * (1 - self._uniform() / 2)

    def reset(self) -> None:
        """Start again with the first delay, after a success."""
        self._delay_s = self._first_s
