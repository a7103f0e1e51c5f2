"""Video in and out by FFmpeg: the only file that imports PyAV."""

from __future__ import annotations

import importlib
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np

from patchct_edge.arrays import RGB
from patchct_edge.errors import UserError
from patchct_edge.runtime.stream.sources.frame import Frame, Source, SourceError

CODEC = "libx264"
TIMED_OUT = "Immediate exit requested"  # so FFmpeg calls it
FORMATS = {".mp4": "mp4", ".mkv": "matroska"}
# What was written can be played, even where the end is missing: but for the last fragment, which
# begins with a key frame.
OPTIONS = {
    ".mp4": {"flush_packets": "1", "movflags": "frag_keyframe+empty_moov+default_base_moof"},
    ".mkv": {"flush_packets": "1"},
}
FRAGMENT = 2  # seconds


class VideoSource(Source):
    """A camera, a network stream or a video file.

    Args:
        target: what FFmpeg opens: a path, a URL, or a file object.
        shown: its name in messages, without a password.
        live: frames are timed by their arrival, not by what the file says, and the decoder gives
            each one as soon as it can.
        format, options: FFmpeg's, such as `v4l2` and `video_size`.
        timeout: seconds to wait for the connection, and for each packet; None for ever.
        loop: begin again at the end.

    Raises:
        SourceError: it cannot be opened, or holds no video.
    """

    def __init__(
        self,
        target: str | IO[bytes],
        shown: str,
        *,
        live: bool,
        format: str | None = None,
        options: dict[str, str] | None = None,
        timeout: float | None = None,
        loop: bool = False,
    ) -> None:
        import av

        self.live, self._shown, self._loop, self._av = live, shown, loop, av
        av.logging.set_level(None)  # its messages hold URLs with their passwords
        try:
            self._container: Any = av.open(
                target, format=format, options=options or {}, timeout=timeout
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"cannot open {shown}", got=_reason(error)) from None
        streams = self._container.streams.video
        if not streams:
            self._container.close()
            raise SourceError(f"no video in {shown}", expected="a video file or stream")
        self._stream = streams[0]
        # Threads over frames would hold each back until the next ones have come.
        self._stream.thread_type = "SLICE" if live else "AUTO"
        if self._stream.codec_context.name == "mjpeg":
            # Otherwise a picture that is cut off comes with its lower part in grey, and unmarked.
            self._stream.codec_context.options = {"err_detect": "explode"}

    def frames(self) -> Iterator[Frame]:
        began, position = 0.0, 0.0
        while True:
            seen = 0
            for picture in self._pictures():
                seen += 1
                now, wall = time.monotonic(), time.time()
                if not self.live and picture.time is not None:
                    position = max(position, began + picture.time)
                yield Frame(
                    _pixels(picture), now if self.live else position, now, wall, _digest(picture)
                )
            if not self._loop or not seen:
                return
            began = position + self._frame_seconds()
            self._container.seek(0)

    def close(self) -> None:
        self._container.close()

    def _pictures(self) -> Iterator[Any]:
        """Yield decoded pictures; what is damaged is counted, and no picture made of it."""
        av = self._av
        try:
            for packet in self._container.demux(self._stream):
                try:
                    pictures = packet.decode()
                except av.InvalidDataError:
                    self.corrupt += 1
                    continue
                for picture in pictures:
                    if picture.is_corrupt:  # the decoder made up what it lacked
                        self.corrupt += 1
                    else:
                        yield picture
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{self._shown} broke off", got=_reason(error)) from None

    def _frame_seconds(self) -> float:
        rate = self._stream.average_rate
        return float(1 / rate) if rate else 0.04


def _pixels(picture: Any) -> Any:
    def convert() -> RGB:
        rgb = picture.to_ndarray(format="rgb24")
        turns = round(picture.rotation / 90) % 4  # as a telephone was held
        return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb

    return convert


def _digest(picture: Any) -> Any:
    return lambda: zlib.crc32(picture.planes[0])


def _reason(error: Exception) -> str:
    """Return FFmpeg's words without the address, which may hold a password."""
    text: str = getattr(error, "strerror", None) or str(error)
    return "no answer in time" if text == TIMED_OUT else text


def require_library() -> None:
    """Import PyAV, of which the command line says how to install it where it is missing."""
    importlib.import_module("av")


class VideoWriter:
    """An H.264 file, .mp4 or .mkv, of the size of its first picture.

    A process that dies leaves a file that can be played, without its last two seconds at most.

    Args:
        fps: pictures are timed to this grid.

    Raises:
        UserError: the file cannot be written, or its suffix names no video.
    """

    def __init__(self, path: Path, fps: float) -> None:
        import av

        self._av, self._fps = av, Fraction(fps).limit_denominator(1000)
        self._stream: Any = None
        suffix = path.suffix.lower()
        try:
            if suffix not in FORMATS:
                raise ValueError(suffix or "no suffix")
            # A file of our own: where the disk is full at the very beginning, FFmpeg's would make
            # it crash at the second picture.
            self._file = path.open("wb")
            self._container: Any = av.open(
                self._file, "w", format=FORMATS[suffix], options=OPTIONS[suffix]
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UserError(
                f"cannot write {path}", got=_reason(error), expected="a name in .mp4 or .mkv"
            ) from None
        self._first: float | None = None
        self._last = -1

    def write(self, rgb: RGB, seconds: float) -> None:
        """Add a picture uint8 (H, W, 3) at a time in seconds; two within one step are one.

        Raises:
            OSError: the disk is full, say.
        """
        height, width = (side // 2 * 2 for side in rgb.shape[:2])  # as 4:2:0 wants them
        if self._stream is None:
            self._stream = self._container.add_stream(CODEC, rate=self._fps)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = {
                "preset": "veryfast",
                "tune": "zerolatency",
                "g": str(round(FRAGMENT * self._fps) or 1),
            }
            self._first = seconds
        assert self._first is not None
        step = round((seconds - self._first) * float(self._fps))
        if step <= self._last:
            return
        self._last = step
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[:height, :width]))
        frame.pts, frame.time_base = step, 1 / self._fps
        if (width, height) != (self._stream.width, self._stream.height):  # the camera changed
            frame = frame.reformat(self._stream.width, self._stream.height)
        self._container.mux(self._stream.encode(frame))
        self._file.flush()

    def close(self) -> None:
        """Write what the encoder holds back, and the end of the file."""
        with closing(self._file):
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
