"""Whole streams over the fake engine: what is tagged, told and counted."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from streams import event_name, is_balanced

from patchct_edge import images
from patchct_edge.runtime.engines.fake import FakeEngine
from patchct_edge.runtime.stream.settings import CameraSettings, ThresholdSettings, WebhookSettings
from patchct_edge.runtime.stream.sinks.jsonl import JSONLSink
from patchct_edge.runtime.tagging.tagger import Tagger

LABELS = ("red", "green", "blue")
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def folder(tmp_path):
    """Pictures of one colour each: 4 red, 4 green, 4 blue."""
    target = tmp_path / "pictures"
    target.mkdir()
    for n in range(12):
        colour = COLOURS[LABELS[n // 4]]
        images.save(np.full((8, 8, 3), colour, np.uint8), target / f"{n:02}.png")
    return target


def test_a_folder_is_tagged_whole_and_in_order(stream, folder):
    running = stream(folder)
    counts = running.join().cameras["c0"]
    frames = [row for row in running.rows() if row["type"] == "frame"]
    assert [row["tags"][0]["label"] for row in frames] == [LABELS[n // 4] for n in range(12)]
    assert [row["frame"] for row in frames] == list(range(1, 13))
    assert [row["position"] for row in frames] == list(range(12))
    assert (counts.captured, counts.tagged, counts.dropped) == (12, 12, 0)


def test_events_tell_what_turned_on_and_off(stream, folder):
    running = stream(folder)
    running.join()
    told = [(event_name(row), row.get("label")) for row in running.rows() if row["type"] != "frame"]
    assert told == [
        ("camera connected", None),
        ("label on", "red"),
        ("label off", "red"),
        ("label on", "green"),
        ("label off", "green"),
        ("label on", "blue"),
        ("camera ended", None),
        ("label off", "blue"),
    ]
    assert running.rows()[-1]["reason"] == "lost"


@pytest.mark.parametrize(("hold", "told"), [(1.5, 6), (1.6, 1)])
def test_the_hold_counts_in_the_time_of_the_source(stream, folder, hold, told):
    # At two pictures a second a colour lasts 1.5 s from its first picture to the next colour's
    # second; the last one has been gone for less than that when the folder ends.
    running = stream(
        CameraSettings(source=str(folder), name="c0", capture_fps=2.0), min_duration=hold
    )
    running.join()
    found = [row for row in running.rows() if row.get("reason") == "score"]
    assert [event_name(row) for row in found][:1] == (["label on"] if told > 1 else [])


def test_thresholds_of_single_labels_are_taken(stream, folder):
    running = stream(folder, thresholds={"green": ThresholdSettings(on=1.0)})
    running.join()
    assert not any("green" in json.dumps(row) for row in running.rows())


def test_a_region_of_the_frame_is_looked_at(stream, tmp_path):
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:, :20], picture[:, 20:] = COLOURS["red"], COLOURS["blue"]
    (tmp_path / "halves").mkdir()
    images.save(picture, tmp_path / "halves" / "a.png")
    for n, roi in enumerate([(0.5, 0.0, 0.5, 1.0), (20.0, 0.0, 20.0, 40.0)]):
        camera = CameraSettings(source=str(tmp_path / "halves"), name="c", roi=roi)
        running = stream(camera, path=tmp_path / f"{n}.jsonl")
        running.join()
        (row,) = [row for row in running.rows() if row["type"] == "frame"]
        assert [tag["label"] for tag in row["tags"]] == ["blue"]


def test_frames_that_fail_are_told_once_and_leave_the_stream_incomplete(stream):
    camera = CameraSettings(
        source="test://pattern?fps=50&size=64x48", name="c0", roi=(0.0, 0.0, 400.0, 10.0)
    )
    running = stream(camera)
    running.wait_for(lambda: len(running.rows()) > 20)
    summary = running.end()
    assert summary.cameras["c0"].tagged == 0
    assert not summary.complete
    (note,) = running.messages
    assert note.startswith("c0: frame 1 has no tags: UserError: the region of interest")


def test_an_image_that_cannot_be_read_is_a_row_with_its_name(stream, folder):
    (folder / "05.png").write_bytes(b"no picture")
    running = stream(folder)
    summary = running.join()
    (row,) = [row for row in running.rows() if "error" in row]
    assert row["error"]["type"] == "ImageError"
    assert "05.png" in row["error"]["message"]
    assert (summary.cameras["c0"].tagged, summary.cameras["c0"].failed) == (11, 1)
    assert not summary.complete
    assert [note.split(":")[1] for note in running.messages] == [
        " frame 6 has no tags",
        " ended, the stream ended",
    ]


def test_told_to_end_it_turns_its_labels_off(stream):
    running = stream("test://pattern?fps=50&size=64x48")
    running.wait_for(lambda: running.events("label on"))
    summary = running.end()
    on, off = ({row["label"] for row in running.events(f"label {way}")} for way in ("on", "off"))
    assert on == off != set()
    last = running.rows()[-1]
    assert (event_name(last), last["reason"]) == ("camera ended", "the stream was stopped")
    assert summary.stopped
    assert summary.complete


def test_every_frame_of_a_fast_camera_is_accounted_for(stream):
    counts = stream("test://pattern?fps=0&size=64x48", frames=300).join().cameras["c0"]
    assert counts.tagged == 300
    assert is_balanced(counts)


def test_four_cameras_share_one_engine_fairly(stream):
    summary = stream(*["test://pattern?fps=0&size=64x48"] * 4, frames=400).join()
    for counts in summary.cameras.values():
        assert is_balanced(counts)
        assert counts.tagged == pytest.approx(100, abs=30)


def test_a_dead_camera_does_not_touch_the_others(stream):
    running = stream("rtsp://127.0.0.1:9/none", "test://pattern?fps=100&size=64x48", frames=50)
    summary = running.join()
    assert summary.cameras["c0"].captured == 0
    assert summary.cameras["c1"].tagged == 50
    assert running.events("camera lost")[0]["camera"] == "c0"


def test_fps_caps_the_work(stream):
    camera = CameraSettings(source="test://pattern?fps=100&size=64x48", name="c0", max_fps=20)
    running = stream(camera)
    running.wait_for(lambda: len(running.rows()) > 30)
    counts = running.end().cameras["c0"]
    assert counts.skipped == pytest.approx(0.8 * counts.captured, rel=0.1)
    assert is_balanced(counts)


def test_an_engine_that_fails_costs_its_frames_and_is_opened_again(stream, monkeypatch):
    compute, calls = FakeEngine.compute, []

    def moody(self, pixels):
        calls.append(len(pixels))
        if 10 <= len(calls) < 13:
            raise RuntimeError("device lost")
        return compute(self, pixels)

    monkeypatch.setattr(FakeEngine, "compute", moody)
    running = stream("test://pattern?fps=50&size=64x48")
    running.wait_for(lambda: len([row for row in running.rows() if row.get("tags")]) >= 20, 30)
    counts = running.end().cameras["c0"]
    errors = [row["error"] for row in running.rows() if "error" in row]
    assert {"type": "RuntimeError", "message": "device lost"} in errors
    assert counts.failed == len(errors) >= 3
    assert is_balanced(counts)
    assert any("device lost" in note for note in running.messages)


def test_an_engine_that_fails_for_long_turns_the_labels_off(stream, monkeypatch):
    compute, broken = FakeEngine.compute, []

    def moody(self, pixels):
        if broken:
            raise RuntimeError("device lost")
        return compute(self, pixels)

    monkeypatch.setattr(FakeEngine, "compute", moody)
    slow = CameraSettings(source="test://pattern?fps=50&size=64x48", name="slow", max_fps=0.5)
    running = stream("test://pattern?fps=50&size=64x48", slow, stall_timeout=1.0)
    running.wait_for(lambda: len(running.events("label on")) == 6)
    broken.append(True)
    running.wait_for(lambda: len(running.events("label off")) == 6)
    assert {event["reason"] for event in running.events("label off")} == {"lost"}
    assert sum("the engine failed" in note for note in running.messages) == 1
    assert running.end().cameras["c0"].failed > 1


def test_a_model_that_opens_slowly_holds_up_neither_frames_nor_the_end(stream, monkeypatch):
    running = stream("test://pattern?fps=50&size=64x48")
    running.wait_for(lambda: running.rows())
    opened, go_on = Tagger.open, threading.Event()

    def slow(*words, **named):
        go_on.wait(20)
        return opened(*words, **named)

    monkeypatch.setattr(Tagger, "open", slow)
    running.settings = running.settings.model_copy(update={"precision": "fp32"})
    running.control.reload_requested.set()
    rows = len(running.rows())
    running.wait_for(lambda: len(running.rows()) > rows + 50)
    assert not any("reloaded" in note for note in running.messages)
    go_on.set()
    running.wait_for(lambda: any("reloaded: model" in note for note in running.messages))
    go_on.clear()
    running.settings = running.settings.model_copy(update={"precision": "fp16"})
    running.control.reload_requested.set()
    running.wait_for(lambda: not running.control.reload_requested.is_set())
    began = time.monotonic()
    counts = running.end().cameras["c0"]
    assert time.monotonic() - began < 1
    assert counts.failed == 0
    go_on.set()


def test_a_slow_outlet_of_a_file_does_not_hold_the_camera_beside_it(stream, folder, monkeypatch):
    deliver = JSONLSink.deliver

    def slow(self, message, rgb):
        time.sleep(0.02)
        deliver(self, message, rgb)

    monkeypatch.setattr(JSONLSink, "capacity", 20)
    monkeypatch.setattr(JSONLSink, "deliver", slow)
    camera = CameraSettings(source="test://pattern?fps=50&size=64x48", name="live")
    files = CameraSettings(source=str(folder), name="files", loop=True)
    summary = stream(camera, files, frames=1000).join()
    live = summary.cameras["live"]
    assert live.dropped < 0.2 * live.captured
    assert any(counts.dropped for counts in summary.sinks.values())


def reloaded(running, **changes):
    """Reload with other settings; return what was said of it."""
    told = len(running.messages)
    running.settings = running.settings.model_copy(update=changes)
    running.control.reload_requested.set()
    running.wait_for(lambda: any("reloaded" in note for note in running.messages[told:]))
    return " ".join(running.messages[told:])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"thresholds": {"gren": ThresholdSettings(on=0.5)}}, "did you mean 'green'"),
        ({"thresholds": {"green": ThresholdSettings(on=0.5, off=0.6)}}, "green: got on 0.5"),
        ({"engine": "fak"}, "did you mean 'fake'"),
        ({"model": "nowhere.patchct"}, "nowhere.patchct"),
    ],
)
def test_a_mistake_in_a_reload_changes_nothing(stream, changes, said):
    running = stream("test://pattern?fps=50&size=64x48")
    told = reloaded(running, **changes)
    assert told.startswith("not reloaded, going on as before")
    assert said in told
    rows = len(running.rows())
    running.wait_for(lambda: len(running.rows()) > rows + 10)
    assert running.end().cameras["c0"].failed == 0


def test_reloaded_thresholds_outlive_an_engine_that_fails(stream, monkeypatch):
    compute, broken = FakeEngine.compute, []

    def moody(self, pixels):
        if broken:
            raise RuntimeError(broken.pop())
        return compute(self, pixels)

    monkeypatch.setattr(FakeEngine, "compute", moody)
    running = stream("test://pattern?fps=50&size=64x48")
    running.wait_for(lambda: any(row.get("tags") for row in running.rows()))
    never = {label: ThresholdSettings(on=1.0) for label in LABELS}
    assert "a restart" in reloaded(running, thresholds=never, stall_timeout=3.0)
    broken.append("device lost")
    running.wait_for(lambda: any("error" in row for row in running.rows()))
    failed = len(running.rows())
    running.wait_for(lambda: len(running.rows()) > failed + 10)
    running.end()
    assert not any(row.get("tags") for row in running.rows()[failed:])


def test_scores_that_are_no_numbers_are_never_tags(stream, monkeypatch):
    compute = FakeEngine.compute

    def broken(self, pixels):
        found = compute(self, pixels)
        return found._replace(logits=found.logits * np.nan)

    monkeypatch.setattr(FakeEngine, "compute", broken)
    running = stream("test://pattern?fps=50&size=64x48")
    running.wait_for(lambda: any("error" in row for row in running.rows()))
    summary = running.end()
    assert summary.cameras["c0"].tagged == 0


def test_an_outlet_that_fails_does_not_hold_the_camera(stream, tmp_path):
    hook = WebhookSettings(url="http://127.0.0.1:9/")
    running = stream("test://pattern?fps=0&size=64x48", sinks=[hook])
    running.wait_for(lambda: len(running.rows()) > 200)
    summary = running.end()
    assert summary.cameras["c0"].failed == 0
    assert summary.sinks["webhook http://127.0.0.1:9"].delivered == 0
