"""Frames of a GStreamer pipeline: a child process writes raw video into a pipe.

For cameras and decoders that only GStreamer supports, such as a Jetson's CSI cameras and hardware
decoder. It needs no Python bindings, and a crash in a driver ends the child alone.
"""

from __future__ import annotations

import select
import shlex
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator

from patchct_edge.errors import UserError
from patchct_edge.runtime.stream.redaction import redact
from patchct_edge.runtime.stream.sources.frame import Frame, Source, SourceError
from patchct_edge.runtime.stream.sources.video import VideoSource

LAUNCHER = "gst-launch-1.0"
# The YUV4MPEG format states size and frame rate by itself.
PIPE_ELEMENTS = "! videoconvert ! video/x-raw,format=I420 ! y4menc ! fdsink fd=1 sync=false"
# Without these, FFmpeg analyzes the stream for five seconds first.
NO_ANALYSIS = {"analyzeduration": "0", "probesize": "32"}
CSI_PIPELINE = (
    "nvarguscamerasrc sensor-id={sensor} ! "
    "video/x-raw(memory:NVMM),width={width},height={height},framerate={rate}/1 ! "
    "nvvidconv ! video/x-raw"
)
MAX_ERROR_LINES = 8  # GStreamer reports an error in about six lines
EXIT_TIMEOUT_S = 0.5
STOP_CHECK_INTERVAL_S = 0.1


class GStreamerSource(Source):
    """The frames of a pipeline that ends in raw video.

    Args:
        timeout: seconds to wait for the first picture.
        stop: ends that wait.

    Raises:
        UserError: GStreamer is not installed.
        SourceError: the pipeline does not run; the error holds its last lines.
    """

    live = True

    def __init__(self, pipeline: str, timeout: float, stop: threading.Event) -> None:
        if shutil.which(LAUNCHER) is None:
            raise UserError(
                f"{LAUNCHER} is not installed",
                fix="apt install gstreamer1.0-tools gstreamer1.0-plugins-good",
            )
        self._shown = f"gst:{redact(pipeline)}"
        self._child = subprocess.Popen(
            [LAUNCHER, "-q", *shlex.split(f"{pipeline} {PIPE_ELEMENTS}")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # a buffer would hold the end of a frame until the next frame arrives
        )
        self._last_lines: deque[str] = deque(maxlen=MAX_ERROR_LINES)
        self._stderr_reader = threading.Thread(
            target=self._read_stderr, name="gst-stderr", daemon=True
        )
        self._stderr_reader.start()
        assert self._child.stdout is not None
        if not self._wait_for_output(self._child.stdout.fileno(), timeout, stop):
            self._child.kill()  # a polite end may take too long
            self._end_child()
            self._close_pipes()
            raise SourceError(f"cannot open {self._shown}", got="no picture in time")
        try:
            self._video = VideoSource(
                self._child.stdout,
                self._shown,
                live=True,
                format="yuv4mpegpipe",
                options=NO_ANALYSIS,
            )
        except SourceError:
            self._end_child()
            error = self._exit_error()
            self._close_pipes()
            raise error from None

    def read_frames(self) -> Iterator[Frame]:
        yield from self._video.read_frames()
        raise self._exit_error()

    def interrupt(self) -> None:
        self._child.kill()  # closes the pipe, which ends the wait of its reader

    def close(self) -> None:
        self._end_child()
        self._video.close()
        self._close_pipes()

    def _wait_for_output(self, pipe: int, timeout: float, stop: threading.Event) -> bool:
        """Return whether the child wrote something or ended in time; FFmpeg would wait forever."""
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        deadline = time.monotonic() + timeout
        while not poll.poll(1000 * STOP_CHECK_INTERVAL_S):
            if stop.is_set() or time.monotonic() > deadline:
                return False
        return True

    def _end_child(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._stderr_reader.join(EXIT_TIMEOUT_S)

    def _close_pipes(self) -> None:
        for pipe in (self._child.stdout, self._child.stderr):
            assert pipe is not None
            pipe.close()

    def _exit_error(self) -> SourceError:
        try:
            code = self._child.wait(EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            code = None
        self._stderr_reader.join(EXIT_TIMEOUT_S)
        lines = "; ".join(self._last_lines) or "nothing"
        return SourceError(f"{self._shown} ended", got=f"exit code {code}; it printed: {lines}")

    def _read_stderr(self) -> None:
        assert self._child.stderr is not None
        for line in self._child.stderr:
            text = line.decode("utf-8", "replace").strip()
            if text:
                self._last_lines.append(redact(text))
