"""What can be checked of a stream before a camera is opened."""

from __future__ import annotations

import os
import shutil

import pytest

from patchct_edge.errors import FaultsError, UserError
from patchct_edge.runtime.stream.settings import (
    CameraSettings,
    JSONLSettings,
    MQTTSettings,
    StreamSettings,
    ThresholdSettings,
    VideoSettings,
    WebhookSettings,
)
from patchct_edge.runtime.stream.validate import validate


def test_all_settings_that_do_not_fit_are_listed_at_once(tiny_bundle):
    settings = StreamSettings(
        model=str(tiny_bundle),
        cameras=(
            CameraSettings(source="test://pattern", name="a"),
            CameraSettings(source="nowhere.mp4", name="a"),
            CameraSettings(source="test://pattern?size=big", name="b", roi=(0.5, 0.0, 0.6, 1.0)),
        ),
        sinks=(
            VideoSettings(path="out.mp4"),
            WebhookSettings(url="http:///x"),
            MQTTSettings(url="mqtt://broker/house/+"),
            MQTTSettings(url="mqtt:/me:correct horse@broker"),
        ),
        thresholds={
            "purple": ThresholdSettings(on=0.5),
            "red": ThresholdSettings(on=0.5, off=0.6),
        },
    )
    with pytest.raises(FaultsError) as caught:
        validate(settings)
    message = str(caught.value)
    for words in (
        "no such source: nowhere.mp4",
        "2 cameras are named a",
        "invalid frame size",
        "video out.mp4: camera: missing, expected one of a, a, b",
        "webhook: got",
        "no label 'purple'",
        "red: got on 0.5, off 0.6",
        "the topic must not contain + or #",
    ):
        assert words in message, message


def test_files_and_choices_are_checked_before_anything_is_opened(tiny_bundle, tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    rows, missing = str(tmp_path / "rows.jsonl"), str(tmp_path / "none" / "rows.jsonl")
    settings = StreamSettings(
        model=str(tiny_bundle),
        engine="fack",
        precision="int9",
        cameras=(CameraSettings(source=str(film), name=" "),),
        sinks=(
            JSONLSettings(path=rows),
            JSONLSettings(path=rows),
            JSONLSettings(path=missing),
            JSONLSettings(path=str(film)),
            JSONLSettings(path=f"{tiny_bundle}/manifest.json"),
            WebhookSettings(url="htps://hooks/T00/SECRET"),
            MQTTSettings(url="mqtt://a..b/house"),
            VideoSettings(path=str(tmp_path / "none" / ".." / "film.mp4")),
        ),
    )
    with pytest.raises(FaultsError) as caught:
        validate(settings)
    message = str(caught.value)
    for words in (
        f"2 sinks write {rows}",
        f"no folder {tmp_path / 'none'}",
        "is a camera's source",
        "a camera needs a name",
        "did you mean 'fake'",
        "precision: got int9",
        "film.mp4 exists and does not hold JSON lines",
        "manifest.json is within the bundle",
        "got htps://hooks/...",
        "got mqtt://a..b/house",
    ):
        assert words in message, message
    assert "SECRET" not in message
    assert sorted(tmp_path.iterdir()) == [film]


def test_rows_may_go_to_a_pipe_but_not_into_another_bundle(tiny_bundle, tmp_path):
    other = shutil.copytree(tiny_bundle, tmp_path / "other.patchct")
    os.mkfifo(tmp_path / "fifo")
    settings = StreamSettings(
        model=str(tiny_bundle),
        cameras=(CameraSettings(source="test://pattern"),),
        sinks=tuple(
            JSONLSettings(path=str(path)) for path in (tmp_path / "fifo", other / "manifest.json")
        ),
    )
    with pytest.raises(UserError, match=r"manifest.json is within the bundle .*other") as caught:
        validate(settings)
    assert "fifo" not in str(caught.value)
