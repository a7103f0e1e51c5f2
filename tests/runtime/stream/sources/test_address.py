"""Addresses of sources, and the errors of invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchct_edge.errors import UserError
from patchct_edge.runtime.stream.sources.address import Address, is_path, parse_address


@pytest.mark.parametrize(
    ("source", "kind", "target"),
    [
        ("0", "v4l2", "/dev/video0"),
        ("12", "v4l2", "/dev/video12"),
        ("/dev/video1", "v4l2", "/dev/video1"),
        ("v4l2:///dev/video2", "v4l2", "/dev/video2"),
        ("v4l2://3", "v4l2", "/dev/video3"),
        ("csi://1", "csi", "1"),
        ("csi://", "csi", "0"),
        ("rtsp://10.0.0.5/stream", "rtsp", "rtsp://10.0.0.5/stream"),
        ("RTSPS://cam:322/a?b=c", "rtsp", "RTSPS://cam:322/a?b=c"),
        ("http://cam/video.mjpg", "http", "http://cam/video.mjpg"),
        ("https://cam/a.m3u8", "http", "https://cam/a.m3u8"),
        ("gst:videotestsrc ! video/x-raw", "gst", "videotestsrc ! video/x-raw"),
        ("gst://videotestsrc", "gst", "videotestsrc"),
        ("test://pattern", "pattern", "test://pattern"),
        ("test://pattern?fps=5", "pattern", "test://pattern?fps=5"),
    ],
)
def test_every_kind_of_address_but_paths(source: str, kind: str, target: str) -> None:
    address = parse_address(source)
    assert (address.kind, address.target) == (kind, target)
    assert address.live == (kind != "pattern")
    assert not is_path(source)


def test_a_path_is_a_file_or_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "a b.mp4"
    file.touch()
    assert parse_address(str(file)) == Address("file", str(file))
    assert parse_address(str(tmp_path)) == Address("folder", str(tmp_path))
    assert not parse_address(str(file)).live
    assert is_path(str(file))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("rtps://cam/1", r"unknown kind of source: rtps://cam/1(?s:.*)did you mean 'rtsps?'\?"),
        ("ftp://cam/1", r"unknown kind of source(?s:.*)expected one of v4l2, csi,"),
        ("://", r"unknown kind of source(?s:.*)expected one of v4l2, csi,"),
        ("no such.mp4", r"no such source: no such.mp4(?s:.*)expected:(?s:.*)rtsp://"),
        ("", r"no such source(?s:.*)expected:"),
        ("n" * 5000, r"no such source(?s:.*)expected:"),
        ("test://bars", r"unknown test source(?s:.*)expected:\s+test://pattern"),
        ("rtsp:///stream", r"has no host(?s:.*)expected:\s+rtsp://HOST"),
        ("http://[::1/stream", r"has no host(?s:.*)expected:\s+http://HOST"),
    ],
)
def test_an_invalid_source_is_reported_with_what_is_expected(source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_address(source)


@pytest.mark.parametrize("scheme", ["rtps://", "test://", "rtsp://", "http://", ""])
def test_the_error_of_an_invalid_url_shows_no_password(scheme: str) -> None:
    for rest in ("admin:Zq7@", "admin:Zq7@[/x", "admin:Zq7@/x"):
        with pytest.raises(UserError) as caught:
            parse_address(f"{scheme}{rest}")
        assert "Zq7" not in str(caught.value)
