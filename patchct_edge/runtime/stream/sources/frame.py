"""A camera's frame, and what every source of frames offers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from patchct_edge.arrays import RGB
from patchct_edge.closeable import Closeable
from patchct_edge.errors import UserError


class SourceError(UserError):
    """A source that cannot be opened, or that stopped."""


@dataclass(frozen=True)
class Frame:
    """One picture of a stream. Its pixels are converted only where somebody asks for them.

    Args:
        pixels: gives uint8 (H, W, 3) RGB; may raise where the picture cannot be converted.
        position: seconds on the stream's own clock, never falling: of a file the time in it, of a
            camera that of its arrival.
        captured: when it arrived, in seconds of the monotonic clock.
        wall: the same moment as seconds since 1970, for people; may jump.
        digest: gives a number that is the same for the same picture.
        number: from 1 in its camera's stream, whatever becomes of the frames.
    """

    pixels: Callable[[], RGB]
    position: float
    captured: float
    wall: float
    digest: Callable[[], int] | None = None
    number: int = 0


class Source(Closeable):
    """An open stream of frames.

    Attributes:
        live: frames come whether or not somebody takes them; what ends is opened again.
        corrupt: packets and frames that the decoder reported as damaged; no frame is made of them.
    """

    live: bool
    corrupt: int = 0

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Yield frames until the stream ends.

        Raises:
            SourceError: it broke off.
        """

    def interrupt(self) -> None:
        """Make a `frames` that waits in another thread come back, where that can be done."""
        return

    def close(self) -> None:
        """Free the device or the connection; calling it twice is harmless."""
        return
