"""A stream that runs in a thread, for the tests."""

from __future__ import annotations

import json
import threading
import time

from patchct_edge.runtime.stream.loop import Control
from patchct_edge.runtime.stream.run import run_stream


class Running:
    """A stream in a thread of its own; `rows` reads what it has written so far."""

    def __init__(self, given, path, frames=None):
        self.control, self.notes, self._path = Control(), [], path
        self.summary = self.error = None
        self.given = given  # what a reload reads
        self._thread = threading.Thread(target=self._run, args=(given, frames))
        self._thread.start()

    def _run(self, given, frames):
        try:
            self.summary = run_stream(
                given, self.control, again=lambda: self.given, note=self.notes.append, frames=frames
            )
        except Exception as error:
            self.error = error

    def rows(self):
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text().splitlines()]

    def events(self, name):
        return [row for row in self.rows() if event_name(row) == name]

    def wait_for(self, condition, seconds=20.0):
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, (self.rows()[-5:], self.notes)
            assert self._thread.is_alive() or condition(), (self.error, self.notes)
            time.sleep(0.02)

    def is_back(self, frames=10):
        """Whether so many frames were tagged since the camera was connected again."""
        kinds = [event_name(row) for row in self.rows()]
        if kinds.count("camera connected") < 2:
            return False
        return kinds[kinds[::-1].index("camera connected") * -1 - 1 :].count("frame") >= frames

    def end(self):
        """Stop it, and return its summary."""
        self.control.stop_requested.set()
        return self.join()

    def join(self, seconds=30.0):
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.summary


def event_name(row):
    """Return the type and state of a row, such as "frame", "label on" or "camera lost"."""
    return " ".join(row[key] for key in ("type", "state") if key in row)


def balanced(counts):
    """Whether every captured frame is accounted for."""
    ends = counts.tagged + counts.failed + counts.dropped + counts.skipped
    return counts.captured == ends


def closed(courier, seconds=2.0):
    """Close a courier that has so many seconds for what waits; return its counts."""
    courier.finish()
    until = time.monotonic() + seconds
    while not courier.finished and time.monotonic() < until:
        time.sleep(0.005)
    courier.close(time.monotonic() + 0.2)
    return courier.counts
