"""A feed whose picture no longer changes."""

from __future__ import annotations

import numpy as np
import pytest

from patchct_edge.runtime.stream.sources.frame import Frame
from patchct_edge.runtime.stream.sources.frozen_feed import FrozenFeedDetector, FrozenFeedError

LIMIT_S = 10.0
BLACK_PICTURE = np.zeros((4, 4, 3), np.uint8)


def make_frame(seconds, checksum):
    compute_checksum = None if checksum is None else (lambda: checksum)
    return Frame(lambda: BLACK_PICTURE, seconds, seconds, seconds, compute_checksum)


def start_detector():
    detector = FrozenFeedDetector(LIMIT_S)
    detector.start(0.0)
    return detector


def test_a_changing_picture_is_accepted():
    detector = start_detector()
    assert all(detector.accepts(make_frame(float(s), checksum=s)) for s in range(60))


def test_a_picture_that_does_not_change_for_the_limit_is_an_error():
    detector = start_detector()
    assert all(detector.accepts(make_frame(float(s), checksum=1)) for s in range(11))
    with pytest.raises(FrozenFeedError, match="camera feed is frozen"):
        detector.accepts(make_frame(11.0, checksum=1))


def test_after_a_reconnect_the_frozen_picture_is_refused_until_it_changes():
    detector = start_detector()
    detector.accepts(make_frame(0.0, checksum=1))
    with pytest.raises(FrozenFeedError):
        detector.accepts(make_frame(11.0, checksum=1))
    detector.start(20.0)
    assert not detector.accepts(make_frame(20.0, checksum=1))
    assert not detector.accepts(make_frame(20.1, checksum=1))
    assert detector.accepts(make_frame(20.2, checksum=2))


def test_a_source_without_checksums_is_never_frozen():
    detector = start_detector()
    assert all(detector.accepts(make_frame(float(s), checksum=None)) for s in range(60))
