"""Addresses of sources, and that no password in them is ever shown."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from patchct_edge.errors import UserError
from patchct_edge.runtime.stream.redaction import redact
from patchct_edge.runtime.stream.sources.address import Address, is_path, parse_address

# A password is any text between the two marks; a shown text must contain neither mark.
START_MARK, END_MARK = "Zq7", "X9w"
PRINTABLE_TEXTS = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cc"])
)
WORDS = PRINTABLE_TEXTS.filter(lambda text: not any(c.isspace() for c in text))


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
        ("ftp://cam/1", r"unknown kind of source(?s:.*)expected:"),
        ("://", r"unknown kind of source(?s:.*)expected:"),
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


@given(WORDS, st.sampled_from(["rtsp", "http", "mqtt"]), st.booleans())
@example("p@ss", "rtsp", False)
@example("12/3#?", "rtsp", False)
@example("://", "http", False)
def test_no_password_of_a_url_is_shown(password: str, scheme: str, encoded: bool) -> None:
    secret = START_MARK + (quote(password, safe="") if encoded else password) + END_MARK
    url = f"{scheme}://admin:{secret}@10.0.0.5:554/live"
    for shown in (
        redact(url),
        redact(f"cannot open {url}: no route"),
        str(Address("rtsp", url)),
    ):
        assert START_MARK not in shown
        assert END_MARK not in shown
        assert "admin:***@10.0.0.5:554/live" in shown or password in shown


@given(PRINTABLE_TEXTS)
@example("a b")
@example("%41é")
def test_a_password_is_not_shown_decoded_either(password: str) -> None:
    plain = START_MARK + password + END_MARK
    address = Address("rtsp", f"rtsp://admin:{quote(plain, safe='')}@cam/live")
    assert plain in address.secrets
    shown = redact(f"401 for admin with {plain}", address.secrets)
    assert START_MARK not in shown
    assert END_MARK not in shown


@pytest.mark.parametrize("scheme", ["rtps://", "test://", "rtsp://", "http://", ""])
def test_the_error_of_an_invalid_url_shows_no_password(scheme: str) -> None:
    for rest in ("admin:Zq7@", "admin:Zq7@[/x", "admin:Zq7@/x"):
        with pytest.raises(UserError) as caught:
            parse_address(f"{scheme}{rest}")
        assert "Zq7" not in str(caught.value)


SECRET_PARAMETERS = (
    "token",
    "access_token",
    "Password",
    "pwd",
    "api_key",
    "auth",
    "X-Amz-Signature",
)


@given(WORDS, st.sampled_from(SECRET_PARAMETERS), st.booleans())
@example('a"b', "token", False)
def test_no_token_of_a_query_is_shown(token: str, name: str, encoded: bool) -> None:
    secret = START_MARK + (quote(token, safe="") if encoded else token) + END_MARK
    url = f"http://cam/video?size=4&{name}={secret}"
    for shown in (redact(url), redact(f"'{url}' failed"), str(Address("http", url))):
        assert START_MARK not in shown
        assert END_MARK not in shown
        assert f"size=4&{name}=***" in shown or token in shown


@given(PRINTABLE_TEXTS)
def test_no_password_of_a_pipeline_is_shown(password: str) -> None:
    escaped = password.replace("\\", "\\\\").replace('"', '\\"')
    for secret in (
        START_MARK + password + END_MARK,
        "'" + (START_MARK + password + " " + END_MARK).replace("'", "") + "'",
        f'"{START_MARK}{escaped} {END_MARK}"',
        START_MARK + "' '" + END_MARK,
    ):
        for name in ("user-pw=", "user-pw = ", "proxy-pw="):
            pipeline = f"rtspsrc user-id=me {name}{secret} location=rtsp://cam ! decodebin"
            for shown in (redact(pipeline), str(Address("gst", pipeline))):
                assert START_MARK not in shown
                assert END_MARK not in shown
                assert shown.startswith("rtspsrc user-id=me ")


def test_other_text_is_not_redacted() -> None:
    for text in (
        "rtsp://10.0.0.5:554/Streaming/Channels/101?a=b",
        "http://user@cam/x",
        "a keyframe is missing; mailto:me@home at http://cam:80/x",
    ):
        assert redact(text) == text
