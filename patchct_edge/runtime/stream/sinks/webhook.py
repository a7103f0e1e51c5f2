"""Every event as a POST of JSON."""

from __future__ import annotations

import json
import urllib.request
from base64 import b64encode
from http.client import HTTPException
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from patchct_edge.arrays import RGB
from patchct_edge.runtime.stream.backoff import Backoff
from patchct_edge.runtime.stream.events import FrameRow, Message
from patchct_edge.runtime.stream.settings import WebhookSettings
from patchct_edge.runtime.stream.sinks.base import Sink
from patchct_edge.runtime.stream.sources.address import find_secrets

TIMEOUT = 5.0  # seconds for one answer
ATTEMPTS = 8  # of one event: about a minute
REFUSED = range(300, 500)  # the server will say so again, but for the two below
LATER = (408, 429)
RESERVED = "%/:?@!$&'()*+,;=~"  # what a URL may hold as it is, and what somebody encoded


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Where a redirect is followed, a POST becomes a GET without the event."""

    def redirect_request(self, *_: object) -> None:
        return None


class WebhookSink(Sink):
    """Posts events in their order; one that is not taken is tried again while others wait.

    Given up after `ATTEMPTS`, or at once where the server refuses it (4xx) or is elsewhere (3xx).
    """

    def __init__(self, given: WebhookSettings) -> None:
        super().__init__()
        self._url, self._headers = _request_of(given.url)
        parts = urlsplit(self._url)
        # In the path is the token of many a service.
        self.name = f"webhook {parts.scheme}://{parts.netloc}"
        self.secrets = find_secrets(given.url)
        self._opener = urllib.request.build_opener(_NoRedirects)

    def wants(self, message: Message) -> bool:
        return not isinstance(message, FrameRow)

    def deliver(self, message: Message, rgb: RGB | None) -> None:
        body = json.dumps(message.to_json(), ensure_ascii=False).encode()
        backoff = Backoff()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._post(body)
                return
            except (OSError, HTTPException) as error:
                status = getattr(error, "code", None)
                final = status in REFUSED and status not in LATER
                if final or attempt == ATTEMPTS or self.closing.wait(backoff.delay()):
                    raise

    def _post(self, body: bytes) -> None:
        request = urllib.request.Request(self._url, body, self._headers, method="POST")
        with self._opener.open(request, timeout=TIMEOUT) as answer:
            answer.read(1024)


def _request_of(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL without name and password, and the headers: those two as Basic (RFC 7617)."""
    parts, headers = urlsplit(url), {"Content-Type": "application/json"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    host = parts.netloc.rpartition("@")[2]
    path, query = (quote(part, safe=RESERVED) for part in (parts.path, parts.query))
    return urlunsplit(parts._replace(netloc=host, path=path, query=query)), headers
