"""Streams over a fake engine, and what they wrote."""

from __future__ import annotations

import pytest
from streams import Running

from patchct_edge.runtime.stream import settings


@pytest.fixture
def stream(tiny_bundle, tmp_path):
    """Start a stream over sources (or cameras' settings) with the fake engine."""
    started = []

    def start(*sources, frames=None, outputs=(), path=tmp_path / "rows.jsonl", **changes):
        cameras = tuple(
            each if isinstance(each, settings.Camera) else settings.Camera(str(each), f"c{n}")
            for n, each in enumerate(sources)
        )
        values = {"model": str(tiny_bundle), "engine": "fake", "smooth": 0.0, "hold": 0.0}
        values |= changes
        given = settings.Stream(
            cameras=cameras, outputs=(settings.JSONL(path=str(path)), *outputs), **values
        )
        started.append(Running(given, path, frames))
        return started[-1]

    yield start
    for each in started:
        each.orders.stop.set()
        each._thread.join(10)
