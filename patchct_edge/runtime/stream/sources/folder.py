"""Streams without a camera: a folder of images, and a test pattern."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.errors import ImageError
from patchct_edge.runtime.stream.sources.frame import Frame, Source
from patchct_edge.runtime.tagging.inputs import find_images

BARS = np.array(
    [[235, 235, 235], [235, 235, 16], [16, 235, 235], [16, 235, 16], [235, 16, 235], [235, 16, 16]],
    np.uint8,
)


class FolderSource(Source):
    """The images of a folder in the order of their names, `rate` a second.

    One that cannot be read is a frame whose pixels raise the ImageError.
    """

    live = False

    def __init__(self, folder: str, rate: float, loop: bool) -> None:
        self._paths = list(find_images([folder]))
        self._rate, self._loop = rate, loop

    def frames(self) -> Iterator[Frame]:
        number = count()
        while True:
            seen = 0
            for path in self._paths:
                try:
                    pixels = _given(images.decode(path))
                    seen += 1
                except ImageError as error:
                    pixels = _raising(error)
                position = next(number) / self._rate
                yield Frame(pixels, position, time.monotonic(), time.time())
            if not self._loop or not seen:
                return


class PatternSource(Source):
    """Colour bars that move by a pixel a frame: a camera for tests, and for a first try.

    Args:
        rate: frames a second, 0 for as many as can be made.
        size: width and height in pixels.
        stop: ends the wait for the next frame.
    """

    live = True

    def __init__(self, rate: float, size: tuple[int, int], stop: threading.Event) -> None:
        self._rate, self._stop = rate, stop
        width, height = size
        row = BARS[np.arange(2 * width) * len(BARS) // width % len(BARS)]
        self._picture = np.broadcast_to(row, (height, 2 * width, 3))
        self._width = width

    def frames(self) -> Iterator[Frame]:
        began = time.monotonic()
        for number in count():
            if self._rate:
                self._stop.wait(max(0.0, began + number / self._rate - time.monotonic()))
            else:
                time.sleep(0)  # as a camera's driver would, it leaves the interpreter to others
            if self._stop.is_set():
                return
            now = time.monotonic()
            left = number % self._width
            rgb = self._picture[:, left : left + self._width]
            yield Frame(_given(rgb), now, now, time.time(), _sum(rgb))


def _given(rgb: RGB) -> Callable[[], RGB]:
    return lambda: rgb


def _raising(error: ImageError) -> Callable[[], RGB]:
    def pixels() -> RGB:
        raise error

    return pixels


def _sum(rgb: RGB) -> Callable[[], int]:
    return lambda: zlib.crc32(rgb.tobytes())


def check_folder(folder: str) -> None:
    """Refuse a folder without images, before anything is opened.

    Raises:
        UserError: there is none in it.
    """
    next(iter(find_images([str(Path(folder))])))
