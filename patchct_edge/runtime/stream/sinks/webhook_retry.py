"""Retry a webhook's request as urllib3 does, but stop waiting when the sink closes."""

from __future__ import annotations

import logging
import re
import threading
from contextlib import suppress
from typing import Any

from urllib3.exceptions import InvalidHeader
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from patchct_edge.runtime.stream.redaction import redact

MAX_RETRIES = 7  # with the waits below, about a minute
RETRIED_STATUSES = frozenset({408, 429, *range(500, 600)})
# urllib3 retries at once, then waits 1, 2, 4, 8, 16 and 30 seconds, each with jitter.
BACKOFF_FACTOR = 0.5
MAX_BACKOFF_S = 30
JITTER_S = 0.5
MAX_RETRY_AFTER_S = 300  # a longer Retry-After is shortened to this
URLLIB3_LOGGERS = ("urllib3.connectionpool", "urllib3.util.retry")
_CONNECTION_PREFIX = re.compile(r"^HTTPS?Connection(Pool)?\(host=[^)]*\): ")


class WebhookRetry(Retry):
    """Retries after connection errors and `RETRIED_STATUSES`; waits as Retry-After asks.

    Args:
        closing: ends a wait at once; the request then fails with InterruptedError.
    """

    RETRY_AFTER_STATUS_CODES = RETRIED_STATUSES

    def __init__(self, closing: threading.Event, **options: Any) -> None:
        super().__init__(**options)
        self._closing = closing

    @classmethod
    def create(cls, closing: threading.Event) -> WebhookRetry:
        """Return the retries of one request."""
        return cls(
            closing,
            total=MAX_RETRIES,
            redirect=False,
            allowed_methods=None,  # POST too: an event that arrives twice is better than none
            status_forcelist=RETRIED_STATUSES,
            backoff_factor=BACKOFF_FACTOR,
            backoff_max=MAX_BACKOFF_S,
            backoff_jitter=JITTER_S,
        )

    def new(self, **changes: Any) -> WebhookRetry:
        """Return a copy with changes; urllib3 makes one for each retry."""
        return super().new(closing=self._closing, **changes)

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Wait before a retry.

        Raises:
            InterruptedError: the sink closes.
        """
        if self._closing.wait(self._delay(response)):
            last = self.history[-1]
            reason = describe_error(last.error) if last.error else f"HTTP status {last.status}"
            raise InterruptedError(f"stopped retrying at the end of the stream: {reason}")

    def _delay(self, response: BaseHTTPResponse | None) -> float:
        if response is not None:
            with suppress(InvalidHeader, ValueError, OverflowError):
                retry_after = self.get_retry_after(response)
                if retry_after:
                    return min(retry_after, MAX_RETRY_AFTER_S)
        return self.get_backoff_time()


def describe_error(error: Exception | None) -> str:
    """Return urllib3's message without the host, which is in the sink's name."""
    return _CONNECTION_PREFIX.sub("", str(error))


class Urllib3LogFilter(logging.Filter):
    """Keeps a webhook's secrets, and its many retries, out of urllib3's log."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop a record about a retry, which the sink logs if it fails; redact any other."""
        args = record.args if isinstance(record.args, tuple) else ()
        if any(isinstance(arg, WebhookRetry) for arg in args):
            return False
        record.msg, record.args = redact(record.getMessage(), self._secrets), ()
        return True
