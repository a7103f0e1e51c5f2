"""A stream that runs in a thread, for the tests."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from patchct_edge.runtime.stream.loop import Control
from patchct_edge.runtime.stream.run import run_stream
from patchct_edge.runtime.stream.settings import StreamSettings
from patchct_edge.runtime.stream.sources.camera import FrameCounts

PACKAGE_LOGGER = logging.getLogger("patchct_edge")


class MessageRecorder(logging.Handler):
    """Keeps the messages that this package logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


class StreamThread:
    """A stream in a thread of its own.

    Attributes:
        settings: what a reload reads.
        messages: what this package logged meanwhile.
    """

    def __init__(self, settings: StreamSettings, path: Path, max_frames: int | None = None) -> None:
        self.control, self.settings, self._path = Control(), settings, path
        self.summary: Any = None
        self.error: Exception | None = None
        self._recorder = MessageRecorder()
        self.messages = self._recorder.messages
        self._thread = threading.Thread(target=self._run, args=(settings, max_frames))
        self._thread.start()

    def _run(self, settings: StreamSettings, max_frames: int | None) -> None:
        level = PACKAGE_LOGGER.level
        PACKAGE_LOGGER.addHandler(self._recorder)
        PACKAGE_LOGGER.setLevel(logging.INFO)
        try:
            self.summary = run_stream(
                settings,
                self.control,
                read_settings=lambda: self.settings,
                max_frames=math.inf if max_frames is None else max_frames,
            )
        except Exception as error:
            self.error = error
        finally:
            PACKAGE_LOGGER.setLevel(level)
            PACKAGE_LOGGER.removeHandler(self._recorder)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows and events that were written whole so far."""
        if not self._path.exists():
            return []
        whole_lines, _, _ = self._path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole_lines.splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of a name, such as "label on" or "camera lost"."""
        return [row for row in self.rows() if event_name(row) == name]

    def wait_for(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait until a condition is true; fail if it is not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.rows()[-5:], self.messages)
            assert self._thread.is_alive() or condition(), (self.error, self.messages)
            time.sleep(0.02)

    def has_reconnected(self, frames: int = 10) -> bool:
        """Whether so many frames were tagged since the camera was connected again."""
        names = [event_name(row) for row in self.rows()]
        if names.count("camera connected") < 2:
            return False
        last_connect = len(names) - 1 - names[::-1].index("camera connected")
        return names[last_connect:].count("frame") >= frames

    def end(self) -> Any:
        """Stop the stream, and return its summary."""
        self.control.stop_requested.set()
        return self.join()

    def join(self, seconds: float = 30.0) -> Any:
        """Wait for the stream to end, and return its summary."""
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.summary


def event_name(row: Mapping[str, Any]) -> str:
    """Return the type and state of a row, such as "frame", "label on" or "camera lost"."""
    return " ".join(row[key] for key in ("type", "state") if key in row)


def is_balanced(counts: FrameCounts) -> bool:
    """Whether every captured frame is accounted for."""
    ends = counts.tagged + counts.failed + counts.dropped + counts.skipped
    return counts.captured == ends
