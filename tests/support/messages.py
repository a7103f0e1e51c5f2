"""Messages of a stream, for the tests of its sinks."""

from __future__ import annotations

import time

import numpy as np

from patchct_edge.bundle import Tag
from patchct_edge.runtime.stream.events import FrameRow, LabelEvent
from patchct_edge.runtime.stream.sinks.base import DeliveryCounts, SinkWorker

GRAY_LEVEL = 90
GRAY_PICTURE = np.full((48, 64, 3), GRAY_LEVEL, np.uint8)
START_TIME = 1e9  # seconds since 1970: 2001-09-09T01:46:40Z


def frame_row(number: int, camera: str = "door", position: float = 0.0) -> FrameRow:
    return FrameRow(camera, number, START_TIME + number, position, 0.01, [Tag("dog", 0.9)])


def label_event(
    number: int = 0, label: str = "dog", camera: str = "door", on: bool = True
) -> LabelEvent:
    return LabelEvent(camera, label, on, 0.9, START_TIME + number, START_TIME)


def close_worker(worker: SinkWorker, seconds: float = 2.0) -> DeliveryCounts:
    """Close a sink's worker after at most so many seconds for its queue; return its counts."""
    worker.finish()
    deadline = time.monotonic() + seconds
    while not worker.finished and time.monotonic() < deadline:
        time.sleep(0.005)
    worker.close(time.monotonic() + 0.2)
    return worker.counts
