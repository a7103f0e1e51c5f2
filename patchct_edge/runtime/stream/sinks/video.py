"""A video file with the tags drawn in."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.runtime.stream.events import FrameRow, Message
from patchct_edge.runtime.stream.settings import VideoSettings
from patchct_edge.runtime.stream.sinks.base import Sink
from patchct_edge.runtime.stream.sources.video import VideoWriter


class VideoSink(Sink):
    """The tagged frames of one camera. A file that is there already is kept: `out.mp4` becomes
    `out-1.mp4`.

    Args:
        camera: its name.

    Raises:
        UserError: the file cannot be written.
    """

    capacity = 8  # each with a picture of several megabytes
    patient = True

    def __init__(self, given: VideoSettings, camera: str) -> None:
        super().__init__()
        asked = Path(given.path)
        path = _free(asked)
        self._camera, self.name = camera, f"video {path}"
        self._kept = asked if path != asked else None
        self._writer = VideoWriter(path, given.fps)

    def open(self) -> None:
        if self._kept is not None:
            self.say(f"{self.name}: {self._kept} is there already")

    def wants(self, message: Message) -> bool:
        tagged = isinstance(message, FrameRow) and message.error is None
        return tagged and message.camera == self._camera

    def wants_picture(self, message: Message) -> bool:
        return True

    def deliver(self, message: Message, rgb: RGB | None) -> None:
        assert isinstance(message, FrameRow)
        assert rgb is not None
        lines = [f"{tag.label} {tag.score:.2f}" for tag in message.tags]
        self._writer.write(images.draw_caption(rgb, lines), message.position)

    def close(self) -> int:
        self._writer.close()
        return 0


def _free(path: Path) -> Path:
    """Return a path where no video is yet: this one, or one with a number."""
    numbered = (path.with_stem(f"{path.stem}-{n}") for n in count(1))
    return next(p for p in chain([path], numbered) if not p.is_file() or not p.stat().st_size)
