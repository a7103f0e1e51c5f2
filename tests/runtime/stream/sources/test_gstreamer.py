"""GStreamer pipelines as child processes."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from patchct_edge.runtime.stream.settings import CameraSettings
from patchct_edge.runtime.stream.sources.frame import SourceError
from patchct_edge.runtime.stream.sources.gstreamer import LAUNCHER, GStreamerSource
from patchct_edge.runtime.stream.sources.open import open_source

pytest.importorskip("av")
pytestmark = pytest.mark.skipif(shutil.which(LAUNCHER) is None, reason=f"no {LAUNCHER}")
PIPELINE = "videotestsrc num-buffers={} ! video/x-raw,width=48,height=32,framerate=10/1"
LIVE_PIPELINE = PIPELINE.replace("num-buffers={}", "is-live=true")


def list_children():
    """Return the process ids of this process's children."""
    parent, children = str(os.getpid()), []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == parent and fields[0] != "Z":
            children.append(stat.parent.name)
    return children


def start_pipeline(pipeline, timeout=5.0):
    return GStreamerSource(pipeline, timeout, threading.Event())


def read_to_error(source):
    """Return the pictures of a source, and the error that it ends with."""
    pictures = []
    try:
        for frame in source.read_frames():
            pictures.append(frame.load_rgb())
    except SourceError as error:
        return pictures, str(error)
    raise AssertionError("it ended without an error")


def test_frames_of_a_pipeline_have_its_size_and_colors():
    with start_pipeline(PIPELINE.format(5).replace("!", "pattern=red !", 1)) as source:
        pictures, error = read_to_error(source)
    assert "exit code 0" in error
    assert [rgb.shape for rgb in pictures] == [(32, 48, 3)] * 5
    red = pictures[0].mean(axis=(0, 1))
    assert red[0] > 200
    assert max(red[1:]) < 60
    assert list_children() == []


def test_a_pipeline_that_does_not_run_says_why():
    with pytest.raises(SourceError, match="no element"):
        start_pipeline("nosuchelement ! video/x-raw")
    assert list_children() == []


def test_the_error_holds_the_last_lines_of_a_child_that_died():
    with pytest.raises(SourceError, match="No such file"):
        start_pipeline("filesrc location=/nowhere/film.mp4 ! decodebin")


def test_no_password_of_a_pipeline_is_shown():
    with pytest.raises(SourceError) as caught:
        start_pipeline("rtspsrc location=rtsp://me:secret@127.0.0.1:9/x user-pw=secret ! fakesink")
    assert "secret" not in str(caught.value)


def test_a_thread_that_waits_for_a_silent_child_can_be_interrupted():
    source = start_pipeline(PIPELINE.format(3) + " ! identity ! queue ! identity sleep-time=200000")
    ended = threading.Event()

    def read():
        read_to_error(source)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    time.sleep(0.1)
    source.interrupt()
    assert ended.wait(3)
    source.close()
    assert list_children() == []


def test_a_pipeline_that_delivers_nothing_is_given_up_and_tried_again(stream):
    silent = LIVE_PIPELINE + " ! valve drop=true"
    with pytest.raises(SourceError, match="no picture in time"):
        start_pipeline(silent, 0.5)
    assert list_children() == []
    stream_thread = stream("gst:" + silent, stall_timeout=0.3)
    stream_thread.wait_for(lambda: "no picture in time" in str(stream_thread.events("camera lost")))
    assert stream_thread.end().cameras["c0"].captured == 0
    assert list_children() == []


def test_csi_without_a_jetson_says_what_is_missing():
    with pytest.raises(SourceError, match="nvarguscamerasrc"):
        open_source(CameraSettings(source="csi://0"), 5.0, threading.Event())


def test_a_pipeline_can_be_streamed(stream):
    stream_thread = stream("gst:" + LIVE_PIPELINE, max_frames=10)
    assert stream_thread.join().cameras["c0"].tagged == 10
    assert list_children() == []
