"""A JPEG of the frame in which a label turned on."""

from __future__ import annotations

import re
from collections import deque
from datetime import datetime, timezone
from pathlib import Path

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.errors import UserError
from patchct_edge.files import write_atomically
from patchct_edge.runtime.stream.events import LabelEvent, Message
from patchct_edge.runtime.stream.settings import SnapshotsSettings
from patchct_edge.runtime.stream.sinks.base import Sink

SUFFIX = ".jpg"
SNAPSHOT_NAME = re.compile(rf"\d{{8}}T\d{{6}}\.\d{{6}}-.+{re.escape(SUFFIX)}")
MAX_NAME_BYTES = 200  # without the suffix


class SnapshotsSink(Sink):
    """Files `TIME-CAMERA-LABEL.jpg` in one folder.

    Beyond `keep_files` the oldest are deleted; files with other names are left alone.

    Raises:
        UserError: the folder cannot be created.
    """

    capacity = 8  # each message has a picture of several megabytes

    def __init__(self, settings: SnapshotsSettings) -> None:
        super().__init__()
        self._folder, self._keep_files = Path(settings.folder), settings.keep_files
        self.name = f"snapshots {settings.folder}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {settings.folder}", got=error.strerror) from None
        names = (path.name for path in self._folder.iterdir())
        self._names = deque(sorted(filter(SNAPSHOT_NAME.fullmatch, names)))  # oldest first

    def accepts(self, message: Message) -> bool:
        return isinstance(message, LabelEvent) and message.on

    def needs_picture(self, message: Message) -> bool:
        return True

    def deliver(self, message: Message, rgb: RGB | None) -> None:
        assert isinstance(message, LabelEvent)
        assert rgb is not None
        name = _snapshot_name(message)
        write_atomically(self._folder / name, images.encode(rgb, "JPEG"))
        self._names.append(name)
        while len(self._names) > self._keep_files:
            (self._folder / self._names.popleft()).unlink(missing_ok=True)


def _snapshot_name(event: LabelEvent) -> str:
    """Return a file name without characters that a file system or shell treats specially."""
    time = datetime.fromtimestamp(event.wall_time, timezone.utc)
    text = f"{time:%Y%m%dT%H%M%S.%f}-{event.camera}-{event.label}"
    safe = re.sub(r"[^\w.-]+", "_", text)
    return safe.encode()[:MAX_NAME_BYTES].decode(errors="ignore") + SUFFIX
