"""The model of a running stream: failures of its engine, and reloads."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from streams import StreamThread, is_balanced

from patchct_edge.runtime.engines.fake import FakeEngine
from patchct_edge.runtime.stream.model_host import ModelHost
from patchct_edge.runtime.stream.settings import CameraSettings, ThresholdSettings
from patchct_edge.runtime.tagging.tagger import Tagger

LABELS = ("red", "green", "blue")
PATTERN = "test://pattern?fps=50&size=64x48"


@pytest.fixture
def errors(monkeypatch):
    """A list: while it holds an exception, the engine raises it."""
    compute = FakeEngine.compute
    exceptions: list[Exception] = []

    def compute_or_raise(self, pixels):
        if exceptions:
            raise exceptions[0]
        return compute(self, pixels)

    monkeypatch.setattr(FakeEngine, "compute", compute_or_raise)
    return exceptions


def reload(stream_thread, **changes):
    """Reload with other settings; return what was logged about it."""
    first = len(stream_thread.messages)
    stream_thread.settings = stream_thread.settings.model_copy(update=changes)
    stream_thread.control.reload_requested.set()
    stream_thread.wait_for(
        lambda: any("reloaded" in message for message in stream_thread.messages[first:])
    )
    return " ".join(stream_thread.messages[first:])


def test_an_engine_that_fails_loses_its_frames_and_is_opened_again(stream, monkeypatch):
    compute, batch_sizes = FakeEngine.compute, []

    def fail_three_times(self, pixels):
        batch_sizes.append(len(pixels))
        if 10 <= len(batch_sizes) < 13:
            raise RuntimeError("device lost")
        return compute(self, pixels)

    monkeypatch.setattr(FakeEngine, "compute", fail_three_times)
    stream_thread = stream(PATTERN)
    stream_thread.wait_for(
        lambda: len([row for row in stream_thread.rows() if row.get("tags")]) >= 20, 30
    )
    counts = stream_thread.end().cameras["c0"]
    row_errors = [row["error"] for row in stream_thread.rows() if "error" in row]
    assert {"type": "RuntimeError", "message": "device lost"} in row_errors
    assert counts.failed == len(row_errors) >= 3
    assert is_balanced(counts)
    assert any("device lost" in message for message in stream_thread.messages)


def test_an_engine_that_fails_for_long_turns_the_labels_off(stream, errors):
    slow = CameraSettings(source=PATTERN, name="slow", max_fps=0.5)
    stream_thread = stream(PATTERN, slow, stall_timeout=1.0)
    stream_thread.wait_for(lambda: len(stream_thread.events("label on")) == 6)
    errors.append(RuntimeError("device lost"))
    stream_thread.wait_for(lambda: len(stream_thread.events("label off")) == 6)
    assert {event["reason"] for event in stream_thread.events("label off")} == {"lost"}
    assert sum("the engine failed" in message for message in stream_thread.messages) == 1
    assert stream_thread.end().cameras["c0"].failed > 1


def test_a_model_that_opens_slowly_delays_neither_frames_nor_the_end(stream, monkeypatch):
    stream_thread = stream(PATTERN)
    stream_thread.wait_for(lambda: stream_thread.rows())
    open_tagger, may_open = Tagger.open, threading.Event()

    def open_slowly(*args, **kwargs):
        may_open.wait(20)
        return open_tagger(*args, **kwargs)

    monkeypatch.setattr(Tagger, "open", open_slowly)
    stream_thread.settings = stream_thread.settings.model_copy(update={"precision": "fp32"})
    stream_thread.control.reload_requested.set()
    rows = len(stream_thread.rows())
    stream_thread.wait_for(lambda: len(stream_thread.rows()) > rows + 50)
    assert not any("reloaded" in message for message in stream_thread.messages)
    may_open.set()
    stream_thread.wait_for(
        lambda: any("reloaded: model" in message for message in stream_thread.messages)
    )
    may_open.clear()
    stream_thread.settings = stream_thread.settings.model_copy(update={"precision": "fp16"})
    stream_thread.control.reload_requested.set()
    stream_thread.wait_for(lambda: not stream_thread.control.reload_requested.is_set())
    start = time.monotonic()
    counts = stream_thread.end().cameras["c0"]
    assert time.monotonic() - start < 1
    assert counts.failed == 0
    may_open.set()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"thresholds": {"gren": ThresholdSettings(on=0.5)}}, "did you mean 'green'"),
        ({"thresholds": {"green": ThresholdSettings(on=0.5, off=0.6)}}, "green: got on 0.5"),
        ({"engine": "fak"}, "did you mean 'fake'"),
        ({"model": "nowhere.patchct"}, "nowhere.patchct"),
    ],
)
def test_a_mistake_in_a_reload_changes_nothing(stream, changes, reason):
    stream_thread = stream(PATTERN)
    message = reload(stream_thread, **changes)
    assert message.startswith("not reloaded, continuing as before")
    assert reason in message
    rows = len(stream_thread.rows())
    stream_thread.wait_for(lambda: len(stream_thread.rows()) > rows + 10)
    assert stream_thread.end().cameras["c0"].failed == 0


def test_reloaded_thresholds_still_apply_after_an_engine_failed(stream, errors):
    stream_thread = stream(PATTERN)
    stream_thread.wait_for(lambda: any(row.get("tags") for row in stream_thread.rows()))
    never = {label: ThresholdSettings(on=1.0) for label in LABELS}
    assert "at the next restart" in reload(stream_thread, thresholds=never, stall_timeout=3.0)
    errors.append(RuntimeError("device lost"))
    stream_thread.wait_for(lambda: any("error" in row for row in stream_thread.rows()))
    errors.clear()
    rows = len(stream_thread.rows())
    stream_thread.wait_for(lambda: len(stream_thread.rows()) > rows + 10)
    stream_thread.end()
    assert not any(row.get("tags") for row in stream_thread.rows()[rows:])


def test_nan_scores_never_become_tags(stream, monkeypatch):
    compute = FakeEngine.compute

    def compute_nan(self, pixels):
        outputs = compute(self, pixels)
        return outputs._replace(logits=outputs.logits * np.nan)

    monkeypatch.setattr(FakeEngine, "compute", compute_nan)
    stream_thread = stream(PATTERN)
    stream_thread.wait_for(lambda: any("error" in row for row in stream_thread.rows()))
    summary = stream_thread.end()
    assert summary.cameras["c0"].tagged == 0


def test_a_reload_requested_while_another_one_starts_is_not_lost(stream, monkeypatch):
    start_reload = ModelHost.start_reload
    stream_threads: list[StreamThread] = []
    starts: list[float] = []

    def start_and_request_another(self):
        start_reload(self)
        starts.append(time.monotonic())
        if len(starts) == 1:
            stream_threads[0].control.reload_requested.set()

    monkeypatch.setattr(ModelHost, "start_reload", start_and_request_another)
    stream_threads.append(stream(PATTERN))
    stream_threads[0].control.reload_requested.set()
    stream_threads[0].wait_for(lambda: len(starts) == 2)
