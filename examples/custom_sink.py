"""Run a stream whose events go to a sink of your own, here an SQLite database.

python examples/custom_sink.py MODEL.patchct test://pattern?fps=5 events.sqlite

The stream calls the sink in a thread of its own: a slow sink never holds up a camera.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from patchct_edge.arrays import RGB
from patchct_edge.runtime.stream.events import LabelEvent, Message
from patchct_edge.runtime.stream.run import Summary, run_stream
from patchct_edge.runtime.stream.settings import CameraSettings, StreamSettings
from patchct_edge.runtime.stream.sinks.base import Sink


class SQLiteSink(Sink):
    """Stores when each label turns on and off."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.name, self._path = "sqlite", path

    def open(self) -> None:
        """Open the database in the thread that will write to it."""
        self._database = sqlite3.connect(self._path, isolation_level=None)  # commits each row
        self._database.execute("CREATE TABLE IF NOT EXISTS events (time REAL, label TEXT, state)")

    def accepts(self, message: Message) -> bool:
        """Accept label events; rows of frames and camera events go to other sinks."""
        return isinstance(message, LabelEvent)

    def deliver(self, message: Message, rgb: RGB | None) -> None:
        """Store one event."""
        assert isinstance(message, LabelEvent)
        row = (message.wall_time, message.label, "on" if message.on else "off")
        self._database.execute("INSERT INTO events VALUES (?, ?, ?)", row)

    def close(self) -> int:
        """Close the database; no event that was delivered is lost."""
        self._database.close()
        return 0


def store_events(bundle: Path, source: str, database: Path) -> Summary:
    """Run a stream until its source ends."""
    cameras = (CameraSettings(source=source),)
    settings = StreamSettings(model=str(bundle), cameras=cameras, sinks=())
    return run_stream(settings, extra_sinks=[SQLiteSink(database)])


if __name__ == "__main__":
    sys.exit(0 if store_events(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])).complete else 1)
