"""Passwords and tokens of URLs and pipelines: find them, and keep them out of every text."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

SECRET_WORDS = "pass|password|passwd|pwd|token|key|apikey|api_key|secret|auth|signature|sig|code"
# Up to the last "@" of a word: a password may hold an unencoded "/", "?", "#" or "@".
_USER_INFO = re.compile(r"(?<=://)([^:\s@]*):\S*@", re.ASCII)
_SECRET_NAME = rf"[\w.-]*(?:{SECRET_WORDS}|pw)"
_SECRET_PROPERTY = re.compile(
    rf"""(\b{_SECRET_NAME}\s*=\s*)(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|\S)+""",
    re.IGNORECASE | re.ASCII,  # a non-ASCII space is part of a password
)
PLACEHOLDER = "***"
MIN_SECRET_LENGTH = 4  # a shorter secret, such as "p", is part of too many innocent words


def find_secrets(url: str) -> tuple[str, ...]:
    """Return the passwords and tokens in a URL, as written and percent-decoded."""
    if "://" not in url:
        return ()
    try:
        parts = urlsplit(url)
        secrets = {parts.password or ""}
        secrets |= {
            value
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
            if re.fullmatch(_SECRET_NAME, name, re.IGNORECASE)
        }
    except ValueError:
        return ()
    secrets |= {unquote(secret) for secret in secrets}
    return tuple(sorted(secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH))


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Replace passwords in a text by `***`.

    Args:
        text: may hold URLs and GStreamer pipelines, whose passwords are recognized by their place
            (`user:PASSWORD@host`) or by their name (`token=`, `user-pw=`).
        secrets: further passwords to replace wherever they occur.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, PLACEHOLDER)
    text = _USER_INFO.sub(rf"\g<1>:{PLACEHOLDER}@", text)
    return _SECRET_PROPERTY.sub(rf"\g<1>{PLACEHOLDER}", text)
