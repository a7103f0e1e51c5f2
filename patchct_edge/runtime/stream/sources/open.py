"""From the settings of a camera to the source that delivers its frames."""

from __future__ import annotations

import re
import threading
from urllib.parse import parse_qsl, urlsplit

from patchct_edge.errors import UserError
from patchct_edge.runtime.stream.settings import CameraSettings
from patchct_edge.runtime.stream.sources import gstreamer
from patchct_edge.runtime.stream.sources.address import Address, parse_address
from patchct_edge.runtime.stream.sources.folder import FolderSource, PatternSource
from patchct_edge.runtime.stream.sources.frame import Source
from patchct_edge.runtime.stream.sources.video import VideoSource

PATTERN = {"fps": "30", "size": "640x480"}
FOLDER_RATE = 1.0  # images a second


def open_source(camera: CameraSettings, timeout: float, stop: threading.Event) -> Source:
    """Open what a camera's settings name.

    Args:
        timeout: seconds for a connection, and for each packet of it.
        stop: ends a wait for the next frame.

    Raises:
        SourceError: it does not answer, or is no video.
        UserError: the settings do not fit the source, or a library is missing.
    """
    address = parse_address(camera.source)
    target = address.target
    match address.kind:
        case "file":
            return VideoSource(target, str(address), live=False, loop=camera.loop)
        case "folder":
            return FolderSource(target, camera.capture_fps or FOLDER_RATE, camera.loop)
        case "pattern":
            rate, size = parse_pattern(target)
            return PatternSource(rate, size, stop)
        case "gst":
            return gstreamer.GStreamerSource(target, timeout, stop)
        case "csi":
            width, height = parse_size(camera.size or "1280x720")
            rate = round(camera.capture_fps or 30)
            return gstreamer.GStreamerSource(
                gstreamer.CSI.format(sensor=target, width=width, height=height, rate=rate),
                timeout,
                stop,
            )
        case "v4l2":
            return _v4l2(camera, address, timeout)
        case "rtsp":
            options = {"rtsp_transport": camera.transport, "fflags": "nobuffer"}
            return VideoSource(target, str(address), live=True, options=options, timeout=timeout)
        case "http":
            return VideoSource(
                target, str(address), live=True, options={"fflags": "nobuffer"}, timeout=timeout
            )


def _v4l2(camera: CameraSettings, address: Address, timeout: float) -> Source:
    asked = {
        "video_size": camera.size,
        "framerate": None if camera.capture_fps is None else f"{camera.capture_fps:g}",
        "input_format": camera.pixel_format,
    }
    options = {name: value for name, value in asked.items() if value is not None}
    return VideoSource(
        address.target, str(address), live=True, format="v4l2", options=options, timeout=timeout
    )


def parse_size(text: str) -> tuple[int, int]:
    """Read "1280x720" as (1280, 720).

    Raises:
        UserError: it is no size.
    """
    found = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    if found is None or min(map(int, found.groups())) < 1:
        raise UserError("not a size", got=text, expected="such as 1280x720")
    return int(found[1]), int(found[2])


def parse_pattern(url: str) -> tuple[float, tuple[int, int]]:
    """Read `test://pattern?fps=30&size=640x480` as rate and (width, height).

    Raises:
        UserError: another parameter, or no number.
    """
    given = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    try:
        if not given.keys() <= PATTERN.keys():
            raise ValueError
        rate = float({**PATTERN, **given}["fps"])
        if not 0 <= rate <= 1e6:
            raise ValueError
    except ValueError:
        raise UserError(
            "the test pattern cannot be read",
            got=url,
            expected="test://pattern?fps=30&size=640x480",
        ) from None
    return rate, parse_size({**PATTERN, **given}["size"])
