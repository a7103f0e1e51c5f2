"""The settings of a stream and the rows that the documentation is made from."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from patchct_edge.runtime.stream.settings import (
    SINK_MODELS,
    CameraSettings,
    StreamSettings,
    list_settings,
)


def test_settings_cannot_be_changed():
    camera = CameraSettings(source="0")
    with pytest.raises(ValidationError):
        camera.name = "door"


def test_every_setting_has_a_row_with_its_meaning():
    rows = {(row.table, row.name): row for row in list_settings()}
    assert all(row.meaning for row in rows.values())
    assert {row.name for row in rows.values() if not row.table} == {
        *StreamSettings.model_fields
    } - {"cameras", "sinks", "thresholds"}
    assert {row.name for row in rows.values() if row.table == "[[camera]]"} == {
        *CameraSettings.model_fields
    }
    assert all(any(f'"{kind}"' in table for table, _ in rows) for kind in SINK_MODELS)


@pytest.mark.parametrize(
    ("table", "name", "default", "range_"),
    [
        ("", "model", "required", "text"),
        ("", "smoothing", "0.5", ">= 0"),
        ("", "stall_timeout", "10", "> 0"),
        ("[[camera]]", "transport", '"tcp"', '"tcp" or "udp"'),
        ("[[camera]]", "roi", "none", "4 numbers"),
        ("[[camera]]", "loop", "false", "true or false"),
        ('[[sink]] kind = "jsonl"', "keep_files", "5", ">= 0"),
        ("[thresholds] LABEL", "on", "required", ">= 0, <= 1"),
    ],
)
def test_a_row_shows_default_and_range(table, name, default, range_):
    (row,) = [row for row in list_settings() if (row.table, row.name) == (table, name)]
    assert (row.default, row.range) == (default, range_)
