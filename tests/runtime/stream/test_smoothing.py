"""Smoothing and hysteresis on made-up score tracks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchct_edge.runtime.stream.smoothing import Change, Hysteresis, LabelSmoother


def steady(on=0.5, off=0.4, smooth=0.0, hold=0.0, labels=1):
    return LabelSmoother(Hysteresis(np.full(labels, on), np.full(labels, off), smooth, hold))


def played(state, track):
    """Return (position, on) of every change of the only label."""
    return [(t, change.on) for t, score in track for change in state.update(np.array([score]), t)]


def test_without_smoothing_and_hold_a_label_follows_its_thresholds():
    track = list(enumerate([0.3, 0.5, 0.45, 0.41, 0.39, 0.45, 0.49, 0.6]))
    assert played(steady(), track) == [(1, True), (4, False), (7, True)]


def test_a_spike_shorter_than_the_hold_changes_nothing():
    assert played(steady(hold=1), [(0, 0.1), (0.5, 0.9), (1, 0.9), (1.4, 0.1), (2.6, 0.1)]) == []


def test_a_change_is_made_once_it_has_been_asked_for_throughout_the_hold():
    state = steady(hold=1)
    track = [(n / 4, 0.9 if n >= 2 else 0.1) for n in range(12)]
    assert played(state, track) == [(1.5, True)]
    assert played(state, [(3, 0.1), (3.5, 0.9), (4, 0.1), (4.5, 0.1), (5, 0.1)]) == [(5, False)]


def test_a_change_tells_since_when_the_scores_said_so():
    state = steady(hold=1)
    changes = [c for n in range(9) for c in state.update(np.array([0.9]), n / 4)]
    assert changes == [Change(0, True, pytest.approx(0.9), 0.0)]
    fast = steady(hold=1)  # a file is read faster than it plays
    changes = [c for n in range(9) for c in fast.update(np.array([0.9]), n / 4, 100 + n / 100)]
    assert changes == [Change(0, True, pytest.approx(0.9), 100.0)]


@pytest.mark.parametrize("rate", [5, 10, 50])
def test_smoothing_does_not_depend_on_the_frame_rate(rate):
    state = steady(smooth=0.5)
    state.update(np.array([0.0]), 0.0)
    for n in range(1, rate + 1):  # a step to 1, seen for one second
        state.update(np.array([1.0]), n / rate)
    assert state.scores[0] == pytest.approx(1 - math.exp(-1 / 0.5))


def test_after_a_long_gap_the_new_score_counts_alone():
    state = steady(smooth=0.5)
    state.update(np.array([1.0]), 0.0)
    state.update(np.array([0.0]), 60.0)
    assert state.scores[0] < 1e-9


def test_a_clock_that_stands_still_or_falls_does_no_harm():
    state = steady(smooth=0.5)
    state.update(np.array([0.2]), 10.0)
    state.update(np.array([0.8]), 5.0)
    assert state.scores[0] == pytest.approx(0.2)


def test_what_is_forgotten_is_off_and_begins_anew():
    state = steady(smooth=5, labels=3)
    state.update(np.array([0.9, 0.1, 0.8]), 0.0)
    assert [(c.label, c.on) for c in state.forget(1.0)] == [(0, False), (2, False)]
    assert state.tags().size == 0
    state.update(np.array([0.0, 0.9, 0.0]), 1.1)  # nothing of the old scores is left
    assert state.tags().tolist() == [1]


def reference(track, on, off, smooth, hold):
    """One label, step by step, in plain Python."""
    state, score, last, since, states = False, 0.0, None, None, []
    for t, x in track:
        weight = 1.0 if last is None or smooth == 0 else 1 - math.exp(-(t - last) / smooth)
        score, last = score + weight * (x - score), t
        asks = score < off if state else score >= on
        since = (t if since is None else since) if asks else None
        if asks and t - since >= hold:
            state, since = not state, None
        states.append(state)
    return states


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 100)), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.sampled_from([0.0, 0.25, 1.0]),
)
def test_it_is_what_a_slow_reference_says(steps, smooth, hold):
    positions = np.cumsum([step for step, _ in steps]) / 8
    track = [(float(t), x / 100) for t, (_, x) in zip(positions, steps, strict=True)]
    state = steady(0.5, 0.4, smooth, hold)
    found = []
    for t, x in track:
        changes = state.update(np.array([x]), t)
        assert [c.on for c in changes] == ([bool(state.on[0])] if changes else [])
        found.append(bool(state.on[0]))
    assert found == reference(track, 0.5, 0.4, smooth, hold)
