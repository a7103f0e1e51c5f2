"""A video file of one camera with its tags drawn in."""

from __future__ import annotations

import logging
from itertools import chain, count
from pathlib import Path

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.runtime.stream.events import FrameRow, Message
from patchct_edge.runtime.stream.settings import VideoSettings
from patchct_edge.runtime.stream.sinks.base import Sink
from patchct_edge.runtime.stream.sinks.video_file import VideoWriter

logger = logging.getLogger(__name__)


class VideoSink(Sink):
    """The tagged frames of one camera.

    An existing file is kept: if there is `out.mp4`, the sink writes `out-1.mp4`.

    Args:
        camera: name of the camera.

    Raises:
        UserError: the file cannot be written.
    """

    capacity = 8  # each message has a picture of several megabytes
    backpressure = True

    def __init__(self, settings: VideoSettings, camera: str) -> None:
        super().__init__()
        requested = Path(settings.path)
        path = _unused_path(requested)
        self._camera, self.name = camera, f"video {path}"
        self._writer = VideoWriter(path, settings.fps)
        if path != requested:
            logger.info("%s exists; writing %s instead", requested, path)

    def accepts(self, message: Message) -> bool:
        tagged = isinstance(message, FrameRow) and message.error is None
        return tagged and message.camera == self._camera

    def needs_picture(self, message: Message) -> bool:
        return True

    def deliver(self, message: Message, rgb: RGB | None) -> None:
        assert isinstance(message, FrameRow)
        assert rgb is not None
        lines = [f"{tag.label} {tag.score:.2f}" for tag in message.tags]
        self._writer.write(images.draw_caption(rgb, lines), message.position)

    def close(self) -> int:
        self._writer.close()
        return 0


def _unused_path(path: Path) -> Path:
    """Return the path, or one with a number if it already holds a file that is not empty."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(1))
    return next(
        candidate
        for candidate in chain([path], numbered)
        if not candidate.is_file() or not candidate.stat().st_size
    )
