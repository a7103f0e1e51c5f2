"""Parse a SOURCE, as written on the command line or in a settings file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from patchct_edge.errors import UserError, did_you_mean
from patchct_edge.runtime.stream.redaction import find_secrets, redact

SourceKind = Literal["v4l2", "csi", "rtsp", "http", "gst", "pattern", "folder", "file"]
KIND_BY_SCHEME: dict[str, SourceKind] = {
    "v4l2": "v4l2",
    "csi": "csi",
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "http": "http",
    "https": "http",
    "test": "pattern",
}
LIVE_KINDS = frozenset({"v4l2", "csi", "rtsp", "http", "gst"})  # reopened when they end


@dataclass(frozen=True)
class Address:
    """A source: its kind, and its device, URL, path or GStreamer pipeline.

    `str()` of it has no password.
    """

    kind: SourceKind
    target: str

    @property
    def live(self) -> bool:
        """Whether the source never ends by itself, and is reopened when it breaks off."""
        return self.kind in LIVE_KINDS

    @property
    def secrets(self) -> tuple[str, ...]:
        """The passwords in the target, as written and percent-decoded."""
        return find_secrets(self.target)

    def __str__(self) -> str:
        return redact(self.target, self.secrets)


def parse_address(source: str) -> Address:
    """Parse a source.

    Args:
        source: `0`, `/dev/video0` or `v4l2:///dev/video0`; `csi://0`; `rtsp://...`; `http://...`;
            `gst:` followed by a GStreamer pipeline that ends in raw video; `test://pattern`; a
            video file; a folder of images.

    Raises:
        UserError: the scheme is unknown, or the file does not exist.
    """
    if source.isdecimal():
        return Address("v4l2", f"/dev/video{source}")
    if source.startswith("/dev/video"):
        return Address("v4l2", source)
    if source.startswith("gst:"):
        pipeline = source.removeprefix("gst:").removeprefix("//").strip()
        if not pipeline:
            raise UserError(
                "the GStreamer pipeline is empty", got=source, expected="such as gst:videotestsrc"
            )
        return Address("gst", pipeline)
    if is_path(source):
        return _parse_path(source)
    return _parse_url(source)


def is_path(source: str) -> bool:
    """Whether a source is written as a file or folder, whether or not it exists."""
    device = source.isdecimal() or source.startswith(("/dev/video", "gst:"))
    return not device and "://" not in source


def _parse_url(source: str) -> Address:
    scheme, _, rest = source.partition("://")
    kind = KIND_BY_SCHEME.get(scheme.lower())
    if kind is None:
        raise UserError(
            f"unknown kind of source: {redact(source)}",
            got=f"{scheme}://, {did_you_mean(scheme, [*KIND_BY_SCHEME, 'gst'])}",
        )
    if kind == "v4l2":
        return Address(kind, rest if rest.startswith("/") else f"/dev/video{rest or 0}")
    if kind == "csi":
        return Address(kind, rest or "0")
    if kind == "pattern" and rest.partition("?")[0] != "pattern":
        raise UserError("unknown test source", got=redact(source), expected="test://pattern")
    if kind in ("rtsp", "http") and not _has_host(source):
        raise UserError(
            "the URL has no host or an invalid port",
            got=redact(source),
            expected=f"{scheme}://HOST/...",
        )
    return Address(kind, source)


def _parse_path(source: str) -> Address:
    if os.path.isdir(source):  # noqa: PTH112  (Path.is_dir fails on a name that is too long)
        return Address("folder", source)
    if not os.path.exists(source):  # noqa: PTH110
        shown = redact(f"://{source}")[3:]  # it may be a URL without its scheme
        raise UserError(
            f"no such source: {shown}",
            expected="a camera (0, csi://0, rtsp://..., http://...), a video file, a folder of "
            "images, or test://pattern",
        )
    return Address("file", source)


def _has_host(url: str) -> bool:
    """Whether a URL has a host, and a valid port or none."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # such as a port above 65535
        return False
