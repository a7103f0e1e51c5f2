"""A video file with the tags drawn in."""

from __future__ import annotations

from pathlib import Path

from patchct_edge import images
from patchct_edge.images import RGB
from patchct_edge.runtime.stream import settings
from patchct_edge.runtime.stream.messages import FrameRow, Message
from patchct_edge.runtime.stream.outlets.base import Outlet
from patchct_edge.runtime.stream.video import VideoWriter


class VideoOutlet(Outlet):
    """The tagged frames of one camera.

    Args:
        camera: its name.

    Raises:
        UserError: the file cannot be written.
    """

    capacity = 8  # each with a picture of several megabytes
    patient = True

    def __init__(self, given: settings.Video, camera: str) -> None:
        super().__init__()
        self._camera, self.name = camera, f"video {given.path}"
        self._writer = VideoWriter(Path(given.path), given.fps)

    def wants(self, message: Message) -> bool:
        return isinstance(message, FrameRow) and message.camera == self._camera

    def wants_picture(self, message: Message) -> bool:
        return True

    def deliver(self, message: Message, rgb: RGB | None) -> None:
        assert isinstance(message, FrameRow)
        if rgb is None:  # a frame that could not be converted
            return
        lines = [f"{tag.label} {tag.score:.2f}" for tag in message.tags]
        self._writer.write(images.captioned(rgb, lines), message.position)

    def close(self) -> int:
        self._writer.close()
        return 0
