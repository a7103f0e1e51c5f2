"""Frames of a GStreamer pipeline: a child process writes raw video into a pipe.

For cameras and decoders that only GStreamer knows (a Jetson's CSI cameras, its hardware decoder);
no bindings, and a crash in a driver ends the child alone.
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
from patchct_edge.runtime.stream.sources.address import redact
from patchct_edge.runtime.stream.sources.frame import Frame, Source, SourceError
from patchct_edge.runtime.stream.sources.video import VideoSource

LAUNCH = "gst-launch-1.0"
# YUV4MPEG says size and rate by itself.
INTO_PIPE = "! videoconvert ! video/x-raw,format=I420 ! y4menc ! fdsink fd=1 sync=false"
AT_ONCE = {"analyzeduration": "0", "probesize": "32"}  # else FFmpeg watches for five seconds
CSI = (
    "nvarguscamerasrc sensor-id={sensor} ! "
    "video/x-raw(memory:NVMM),width={width},height={height},framerate={rate}/1 ! "
    "nvvidconv ! video/x-raw"
)
LAST_LINES = 8  # an error is told in about six
GRACE = 0.5  # seconds for the child to end
LOOK = 0.1  # seconds after which a wait for the first picture looks whether it shall stop


class GStreamerSource(Source):
    """The frames of a pipeline that ends in raw video.

    Args:
        timeout: seconds to wait for the first picture.
        stop: ends that wait.

    Raises:
        UserError: GStreamer is not installed.
        SourceError: the pipeline does not run; with its last lines.
    """

    live = True

    def __init__(self, pipeline: str, timeout: float, stop: threading.Event) -> None:
        if shutil.which(LAUNCH) is None:
            raise UserError(
                f"{LAUNCH} is not installed",
                fix="apt install gstreamer1.0-tools gstreamer1.0-plugins-good",
            )
        self._shown = f"gst:{redact(pipeline)}"
        self._child = subprocess.Popen(
            [LAUNCH, "-q", *shlex.split(f"{pipeline} {INTO_PIPE}")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # else a frame's end would wait in a buffer for the next frame
        )
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._listener = threading.Thread(target=self._listen, name="gst-stderr", daemon=True)
        self._listener.start()
        assert self._child.stdout is not None
        if not self._begins(self._child.stdout.fileno(), timeout, stop):
            self._child.kill()  # it may not be there long enough to be asked
            self._end()
            self._close_pipes()
            raise SourceError(f"cannot open {self._shown}", got="no picture in time")
        try:
            self._video = VideoSource(
                self._child.stdout, self._shown, live=True, format="yuv4mpegpipe", options=AT_ONCE
            )
        except SourceError:
            self._end()
            death = self._death()
            self._close_pipes()
            raise death from None

    def frames(self) -> Iterator[Frame]:
        yield from self._video.frames()
        raise self._death()

    def interrupt(self) -> None:
        self._child.kill()  # its pipe ends, and with it whoever reads it

    def close(self) -> None:
        self._end()
        self._video.close()
        self._close_pipes()

    def _begins(self, pipe: int, timeout: float, stop: threading.Event) -> bool:
        """Wait until the child writes something, or ends: FFmpeg would wait for ever."""
        reader = select.poll()
        reader.register(pipe, select.POLLIN)
        until = time.monotonic() + timeout
        while not reader.poll(1000 * LOOK):
            if stop.is_set() or time.monotonic() > until:
                return False
        return True

    def _end(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._listener.join(GRACE)

    def _close_pipes(self) -> None:
        for pipe in (self._child.stdout, self._child.stderr):
            assert pipe is not None
            pipe.close()

    def _death(self) -> SourceError:
        try:
            code = self._child.wait(GRACE)
        except subprocess.TimeoutExpired:
            code = None
        self._listener.join(GRACE)
        said = "; ".join(self._lines) or "nothing"
        return SourceError(f"{self._shown} ended", got=f"exit code {code}; it said: {said}")

    def _listen(self) -> None:
        assert self._child.stderr is not None
        for line in self._child.stderr:
            text = line.decode("utf-8", "replace").strip()
            if text:
                self._lines.append(redact(text))
