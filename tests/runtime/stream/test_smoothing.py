"""Smoothing, hysteresis and minimum duration on synthetic scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchct_edge.runtime.stream.smoothing import Hysteresis, LabelSmoother, LabelTransition


def make_smoother(on=0.5, off=0.4, smoothing=0.0, min_duration=0.0, labels=1):
    hysteresis = Hysteresis(np.full(labels, on), np.full(labels, off), smoothing, min_duration)
    return LabelSmoother(hysteresis)


def list_changes(smoother, track):
    """Return (position, on) of every change of the only label in a track of (position, score)."""
    return [
        (position, change.on)
        for position, score in track
        for change in smoother.update(np.array([score]), position)
    ]


def test_without_smoothing_and_min_duration_a_label_follows_its_thresholds():
    track = list(enumerate([0.3, 0.5, 0.45, 0.41, 0.39, 0.45, 0.49, 0.6]))
    assert list_changes(make_smoother(), track) == [(1, True), (4, False), (7, True)]


def test_a_spike_shorter_than_min_duration_changes_nothing():
    track = [(0, 0.1), (0.5, 0.9), (1, 0.9), (1.4, 0.1), (2.6, 0.1)]
    assert list_changes(make_smoother(min_duration=1), track) == []


def test_a_label_changes_once_its_score_stayed_beyond_the_threshold_for_min_duration():
    smoother = make_smoother(min_duration=1)
    track = [(n / 4, 0.9 if n >= 2 else 0.1) for n in range(12)]
    assert list_changes(smoother, track) == [(1.5, True)]
    track = [(3, 0.1), (3.5, 0.9), (4, 0.1), (4.5, 0.1), (5, 0.1)]
    assert list_changes(smoother, track) == [(5, False)]


def test_a_change_has_the_moment_at_which_the_score_passed_the_threshold():
    score: Any = pytest.approx(0.9)
    smoother = make_smoother(min_duration=1)
    changes = [change for n in range(9) for change in smoother.update(np.array([0.9]), n / 4)]
    assert changes == [LabelTransition(0, True, score, 0.0)]
    smoother = make_smoother(min_duration=1)  # of a file that is read faster than it plays
    changes = [
        change
        for n in range(9)
        for change in smoother.update(np.array([0.9]), n / 4, timestamp=100 + n / 100)
    ]
    assert changes == [LabelTransition(0, True, score, 100.0)]


@pytest.mark.parametrize("rate", [5, 10, 50])
def test_smoothing_does_not_depend_on_the_frame_rate(rate):
    smoother = make_smoother(smoothing=0.5)
    smoother.update(np.array([0.0]), 0.0)
    for n in range(1, rate + 1):  # one second of score 1
        smoother.update(np.array([1.0]), n / rate)
    assert smoother.smoothed_scores[0] == pytest.approx(1 - math.exp(-1 / 0.5))


def test_after_a_long_gap_only_the_new_score_counts():
    smoother = make_smoother(smoothing=0.5)
    smoother.update(np.array([1.0]), 0.0)
    smoother.update(np.array([0.0]), 60.0)
    assert smoother.smoothed_scores[0] < 1e-9


def test_a_position_that_falls_does_not_change_the_score():
    smoother = make_smoother(smoothing=0.5)
    smoother.update(np.array([0.2]), 10.0)
    smoother.update(np.array([0.8]), 5.0)
    assert smoother.smoothed_scores[0] == pytest.approx(0.2)


def test_forget_turns_labels_off_and_starts_again():
    smoother = make_smoother(smoothing=5, labels=3)
    smoother.update(np.array([0.9, 0.1, 0.8]), 0.0)
    changes = smoother.forget(1.0)
    assert [(change.label, change.on) for change in changes] == [(0, False), (2, False)]
    assert smoother.active_labels().size == 0
    smoother.update(np.array([0.0, 0.9, 0.0]), 1.1)  # the old scores have no effect
    assert smoother.active_labels().tolist() == [1]


def compute_states(track, on, off, smoothing, min_duration):
    """Return the state of one label after each score, step by step in plain Python."""
    state, score, last, since, states = False, 0.0, None, None, []
    for position, x in track:
        first = last is None or smoothing == 0
        weight = 1.0 if first else 1 - math.exp(-(position - last) / smoothing)
        score, last = score + weight * (x - score), position
        crossed = score < off if state else score >= on
        since = (position if since is None else since) if crossed else None
        if crossed and position - since >= min_duration:
            state, since = not state, None
        states.append(state)
    return states


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 100)), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.sampled_from([0.0, 0.25, 1.0]),
)
def test_labels_change_as_in_a_reference_implementation(steps, smoothing, min_duration):
    positions = np.cumsum([step for step, _ in steps]) / 8
    track = [(float(p), x / 100) for p, (_, x) in zip(positions, steps, strict=True)]
    smoother = make_smoother(0.5, 0.4, smoothing, min_duration)
    states = []
    for position, x in track:
        changes = smoother.update(np.array([x]), position)
        assert [change.on for change in changes] == ([bool(smoother.is_on[0])] if changes else [])
        states.append(bool(smoother.is_on[0]))
    assert states == compute_states(track, 0.5, 0.4, smoothing, min_duration)
