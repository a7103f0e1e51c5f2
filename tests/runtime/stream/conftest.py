"""Streams over a fake engine, and what they wrote."""

from __future__ import annotations

import pytest
from streams import StreamThread

from patchct_edge.runtime.stream.settings import CameraSettings, JSONLSettings, StreamSettings


@pytest.fixture
def stream(tiny_bundle, tmp_path):
    """Start a stream over sources (or cameras' settings) with the fake engine."""
    started = []

    def start(*sources, frames=None, sinks=(), path=tmp_path / "rows.jsonl", **changes):
        cameras = tuple(
            each
            if isinstance(each, CameraSettings)
            else CameraSettings(source=str(each), name=f"c{n}")
            for n, each in enumerate(sources)
        )
        values = {
            "model": str(tiny_bundle),
            "engine": "fake",
            "smoothing": 0.0,
            "min_duration": 0.0,
        }
        values |= changes
        given = StreamSettings(
            cameras=cameras, sinks=(JSONLSettings(path=str(path)), *sinks), **values
        )
        started.append(StreamThread(given, path, frames))
        return started[-1]

    yield start
    for each in started:
        each.control.stop_requested.set()
        each._thread.join(10)
