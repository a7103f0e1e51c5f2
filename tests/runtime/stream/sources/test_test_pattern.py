"""Moving color bars."""

from __future__ import annotations

import threading
from itertools import islice

import numpy as np

from patchct_edge.runtime.stream.sources.test_pattern import BAR_COLORS, TestPatternSource


def read_frames(count, size=(60, 4), rate=0.0):
    source = TestPatternSource(rate, size, threading.Event())
    return list(islice(source.read_frames(), count))


def test_bars_have_every_color_and_move_by_one_pixel():
    first, second = (frame.load_rgb() for frame in read_frames(2))
    assert first.shape == (4, 60, 3)
    assert {tuple(color) for color in first[0]} == {tuple(color) for color in BAR_COLORS}
    np.testing.assert_array_equal(first[:, 1:], second[:, :-1])


def test_checksums_are_equal_for_equal_pictures_only():
    checksums = [frame.checksum() for frame in read_frames(61)]
    assert checksums[0] == checksums[60]
    assert len(set(checksums[:60])) == 60


def test_frames_arrive_at_their_rate():
    frames = read_frames(6, rate=50.0)
    assert frames[5].captured_at - frames[0].captured_at >= 0.09


def test_stop_ends_the_stream():
    stop = threading.Event()
    frames = TestPatternSource(0.1, (6, 4), stop).read_frames()
    next(frames)
    stop.set()
    assert list(frames) == []
