"""Cameras, network streams and video files decoded by FFmpeg, through PyAV."""

from __future__ import annotations

import importlib
import time
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

from patchct_edge.arrays import RGB
from patchct_edge.runtime.stream.sources.frame import Frame, Source, SourceError

FFMPEG_TIMEOUT_MESSAGE = "Immediate exit requested"  # FFmpeg's words for a timeout
DEFAULT_FRAME_DURATION_S = 0.04  # of a file that does not state its frame rate


class VideoSource(Source):
    """A camera, a network stream or a video file.

    Args:
        target: what FFmpeg opens: a path, a URL, or a file object.
        shown: its name in messages, without a password.
        live: frames are timed by their arrival instead of the file's timestamps, and decoded with
            the lowest latency.
        format: FFmpeg's name of the format, such as `v4l2`.
        options: FFmpeg's options of the format, such as `video_size`.
        timeout: seconds to wait for the connection, and for each packet; None forever.
        loop: start again at the end.

    Raises:
        SourceError: the target cannot be opened, or holds no video.
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
        av.logging.set_level(None)  # FFmpeg's own messages show URLs with their passwords
        try:
            self._container: Any = av.open(
                target, format=format, options=options or {}, timeout=timeout
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"cannot open {shown}", got=_describe_error(error)) from None
        streams = self._container.streams.video
        if not streams:
            self._container.close()
            raise SourceError(f"no video in {shown}", expected="a video file or stream")
        self._stream = streams[0]
        # With one thread a frame, FFmpeg would hold each frame back until the next ones arrive.
        self._stream.thread_type = "SLICE" if live else "AUTO"
        if self._stream.codec_context.name == "mjpeg":
            # By default a truncated JPEG is decoded with a gray lower part, and not marked.
            self._stream.codec_context.options = {"err_detect": "explode"}

    def read_frames(self) -> Iterator[Frame]:
        start, position = 0.0, 0.0
        while True:
            decoded = 0
            for picture in self._decode_pictures():
                decoded += 1
                now, wall_time = time.monotonic(), time.time()
                if not self.live and picture.time is not None:
                    position = max(position, start + picture.time)
                yield Frame(
                    _make_converter(picture),
                    now if self.live else position,
                    now,
                    wall_time,
                    _make_checksum(picture),
                )
            if not self._loop or not decoded:
                return
            start = position + self._frame_duration()
            self._container.seek(0)

    def close(self) -> None:
        self._container.close()

    def _decode_pictures(self) -> Iterator[Any]:
        """Yield intact pictures; count damaged packets and pictures."""
        av = self._av
        try:
            for packet in self._container.demux(self._stream):
                try:
                    pictures = packet.decode()
                except av.InvalidDataError:
                    self.corrupt += 1
                    continue
                for picture in pictures:
                    if picture.is_corrupt:  # the decoder concealed missing data
                        self.corrupt += 1
                    else:
                        yield picture
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{self._shown} broke off", got=_describe_error(error)) from None

    def _frame_duration(self) -> float:
        rate = self._stream.average_rate
        return float(1 / rate) if rate else DEFAULT_FRAME_DURATION_S


def require_pyav() -> None:
    """Import PyAV.

    Raises:
        ModuleNotFoundError: it is not installed; the command line says how to install it.
    """
    importlib.import_module("av")


def _make_converter(picture: Any) -> Callable[[], RGB]:
    def load_rgb() -> RGB:
        rgb: RGB = picture.to_ndarray(format="rgb24")
        quarter_turns = round(picture.rotation / 90) % 4  # a phone stores how it was held
        return np.ascontiguousarray(np.rot90(rgb, quarter_turns)) if quarter_turns else rgb

    return load_rgb


def _make_checksum(picture: Any) -> Callable[[], int]:
    return lambda: zlib.crc32(picture.planes[0])


def _describe_error(error: Exception) -> str:
    """Return FFmpeg's message without the address, which may hold a password."""
    text: str = getattr(error, "strerror", None) or str(error)
    return "no answer in time" if text == FFMPEG_TIMEOUT_MESSAGE else text
