"""Write H.264 video files, through PyAV."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from patchct_edge.arrays import RGB
from patchct_edge.errors import UserError

CODEC = "libx264"
FORMATS = {".mp4": "mp4", ".mkv": "matroska"}
# A file whose end is missing can still be played, up to its last fragment; fragments begin with a
# key frame.
FORMAT_OPTIONS = {
    ".mp4": {"flush_packets": "1", "movflags": "frag_keyframe+empty_moov+default_base_moof"},
    ".mkv": {"flush_packets": "1"},
}
FRAGMENT_S = 2


class VideoWriter:
    """An H.264 file, .mp4 or .mkv, with the size of its first picture.

    If the process dies, the file can be played, without at most its last two seconds.

    Args:
        fps: frames a second; the times of pictures are rounded to this grid.

    Raises:
        UserError: the file cannot be written, or its suffix is not .mp4 or .mkv.
    """

    def __init__(self, path: Path, fps: float) -> None:
        import av

        self._av, self._fps = av, Fraction(fps).limit_denominator(1000)
        self._stream: Any = None
        suffix = path.suffix.lower()
        try:
            if suffix not in FORMATS:
                raise ValueError(f"the suffix {suffix}" if suffix else "no suffix")
            # Python's file instead of FFmpeg's, which crashes at the second picture if the disk
            # was full from the start.
            self._file = path.open("wb")
            self._container: Any = av.open(
                self._file, "w", format=FORMATS[suffix], options=FORMAT_OPTIONS[suffix]
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UserError(
                f"cannot write {path}",
                got=getattr(error, "strerror", None) or error,
                expected="a file name that ends in .mp4 or .mkv",
            ) from None
        self._first: float | None = None
        self._last_step = -1

    def write(self, rgb: RGB, seconds: float) -> None:
        """Add a picture.

        Args:
            rgb: uint8 (H, W, 3); resized if its size is not that of the first picture.
            seconds: its time; of several pictures within one step of the grid the first is written.

        Raises:
            OSError: the file cannot be written, such as on a full disk.
        """
        height, width = (side // 2 * 2 for side in rgb.shape[:2])  # 4:2:0 needs even sides
        if self._stream is None:
            self._stream = self._add_stream(width, height)
            self._first = seconds
        assert self._first is not None
        step = round((seconds - self._first) * float(self._fps))
        if step <= self._last_step:
            return
        self._last_step = step
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[:height, :width]))
        frame.pts, frame.time_base = step, 1 / self._fps
        if (width, height) != (self._stream.width, self._stream.height):
            frame = frame.reformat(self._stream.width, self._stream.height)
        self._container.mux(self._stream.encode(frame))
        self._file.flush()

    def close(self) -> None:
        """Write the frames that the encoder still holds, and the end of the file."""
        with closing(self._file):
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()

    def _add_stream(self, width: int, height: int) -> Any:
        stream = self._container.add_stream(CODEC, rate=self._fps)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p"
        stream.options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "g": str(round(FRAGMENT_S * self._fps) or 1),
        }
        return stream
