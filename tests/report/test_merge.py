"""Headline figures of written reports, and files that are not reports."""

from __future__ import annotations

import json

import pytest

from patchct_edge.errors import UserError
from patchct_edge.report.merge import EngineSummary, summarize_report


def make_engine(throughput=(80.0, 90.0), p95=1.5, map_=0.5):
    total = {"p50": 1, "p90": 1.25, "p95": p95, "p99": 2, "max": 3}
    return {
        "engine": {"precision": "int8", "engine": "openvino"},
        "latency": {"stages": {"total": total}},
        "sweep": [{"images_per_second": value} for value in throughput],
        "cold_start": {"peak_mb": 100},
        "accuracy": {"map": map_},
    }


@pytest.fixture
def write(tmp_path):
    """Write a report and return its path."""

    def write_report(*engines, machine=None):
        path = tmp_path / "device.json"
        report = {"machine": machine or {"CPU": "a CPU, 2 cores"}, "engines": engines}
        path.write_text(json.dumps(report), "utf-8")
        return path

    return write_report


def test_every_engine_has_its_headline_figures(write):
    first, second = summarize_report(write(make_engine(), make_engine(map_=None)))
    assert first == EngineSummary(
        "device", "a CPU, 2 cores", "int8 openvino", 1, 1.5, 2, 90, 100, 0.5
    )
    assert second.map is None


@pytest.mark.parametrize(
    "damage",
    [{"throughput": ()}, {"throughput": ("fast", "slow")}, {"p95": None}, {"map_": "good"}],
    ids=str,
)
def test_a_report_without_a_figure_is_refused(write, damage):
    with pytest.raises(UserError, match=r"(?s)device\.json is not a report.*expected: a \.json"):
        summarize_report(write(make_engine(**damage)))


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"{}", b"\xff"])
def test_a_file_that_is_not_a_report_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"(?s)a\.json is not a report.*expected: a \.json"):
        summarize_report(tmp_path / "a.json")
