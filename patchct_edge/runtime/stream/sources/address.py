"""What a SOURCE on the command line means, and how it is shown without its password."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from patchct_edge.errors import UserError, did_you_mean

Kind = Literal["v4l2", "csi", "rtsp", "http", "gst", "pattern", "folder", "file"]
SCHEMES: dict[str, Kind] = {
    "v4l2": "v4l2",
    "csi": "csi",
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "http": "http",
    "https": "http",
    "test": "pattern",
}
LIVE = frozenset({"v4l2", "csi", "rtsp", "http", "gst"})  # opened again when they end
SECRET_WORDS = "pass|password|passwd|pwd|token|key|apikey|api_key|secret|auth|signature|sig|code"
# Up to the last "@" of a word: a password may hold "/", "?", "#" and "@" that nobody encoded.
_USER_INFO = re.compile(r"(?<=://)([^:\s@]*):\S*@", re.ASCII)
_NAMED = rf"[\w.-]*(?:{SECRET_WORDS}|pw)"
_PROPERTY = re.compile(
    rf"""(\b{_NAMED}\s*=\s*)(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|\S)+""",
    re.IGNORECASE | re.ASCII,  # a space of another alphabet is part of a password
)
SHOWN_FOR_SECRET = "***"
SHORTEST = 4  # letters of what is hidden wherever it stands: "p" stands in every other word
TOPIC = "patchct"


@dataclass(frozen=True)
class Address:
    """A source: its kind, and the device, URL, path or pipeline that it is."""

    kind: Kind
    target: str

    @property
    def live(self) -> bool:
        """Whether it goes on for ever and is opened again when it breaks off."""
        return self.kind in LIVE

    @property
    def secrets(self) -> tuple[str, ...]:
        """The passwords in it, as written and decoded."""
        return find_secrets(self.target)

    def __str__(self) -> str:
        return redact(self.target, self.secrets)


def parse_address(source: str) -> Address:
    """Return what a source is.

    Args:
        source: `0` or `/dev/video0` or `v4l2:///dev/video0`; `csi://0`; `rtsp://…`; `http://…`;
            `gst:` and a pipeline of GStreamer that ends in raw video; `test://pattern`; a video
            file; a folder of images.

    Raises:
        UserError: the scheme is not known, or there is no such file.
    """
    if source.isdecimal():
        return Address("v4l2", f"/dev/video{source}")
    if source.startswith("/dev/video"):
        return Address("v4l2", source)
    if source.startswith("gst:"):
        pipeline = source.removeprefix("gst:").removeprefix("//").strip()
        if not pipeline:
            raise UserError("no pipeline", got=source, expected="such as gst:videotestsrc")
        return Address("gst", pipeline)
    if is_path(source):
        return _on_disk(source)
    scheme, _, rest = source.partition("://")
    kind = SCHEMES.get(scheme.lower())
    if kind is None:
        raise UserError(
            f"unknown kind of source: {redact(source)}",
            got=f"{scheme}://",
            expected=did_you_mean(scheme, [*SCHEMES, "gst"]),
        )
    if kind == "v4l2":
        return Address(kind, rest if rest.startswith("/") else f"/dev/video{rest or 0}")
    if kind == "csi":
        return Address(kind, rest or "0")
    if kind == "pattern" and rest.partition("?")[0] != "pattern":
        raise UserError("unknown test source", got=redact(source), expected="test://pattern")
    if kind in ("rtsp", "http") and not _host(source):
        raise UserError(
            "a URL without a host, or with a port that is none",
            got=redact(source),
            expected=f"{scheme}://HOST/...",
        )
    return Address(kind, source)


def is_path(source: str) -> bool:
    """Whether a source is a file or a folder by the way it is written."""
    device = source.isdecimal() or source.startswith(("/dev/video", "gst:"))
    return not device and "://" not in source


def _on_disk(source: str) -> Address:
    if os.path.isdir(source):  # noqa: PTH112  (Path.is_dir fails on a name too long)
        return Address("folder", source)
    if not os.path.exists(source):  # noqa: PTH110
        shown = redact(f"://{source}")[3:]  # it may be a URL whose scheme was forgotten
        raise UserError(
            f"no such source: {shown}",
            expected="a camera (0, csi://0, rtsp://..., http://...), a video file, a folder of "
            "images, or test://pattern",
        )
    return Address("file", source)


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.port is None or parts.port else None
    except ValueError:  # also a port that is none
        return None


def find_secrets(url: str) -> tuple[str, ...]:
    """Return the passwords in a URL, as written and decoded."""
    if "://" not in url:
        return ()
    try:
        parts = urlsplit(url)
        found = {parts.password or ""}
        found |= {
            value
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
            if re.fullmatch(_NAMED, name, re.IGNORECASE)
        }
    except ValueError:
        return ()
    both = {each for raw in found for each in (raw, unquote(raw))}
    return tuple(sorted(each for each in both if len(each) >= SHORTEST))


def mqtt_topic(url: str) -> str:
    """Return the topic of mqtt://USER:PASSWORD@HOST:PORT/TOPIC."""
    return unquote(urlsplit(url).path).strip("/") or TOPIC


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Return a text without passwords: those of URLs and pipelines in it, and `secrets`."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, SHOWN_FOR_SECRET)
    text = _USER_INFO.sub(rf"\g<1>:{SHOWN_FOR_SECRET}@", text)
    return _PROPERTY.sub(rf"\g<1>{SHOWN_FOR_SECRET}", text)
