"""Every event as an HTTP POST of JSON."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError

from patchct_edge.arrays import RGB
from patchct_edge.errors import UserError
from patchct_edge.runtime.stream.events import FrameRow, Message
from patchct_edge.runtime.stream.redaction import MIN_SECRET_LENGTH, find_secrets, redact
from patchct_edge.runtime.stream.settings import WebhookSettings
from patchct_edge.runtime.stream.sinks.base import Sink
from patchct_edge.runtime.stream.sinks.webhook_retry import (
    URLLIB3_LOGGERS,
    Urllib3LogFilter,
    WebhookRetry,
    describe_error,
)

TIMEOUT_S = 5.0  # to connect, and for each part of the response
MAX_RESPONSE_BYTES = 1024
URL_CHARACTERS = "%/:?@!$&'()*+,;=~"  # not to be percent-encoded; "%" is of what already is


class Endpoint(NamedTuple):
    """Where and how to post: a URL without name and password, and the headers."""

    url: str
    headers: dict[str, str]
    secrets: tuple[str, ...]


class WebhookSink(Sink):
    """Posts events in their order; while one is retried, the others wait.

    An event is given up after about a minute, or at once if the server refuses it (4xx except 408
    and 429) or redirects it (3xx): a redirected POST would become a GET without the event.
    """

    def __init__(self, settings: WebhookSettings) -> None:
        super().__init__()
        self._endpoint = parse_endpoint(settings.url)
        parts = urlsplit(self._endpoint.url)
        self.name = f"webhook {parts.scheme}://{parts.netloc}"  # paths often hold a token
        self.secrets = self._endpoint.secrets
        self._pool = _make_pool(self._endpoint.url)
        self._log_filter = Urllib3LogFilter(self.secrets)
        for name in URLLIB3_LOGGERS:
            logging.getLogger(name).addFilter(self._log_filter)

    def accepts(self, message: Message) -> bool:
        return not isinstance(message, FrameRow)

    def deliver(self, message: Message, rgb: RGB | None) -> None:
        body = json.dumps(message.to_json(), ensure_ascii=False).encode()
        try:
            response = self._pool.request(
                "POST",
                self._endpoint.url,
                body=body,
                headers=self._endpoint.headers,
                timeout=TIMEOUT_S,
                retries=WebhookRetry.create(self.closing),
                redirect=False,
                preload_content=False,
            )
            # The status says whether the event was taken. The connection is used again only if the
            # response was read to its end: the rest would be taken for the next response.
            with response, suppress(HTTPError):
                response.read(MAX_RESPONSE_BYTES)
        except MaxRetryError as error:
            raise OSError(describe_error(error.reason)) from None  # its own text has the path
        except HTTPError as error:
            raise OSError(describe_error(error)) from None
        if response.status >= 300:
            raise OSError(f"the server answered {response.status} {response.reason}")

    def close(self) -> int:
        self._pool.clear()
        for name in URLLIB3_LOGGERS:
            logging.getLogger(name).removeFilter(self._log_filter)
        return 0


def parse_endpoint(url: str) -> Endpoint:
    """Split a URL into what is requested and what authenticates: Basic, as in RFC 7617."""
    parts, headers = urlsplit(url), {"Content-Type": "application/json"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    path, query = (quote(part, safe=URL_CHARACTERS) for part in (parts.path, parts.query))
    host = parts.netloc.rpartition("@")[2]
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    target = f"{path}?{query}" if query else path
    secrets = {*find_secrets(url), parts.path, path, target}
    return Endpoint(
        f"{parts.scheme}://{host}{target}",
        headers,
        tuple(secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH),
    )


def _make_pool(url: str) -> urllib3.PoolManager:
    """Return the connections to a URL, through the proxy of the environment if there is one.

    Raises:
        UserError: the environment names a proxy that is not an HTTP proxy.
    """
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if not proxy or proxy_bypass(parts.netloc):
        return urllib3.PoolManager()
    try:
        proxy_url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host = proxy_url.netloc.rpartition("@")[2]
        credentials = None
        if proxy_url.username is not None:
            credentials = f"{unquote(proxy_url.username)}:{unquote(proxy_url.password or '')}"
        return urllib3.ProxyManager(
            f"{proxy_url.scheme}://{host}",
            proxy_headers=urllib3.make_headers(proxy_basic_auth=credentials),
        )
    except (ValueError, HTTPError):  # another scheme, or not a host
        raise UserError(
            "the webhook cannot use the proxy of the environment",
            got=redact(proxy, find_secrets(proxy)),
            expected="http://HOST:PORT or https://HOST:PORT",
            fix=f"change {parts.scheme}_proxy, or name the webhook's host in no_proxy",
        ) from None
