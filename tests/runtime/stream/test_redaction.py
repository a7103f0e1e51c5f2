"""No password or token of a URL or pipeline is ever shown."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st

from patchct_edge.runtime.stream.redaction import redact
from patchct_edge.runtime.stream.sources.address import Address

# A password is any text between the two marks; a shown text must contain neither mark.
START_MARK, END_MARK = "Zq7", "X9w"
PRINTABLE_TEXTS = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cc"])
)
WORDS = PRINTABLE_TEXTS.filter(lambda text: not any(c.isspace() for c in text))
SECRET_PARAMETERS = (
    "token",
    "access_token",
    "Password",
    "pwd",
    "api_key",
    "auth",
    "X-Amz-Signature",
)


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
