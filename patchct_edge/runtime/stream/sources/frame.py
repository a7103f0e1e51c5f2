"""A frame, and the interface of every source of frames."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from patchct_edge.arrays import RGB
from patchct_edge.closeable import Closeable
from patchct_edge.errors import UserError


class SourceError(UserError):
    """A source that cannot be opened, or that broke off."""


@dataclass(frozen=True)
class Frame:
    """One picture of a stream. It is converted to RGB only when asked for.

    Args:
        load_rgb: returns uint8 (H, W, 3) RGB; raises if the picture cannot be converted.
        position: seconds on the stream's own clock, never falling: the time in a file, or the time
            of arrival from a camera.
        captured_at: time of arrival, in seconds of the monotonic clock.
        wall_time: the same in seconds since 1970; the system's clock may jump.
        checksum: returns a number that is equal for equal pictures; None if the source has none.
        number: counts the frames of its camera from 1, including those that are dropped.
    """

    load_rgb: Callable[[], RGB]
    position: float
    captured_at: float
    wall_time: float
    checksum: Callable[[], int] | None = None
    number: int = 0


class Source(Closeable):
    """An open stream of frames.

    Attributes:
        live: frames arrive whether or not somebody takes them; the source is reopened when it ends.
        corrupt: packets and frames that the decoder reported as damaged; they yield no frame.
    """

    live: bool
    corrupt: int = 0

    @abstractmethod
    def read_frames(self) -> Iterator[Frame]:
        """Yield frames until the stream ends.

        Raises:
            SourceError: the stream broke off.
        """

    def interrupt(self) -> None:
        """Make a `read_frames` that waits in another thread return, if the source supports it."""
        return

    def close(self) -> None:
        """Free the device or the connection; calling it twice is harmless."""
        return
