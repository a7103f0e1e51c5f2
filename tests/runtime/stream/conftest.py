"""Streams with the fake engine that run in threads."""

from __future__ import annotations

import pytest
from streams import StreamThread

from patchct_edge.runtime.stream.settings import CameraSettings, JSONLSettings, StreamSettings


@pytest.fixture
def stream(tiny_bundle, tmp_path):
    """Start a stream of sources (or settings of cameras) with the fake engine."""
    stream_threads = []

    def start(*sources, max_frames=None, sinks=(), path=tmp_path / "rows.jsonl", **changes):
        cameras = tuple(
            source
            if isinstance(source, CameraSettings)
            else CameraSettings(source=str(source), name=f"c{n}")
            for n, source in enumerate(sources)
        )
        values = {
            "model": str(tiny_bundle),
            "engine": "fake",
            "smoothing": 0.0,
            "min_duration": 0.0,
            **changes,
        }
        settings = StreamSettings(
            cameras=cameras, sinks=(JSONLSettings(path=str(path)), *sinks), **values
        )
        stream_threads.append(StreamThread(settings, path, max_frames))
        return stream_threads[-1]

    yield start
    for stream_thread in stream_threads:
        stream_thread.control.stop_requested.set()
        stream_thread._thread.join(10)
