"""Video files with captions: read back, never overwritten, playable after a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from messages import GRAY_LEVEL, GRAY_PICTURE, close_worker, frame_row

from patchct_edge.errors import UserError
from patchct_edge.runtime.stream.settings import VideoSettings
from patchct_edge.runtime.stream.sinks.base import SinkWorker
from patchct_edge.runtime.stream.sinks.video import VideoSink

av = pytest.importorskip("av")
SUPPORT_FOLDER = str(Path(__file__).parents[3] / "support")
WRITE_TO_FULL_DISK = """
import resource, signal, sys
from messages import GRAY_PICTURE, frame_row
from patchct_edge.runtime.stream.settings import VideoSettings
from patchct_edge.runtime.stream.sinks.video import VideoSink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
sink = VideoSink(VideoSettings(path=sys.argv[1], fps=10), "door")
for number in range(3):
    try:
        sink.deliver(frame_row(number, position=number / 10), GRAY_PICTURE)
    except OSError:
        print("refused")
"""
WRITE_AND_DIE = """
import os, sys
from pathlib import Path
import numpy as np
from patchct_edge.runtime.stream.sinks.video_file import VideoWriter
writer = VideoWriter(Path(sys.argv[1]), 10)
noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
for number in range(95):
    writer.write(np.roll(noise, number, 1), number / 10)
os.kill(os.getpid(), 9)
"""


def open_sink(path, **settings):
    return VideoSink(VideoSettings(path=str(path), **settings), "door")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_disk_that_is_full_from_the_start_refuses_a_video(tmp_path, suffix):
    process = subprocess.run(
        [sys.executable, "-c", WRITE_TO_FULL_DISK, str(tmp_path / f"out{suffix}")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": SUPPORT_FOLDER},
    )
    assert process.stdout.split() == ["refused"] * 3


def test_a_video_can_be_read_back_with_its_captions(tmp_path):
    path = tmp_path / "out.mp4"
    sink = open_sink(path, fps=10)
    assert not sink.accepts(frame_row(1, "yard"))
    larger = np.full((96, 128, 3), GRAY_LEVEL, np.uint8)
    for number in range(20):  # the camera changes its size
        picture = larger if number > 10 else GRAY_PICTURE
        sink.deliver(frame_row(number, position=number / 10), picture)
    sink.close()
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 20
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert frames[5][:20].max() > 200  # white letters on the gray picture
    assert abs(int(frames[5][40:].mean()) - GRAY_LEVEL) < 12


def test_an_existing_video_is_kept(tmp_path, caplog):
    caplog.set_level("INFO", "patchct_edge")
    for number in range(3):
        worker = SinkWorker(open_sink(tmp_path / "out.mp4"))
        worker.put(frame_row(number), GRAY_PICTURE)
        close_worker(worker)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["out-1.mp4", "out-2.mp4", "out.mp4"]
    assert caplog.messages == [
        f"{tmp_path / 'out.mp4'} exists; writing {tmp_path / name} instead"
        for name in ("out-1.mp4", "out-2.mp4")
    ]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_video_whose_writer_was_killed_can_be_played(tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    process = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, path], check=False)
    assert process.returncode == -signal.SIGKILL
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert 95 - 20 <= frames <= 95


@pytest.mark.parametrize("name", ["no-folder/out.mp4", "out.avi", "out"])
def test_a_video_that_cannot_be_written_is_reported(tmp_path, name):
    with pytest.raises(UserError, match="cannot write"):
        open_sink(tmp_path / name)
