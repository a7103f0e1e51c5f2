"""Whole streams with the fake engine: tags, events and counts."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from streams import event_name, is_balanced

from patchct_edge import images
from patchct_edge.runtime.stream.run import run_stream
from patchct_edge.runtime.stream.settings import (
    CameraSettings,
    StreamSettings,
    ThresholdSettings,
    WebhookSettings,
)
from patchct_edge.runtime.stream.sinks.base import Sink
from patchct_edge.runtime.stream.sinks.jsonl import JSONLSink

LABELS = ("red", "green", "blue")
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
PATTERN = "test://pattern?fps=50&size=64x48"


@pytest.fixture
def folder(tmp_path):
    """A folder of photos of one color each: 4 red, 4 green, 4 blue."""
    target = tmp_path / "photos"
    target.mkdir()
    for n in range(12):
        color = COLORS[LABELS[n // 4]]
        images.save(np.full((8, 8, 3), color, np.uint8), target / f"{n:02}.png")
    return target


def frame_rows(stream_thread):
    return [row for row in stream_thread.rows() if row["type"] == "frame"]


def test_every_image_of_a_folder_is_tagged_in_order(stream, folder):
    stream_thread = stream(folder)
    counts = stream_thread.join().cameras["c0"]
    rows = frame_rows(stream_thread)
    assert [row["tags"][0]["label"] for row in rows] == [LABELS[n // 4] for n in range(12)]
    assert [row["frame"] for row in rows] == list(range(1, 13))
    assert [row["position"] for row in rows] == list(range(12))
    assert (counts.captured, counts.tagged, counts.dropped) == (12, 12, 0)


def test_events_report_which_labels_turn_on_and_off(stream, folder):
    stream_thread = stream(folder)
    stream_thread.join()
    rows = [row for row in stream_thread.rows() if row["type"] != "frame"]
    assert [(event_name(row), row.get("label")) for row in rows] == [
        ("camera connected", None),
        ("label on", "red"),
        ("label off", "red"),
        ("label on", "green"),
        ("label off", "green"),
        ("label on", "blue"),
        ("camera ended", None),
        ("label off", "blue"),
    ]
    assert rows[-1]["reason"] == "lost"


@pytest.mark.parametrize(("min_duration", "first_event"), [(1.5, ["label on"]), (1.6, [])])
def test_min_duration_is_measured_in_the_time_of_the_source(
    stream, folder, min_duration, first_event
):
    # At two images per second a color lasts 1.5 s from its first image to the second image of the
    # next color; the last color has been seen for less than that when the folder ends.
    camera = CameraSettings(source=str(folder), name="c0", capture_fps=2.0)
    stream_thread = stream(camera, min_duration=min_duration)
    stream_thread.join()
    changes = [row for row in stream_thread.rows() if row.get("reason") == "score"]
    assert [event_name(row) for row in changes][:1] == first_event


def test_thresholds_of_single_labels_replace_the_calibrated_ones(stream, folder):
    stream_thread = stream(folder, thresholds={"green": ThresholdSettings(on=1.0)})
    stream_thread.join()
    assert not any("green" in json.dumps(row) for row in stream_thread.rows())


def test_only_the_region_of_interest_is_tagged(stream, tmp_path):
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:, :20], picture[:, 20:] = COLORS["red"], COLORS["blue"]
    (tmp_path / "halves").mkdir()
    images.save(picture, tmp_path / "halves" / "a.png")
    for n, roi in enumerate([(0.5, 0.0, 0.5, 1.0), (20.0, 0.0, 20.0, 40.0)]):
        camera = CameraSettings(source=str(tmp_path / "halves"), name="c", roi=roi)
        stream_thread = stream(camera, path=tmp_path / f"{n}.jsonl")
        stream_thread.join()
        (row,) = frame_rows(stream_thread)
        assert [tag["label"] for tag in row["tags"]] == ["blue"]


def test_frames_that_fail_are_logged_once_and_leave_the_stream_incomplete(stream):
    stream_thread = stream(CameraSettings(source=PATTERN, name="c0", roi=(0.0, 0.0, 400.0, 10.0)))
    stream_thread.wait_for(lambda: len(stream_thread.rows()) > 20)
    summary = stream_thread.end()
    assert summary.cameras["c0"].tagged == 0
    assert not summary.complete
    (message,) = stream_thread.messages
    assert message.startswith("c0: frame 1 was not tagged: UserError: the region of interest")


def test_an_unreadable_image_is_a_row_with_its_name(stream, folder):
    (folder / "05.png").write_bytes(b"not an image")
    stream_thread = stream(folder)
    summary = stream_thread.join()
    (row,) = [row for row in stream_thread.rows() if "error" in row]
    assert row["error"]["type"] == "ImageError"
    assert "05.png" in row["error"]["message"]
    assert (summary.cameras["c0"].tagged, summary.cameras["c0"].failed) == (11, 1)
    assert not summary.complete
    assert [message.split(":")[1] for message in stream_thread.messages] == [
        " frame 6 was not tagged",
        " ended, the stream ended",
    ]


def test_a_stream_that_is_stopped_turns_its_labels_off(stream):
    stream_thread = stream(PATTERN)
    stream_thread.wait_for(lambda: stream_thread.events("label on"))
    summary = stream_thread.end()
    turned_on, turned_off = (
        {row["label"] for row in stream_thread.events(f"label {state}")} for state in ("on", "off")
    )
    assert turned_on == turned_off != set()
    last_row = stream_thread.rows()[-1]
    assert event_name(last_row) == "camera ended"
    assert last_row["reason"] == "the stream was stopped"
    assert summary.stopped
    assert summary.complete


def test_every_frame_of_a_fast_camera_is_accounted_for(stream):
    counts = stream("test://pattern?fps=0&size=64x48", max_frames=300).join().cameras["c0"]
    assert counts.tagged == 300
    assert is_balanced(counts)


def test_four_cameras_share_one_engine_fairly(stream):
    summary = stream(*["test://pattern?fps=0&size=64x48"] * 4, max_frames=400).join()
    for counts in summary.cameras.values():
        assert is_balanced(counts)
        assert counts.tagged == pytest.approx(100, abs=30)


def test_a_dead_camera_does_not_affect_the_others(stream):
    stream_thread = stream(
        "rtsp://127.0.0.1:9/none", "test://pattern?fps=100&size=64x48", max_frames=50
    )
    summary = stream_thread.join()
    assert summary.cameras["c0"].captured == 0
    assert summary.cameras["c1"].tagged == 50
    assert stream_thread.events("camera lost")[0]["camera"] == "c0"


def test_max_fps_limits_the_tagged_frames(stream):
    camera = CameraSettings(source="test://pattern?fps=100&size=64x48", name="c0", max_fps=20)
    stream_thread = stream(camera)
    stream_thread.wait_for(lambda: len(stream_thread.rows()) > 30)
    counts = stream_thread.end().cameras["c0"]
    assert counts.skipped == pytest.approx(0.8 * counts.captured, rel=0.1)
    assert is_balanced(counts)


def test_a_slow_sink_holds_a_file_but_not_the_camera_beside_it(stream, folder, monkeypatch):
    deliver = JSONLSink.deliver

    def deliver_slowly(self, message, rgb):
        time.sleep(0.02)
        deliver(self, message, rgb)

    monkeypatch.setattr(JSONLSink, "capacity", 20)
    monkeypatch.setattr(JSONLSink, "deliver", deliver_slowly)
    camera = CameraSettings(source=PATTERN, name="live")
    file = CameraSettings(source=str(folder), name="file", loop=True)
    summary = stream(camera, file, max_frames=1000).join()
    live = summary.cameras["live"]
    assert live.dropped < 0.2 * live.captured
    assert any(counts.dropped for counts in summary.sinks.values())


def test_a_sink_that_fails_does_not_hold_the_camera(stream):
    webhook = WebhookSettings(url="http://127.0.0.1:9/")
    stream_thread = stream("test://pattern?fps=0&size=64x48", sinks=[webhook])
    stream_thread.wait_for(lambda: len(stream_thread.rows()) > 200)
    summary = stream_thread.end()
    assert summary.cameras["c0"].failed == 0
    assert summary.sinks["webhook http://127.0.0.1:9"].delivered == 0


class MessageList(Sink):
    """A sink that keeps every message."""

    name = "list"

    def __init__(self):
        super().__init__()
        self.messages = []

    def accepts(self, message):
        return True

    def deliver(self, message, rgb):
        self.messages.append(message)


def test_a_sink_of_the_caller_receives_every_message(tiny_bundle, folder):
    settings = StreamSettings(
        model=str(tiny_bundle),
        engine="fake",
        cameras=(CameraSettings(source=str(folder)),),
        sinks=(),
    )
    sink = MessageList()
    summary = run_stream(settings, extra_sinks=[sink])
    assert summary.sinks["list"].delivered == len(sink.messages) >= 12
