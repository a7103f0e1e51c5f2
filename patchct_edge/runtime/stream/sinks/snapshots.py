"""A picture of every moment at which a label turned on."""

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
OURS = re.compile(rf"\d{{8}}T\d{{6}}\.\d{{6}}-.+{re.escape(SUFFIX)}")
LONGEST = 200  # bytes of a name, without suffix


class SnapshotsSink(Sink):
    """Files `TIME-CAMERA-LABEL.jpg` in one folder, of which the oldest are deleted.

    Raises:
        UserError: the folder cannot be made.
    """

    capacity = 8  # each with a picture of several megabytes

    def __init__(self, given: SnapshotsSettings) -> None:
        super().__init__()
        self._folder, self._keep = Path(given.folder), given.keep_files
        self.name = f"snapshots {given.folder}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {given.folder}", got=error.strerror) from None
        self._kept = deque(sorted(p.name for p in self._folder.iterdir() if OURS.fullmatch(p.name)))

    def wants(self, message: Message) -> bool:
        return isinstance(message, LabelEvent) and message.on

    def wants_picture(self, message: Message) -> bool:
        return True

    def deliver(self, message: Message, rgb: RGB | None) -> None:
        assert isinstance(message, LabelEvent)
        assert rgb is not None
        moment = datetime.fromtimestamp(message.wall, timezone.utc)
        words = f"{moment:%Y%m%dT%H%M%S.%f}-{message.camera}-{message.label}"
        safe = re.sub(r"[^\w.-]+", "_", words).encode()[:LONGEST].decode(errors="ignore")
        name = safe + SUFFIX
        write_atomically(self._folder / name, images.encode(rgb, "JPEG"))
        self._kept.append(name)
        while len(self._kept) > self._keep:
            (self._folder / self._kept.popleft()).unlink(missing_ok=True)
