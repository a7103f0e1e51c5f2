"""A folder of images as a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.errors import ImageError
from patchct_edge.runtime.stream.sources.frame import Frame, Source
from patchct_edge.runtime.tagging.inputs import find_images


class FolderSource(Source):
    """The images of a folder in the order of their names.

    An image that cannot be read becomes a frame whose `load_rgb` raises the ImageError.

    Args:
        rate: images a second of the stream's own clock.
        loop: start again at the end.
    """

    live = False

    def __init__(self, folder: str, rate: float, loop: bool) -> None:
        self._paths = list(find_images([folder]))
        self._rate, self._loop = rate, loop

    def read_frames(self) -> Iterator[Frame]:
        number = count()
        while True:
            readable = 0
            for path in self._paths:
                try:
                    load_rgb = _make_loader(images.decode(path))
                    readable += 1
                except ImageError as error:
                    load_rgb = _make_failing_loader(error)
                position = next(number) / self._rate
                yield Frame(load_rgb, position, time.monotonic(), time.time())
            if not self._loop or not readable:
                return


def require_images(folder: str) -> None:
    """Raise a UserError unless a folder holds at least one image."""
    next(iter(find_images([folder])))


def _make_loader(rgb: RGB) -> Callable[[], RGB]:
    return lambda: rgb


def _make_failing_loader(error: ImageError) -> Callable[[], RGB]:
    def load_rgb() -> RGB:
        raise error

    return load_rgb
