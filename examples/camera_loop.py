"""Print the tags of a camera whenever they change.

python examples/camera_loop.py MODEL.patchct test://pattern?fps=5

A source is a camera (/dev/video0), a URL (rtsp://..., http://...), a video file, a folder of images
or a test pattern. For smoothed tags and cameras that break down, use `patchct stream`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from patchct_edge import Tagger
from patchct_edge.runtime.stream.settings import CameraSettings
from patchct_edge.runtime.stream.sources.open import open_source

TIMEOUT_S = 10.0  # to connect, and for each frame


def watch_camera(bundle: Path, source: str) -> Iterator[tuple[float, frozenset[str]]]:
    """Yield (seconds since the start, labels) whenever the labels change."""
    stop = threading.Event()
    camera = CameraSettings(source=source)
    previous: frozenset[str] | None = None
    with (
        Tagger.open(bundle, latency=True) as tagger,  # one frame at a time, as fast as possible
        open_source(camera, TIMEOUT_S, stop) as frames,
    ):
        for frame in frames.read_frames():
            labels = frozenset(tag.label for tag in tagger.tag(frame.load_rgb()))
            if labels != previous:
                yield frame.position, labels
            previous = labels


if __name__ == "__main__":
    for position_s, labels in watch_camera(Path(sys.argv[1]), sys.argv[2]):
        print(f"{position_s:8.2f} s  {', '.join(sorted(labels)) or '(no tag)'}", flush=True)
