"""A pipeline of GStreamer as a child process."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from patchct_edge.runtime.stream.settings import CameraSettings
from patchct_edge.runtime.stream.sources.frame import SourceError
from patchct_edge.runtime.stream.sources.gstreamer import LAUNCH, GStreamerSource
from patchct_edge.runtime.stream.sources.open import open_source

pytest.importorskip("av")
pytestmark = pytest.mark.skipif(shutil.which(LAUNCH) is None, reason=f"no {LAUNCH}")
TEST = "videotestsrc num-buffers={} ! video/x-raw,width=48,height=32,framerate=10/1"


def children():
    """Processes whose parent is this one."""
    me, found = str(os.getpid()), []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == me and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def opened(pipeline, timeout=5.0):
    return GStreamerSource(pipeline, timeout, threading.Event())


def drained(source):
    """Return the pictures of a source, which ends with an error."""
    found = []
    try:
        for frame in source.frames():
            found.append(frame.pixels())
    except SourceError as error:
        return found, str(error)
    raise AssertionError("it ended without an error")


def test_the_frames_of_a_pipeline_come_with_size_and_colours():
    with opened(TEST.format(5).replace("!", "pattern=red !", 1)) as source:
        found, said = drained(source)
    assert "exit code 0" in said
    assert [rgb.shape for rgb in found] == [(32, 48, 3)] * 5
    red = found[0].mean(axis=(0, 1))
    assert red[0] > 200
    assert max(red[1:]) < 60
    assert children() == []


def test_a_pipeline_that_does_not_run_says_why():
    with pytest.raises(SourceError, match="no element"):
        opened("nosuchelement ! video/x-raw")
    assert children() == []


def test_the_last_lines_of_a_child_that_dies_are_shown():
    with pytest.raises(SourceError, match="No such file"):
        opened("filesrc location=/nowhere/film.mp4 ! decodebin")


def test_no_password_of_a_pipeline_is_shown():
    with pytest.raises(SourceError) as caught:
        opened("rtspsrc location=rtsp://me:secret@127.0.0.1:9/x user-pw=secret ! fakesink")
    assert "secret" not in str(caught.value)


def test_a_thread_that_waits_for_a_silent_child_is_freed():
    source = opened(TEST.format(3) + " ! identity ! queue ! identity sleep-time=200000")
    ended = threading.Event()

    def read():
        drained(source)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    time.sleep(0.1)
    source.interrupt()
    assert ended.wait(3)
    source.close()
    assert children() == []


def test_a_pipeline_that_delivers_nothing_is_given_up_and_tried_again(stream):
    silent = TEST.replace("num-buffers={}", "is-live=true") + " ! valve drop=true"
    with pytest.raises(SourceError, match="no picture in time"):
        opened(silent, 0.5)
    assert children() == []
    running = stream("gst:" + silent, stall_timeout=0.3)
    running.wait_for(lambda: "no picture in time" in str(running.events("camera lost")))
    assert running.end().cameras["c0"].captured == 0
    assert children() == []


def test_csi_without_a_jetson_says_what_is_missing():
    with pytest.raises(SourceError, match="nvarguscamerasrc"):
        open_source(CameraSettings(source="csi://0"), 5.0, threading.Event())


def test_a_pipeline_is_a_stream(stream):
    running = stream("gst:" + TEST.replace("num-buffers={}", "is-live=true"), frames=10)
    assert running.join().cameras["c0"].tagged == 10
    assert children() == []
