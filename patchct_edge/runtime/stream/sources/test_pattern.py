"""A camera for tests and for a first try: color bars that move."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np

from patchct_edge.arrays import RGB
from patchct_edge.runtime.stream.sources.frame import Frame, Source

BAR_COLORS = np.array(
    [[235, 235, 235], [235, 235, 16], [16, 235, 235], [16, 235, 16], [235, 16, 235], [235, 16, 16]],
    np.uint8,
)


class TestPatternSource(Source):
    """Vertical color bars that move left by one pixel a frame.

    Args:
        rate: frames a second; 0 for as many as possible.
        size: width and height in pixels.
        stop: ends the wait for the next frame.
    """

    __test__ = False  # not a test case, though its name begins with "Test"
    live = True

    def __init__(self, rate: float, size: tuple[int, int], stop: threading.Event) -> None:
        self._rate, self._stop = rate, stop
        width, height = size
        row = BAR_COLORS[np.arange(2 * width) * len(BAR_COLORS) // width % len(BAR_COLORS)]
        self._bars = np.broadcast_to(row, (height, 2 * width, 3))  # twice, to take windows from
        self._width = width

    def read_frames(self) -> Iterator[Frame]:
        start = time.monotonic()
        for number in count():
            if self._rate:
                self._stop.wait(max(0.0, start + number / self._rate - time.monotonic()))
            else:
                time.sleep(0)  # let other threads run, as a camera's driver would
            if self._stop.is_set():
                return
            now = time.monotonic()
            left = number % self._width
            rgb = self._bars[:, left : left + self._width]
            yield Frame(_make_loader(rgb), now, now, time.time(), _checksum_rgb(rgb))


def _make_loader(rgb: RGB) -> Callable[[], RGB]:
    return lambda: rgb


def _checksum_rgb(rgb: RGB) -> Callable[[], int]:
    return lambda: zlib.crc32(rgb.tobytes())
