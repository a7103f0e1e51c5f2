"""Stream settings from plain values."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchct_edge.runtime.stream.parse import parse_settings

NAMES = (
    "model",
    "cameras",
    "sinks",
    "thresholds",
    "smoothing",
    "stall_timeout",
    "name",
    "source",
    "max_fps",
    "roi",
    "kind",
    "url",
    "path",
    "on",
    "off",
)
SCALARS = st.none() | st.booleans() | st.floats(-1, 3) | st.text("ab/", max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=8,
)
LOCATIONS = [
    ("model",),
    ("color",),
    ("smoothing",),
    ("cameras",),
    ("cameras", 0),
    ("cameras", 0, "source"),
    ("cameras", 0, "max_fps"),
    ("cameras", 1, "roi"),
    ("cameras", 1, "roi", 2),
    ("sinks",),
    ("sinks", 0),
    ("sinks", 0, "url"),
    ("thresholds",),
    ("thresholds", "red"),
]


@given(st.dictionaries(st.sampled_from(LOCATIONS), VALUES, max_size=4))
def test_any_value_at_any_location_is_accepted_or_reported(changes):
    values = {
        "model": "x.patchct",
        "cameras": [{"source": "0"}, {"source": "1", "name": "b", "roi": [0, 0, 1, 1]}],
        "sinks": [{"kind": "mqtt", "url": "mqtt://broker/house"}, {"kind": "jsonl"}],
        "thresholds": {"red": 0.5},
    }
    for location, value in sorted(changes.items(), key=lambda change: -len(change[0])):
        target: Any = values
        for part in location[:-1]:
            target = target[part]
        target[location[-1]] = value
    faults: list[str] = []
    settings = parse_settings(values, faults)
    assert settings is not None or faults
    if settings is not None:
        assert len(settings.cameras) == len(values["cameras"])


def test_infinity_and_nan_are_refused():
    faults: list[str] = []
    values = {"model": "x", "cameras": [{"source": "0", "max_fps": float("inf")}]}
    parse_settings({**values, "smoothing": float("nan")}, faults)
    assert [fault.split(":")[0] for fault in faults] == ["smoothing", "camera 1 max_fps"]


def test_a_path_that_is_not_utf8_is_kept():
    faults: list[str] = []
    values = {"model": "x\udcff", "cameras": [{"source": "\udcff", "roi": [0, 0, 1, 1]}]}
    settings = parse_settings({**values, "sinks": [{"kind": "jsonl", "path": "\udcff"}]}, faults)
    assert faults == []
    assert settings is not None
    assert (settings.model, settings.cameras[0].source) == ("x\udcff", "\udcff")
    sink: Any = settings.sinks[0]
    assert sink.path == "\udcff"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"cameras": {"source": "0"}}, "camera: got {'source': '0'}, expected [[camera]]"),
        ({"sinks": {"kind": "mqtt"}}, "sink: got {'kind': 'mqtt'}, expected [[sink]]"),
        (
            {"cameras": [{"source": "0", "roi": [0, 1]}]},
            "camera 1 roi: got [0, 1], expected x, y, width, height",
        ),
        (
            {"cameras": [{"source": "0", "roi": [0, 0, 1, 1, 1]}]},
            "camera 1 roi: got [0, 0, 1, 1, 1], expected x, y, width, height",
        ),
        ({"cameras": [{"source": "0", "roi": 1}]}, "camera 1 roi: got 1, expected a list"),
        (
            {"cameras": [{"source": "0", "loop": 1}]},
            "camera 1 loop: got 1, expected true or false",
        ),
        (
            {"sinks": [{"kind": "jsonl", "keep_files": 5.0}]},
            "sink 1 keep_files: got 5.0, expected a whole number",
        ),
        (
            {"sinks": [{"path": "x"}]},
            "sink 1 kind: missing, expected one of jsonl, mqtt, webhook, snapshots, video",
        ),
        ({"sinks": [{"kind": "mqt"}]}, "sink 1 kind: got 'mqt', did you mean 'mqtt'?"),
        ({"model": date(2026, 1, 2), "smoothing": "1"}, "smoothing: got '1', expected a number"),
    ],
)
def test_a_fault_of_form_is_one_plain_sentence(changes, fault):
    faults: list[str] = []
    parse_settings({"model": "x", "cameras": [{"source": "0"}], **changes}, faults)
    assert faults == [fault]


def test_entries_with_faults_do_not_shift_the_others():
    faults: list[str] = []
    settings = parse_settings(
        {
            "model": "x",
            "cameras": [3, {"name": "b"}, {"source": "2", "name": "c"}],
            "sinks": ["jsonl", {"kind": "mqtt"}, {"kind": "jsonl", "path": "x"}],
        },
        faults,
    )
    assert settings is not None
    assert [camera.source for camera in settings.cameras] == ["test://pattern"] * 2 + ["2"]
    assert [sink.kind for sink in settings.sinks] == ["jsonl"]
    assert len(faults) == 4
