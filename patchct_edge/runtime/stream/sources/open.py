"""Open the source that a camera's settings name."""

from __future__ import annotations

import re
import threading
from urllib.parse import parse_qsl, urlsplit

from patchct_edge.errors import UserError
from patchct_edge.runtime.stream.settings import CameraSettings
from patchct_edge.runtime.stream.sources.address import Address, parse_address
from patchct_edge.runtime.stream.sources.folder import FolderSource
from patchct_edge.runtime.stream.sources.frame import Source
from patchct_edge.runtime.stream.sources.gstreamer import CSI_PIPELINE, GStreamerSource
from patchct_edge.runtime.stream.sources.test_pattern import TestPatternSource
from patchct_edge.runtime.stream.sources.video import VideoSource

PATTERN_DEFAULTS = {"fps": "30", "size": "640x480"}
MAX_PATTERN_FPS = 1e6
FOLDER_FPS = 1.0
CSI_FPS = 30
CSI_SIZE = "1280x720"
NO_BUFFER = {"fflags": "nobuffer"}  # FFmpeg's option for the lowest latency


def open_source(settings: CameraSettings, timeout: float, stop: threading.Event) -> Source:
    """Open the source of a camera.

    Args:
        timeout: seconds to wait for the connection, and for each packet.
        stop: ends a wait for the next frame.

    Raises:
        SourceError: the source does not answer, or is not a video.
        UserError: the settings do not fit the source, or a library is missing.
    """
    address = parse_address(settings.source)
    target = address.target
    match address.kind:
        case "file":
            return VideoSource(target, str(address), live=False, loop=settings.loop)
        case "folder":
            return FolderSource(target, settings.capture_fps or FOLDER_FPS, settings.loop)
        case "pattern":
            fps, size = parse_pattern(target)
            return TestPatternSource(fps, size, stop)
        case "gst":
            return GStreamerSource(target, timeout, stop)
        case "csi":
            return _open_csi(settings, target, timeout, stop)
        case "v4l2":
            return _open_v4l2(settings, address, timeout)
        case "rtsp":
            options = {"rtsp_transport": settings.transport, **NO_BUFFER}
            return VideoSource(target, str(address), live=True, options=options, timeout=timeout)
        case "http":
            return VideoSource(target, str(address), live=True, options=NO_BUFFER, timeout=timeout)


def parse_size(text: str) -> tuple[int, int]:
    """Parse "1280x720" as (1280, 720), width and height in pixels.

    Raises:
        UserError: the text is not a size.
    """
    size = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    if size is None or min(map(int, size.groups())) < 1:
        raise UserError("invalid frame size", got=text, expected="WIDTHxHEIGHT, such as 1280x720")
    return int(size[1]), int(size[2])


def parse_pattern(url: str) -> tuple[float, tuple[int, int]]:
    """Parse `test://pattern?fps=30&size=640x480` as frames a second and (width, height).

    Raises:
        UserError: a parameter is unknown, or not a number.
    """
    parameters = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    try:
        if not parameters.keys() <= PATTERN_DEFAULTS.keys():
            raise ValueError
        fps = float({**PATTERN_DEFAULTS, **parameters}["fps"])
        if not 0 <= fps <= MAX_PATTERN_FPS:
            raise ValueError
    except ValueError:
        raise UserError(
            "invalid parameters of the test pattern",
            got=url,
            expected="test://pattern?fps=30&size=640x480",
        ) from None
    return fps, parse_size({**PATTERN_DEFAULTS, **parameters}["size"])


def _open_csi(
    settings: CameraSettings, sensor: str, timeout: float, stop: threading.Event
) -> Source:
    width, height = parse_size(settings.size or CSI_SIZE)
    rate = round(settings.capture_fps or CSI_FPS)
    pipeline = CSI_PIPELINE.format(sensor=sensor, width=width, height=height, rate=rate)
    return GStreamerSource(pipeline, timeout, stop)


def _open_v4l2(settings: CameraSettings, address: Address, timeout: float) -> Source:
    options = {
        "video_size": settings.size,
        "framerate": None if settings.capture_fps is None else f"{settings.capture_fps:g}",
        "input_format": settings.pixel_format,
    }
    return VideoSource(
        address.target,
        str(address),
        live=True,
        format="v4l2",
        options={name: value for name, value in options.items() if value is not None},
        timeout=timeout,
    )
