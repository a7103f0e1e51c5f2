"""Log records: a filter for failures that recur, and a JSON format for services."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Hashable
from datetime import datetime, timezone

QUIET_PERIOD_S = 10.0  # without a failure, after which a failure is over


class RecurringFailureFilter(logging.Filter):
    """Pass one record when a failure begins and one when it has ended; drop those between.

    Without it, a stream would log a broken camera or sink once a frame. Log every failure and every
    success, both at the same level: a handler that drops one of them would miss the next failure.

        logger.addFilter(RecurringFailureFilter())
        logger.warning("the broker is away: %s", error, extra={"failure": key})
        logger.warning("the broker is back", extra={"recovery": key})

    A record with neither passes. The filter may be added to a logger or to a handler.

    Args:
        quiet_s: seconds without a failure after which a success ends it: what fails now and then is
            one failure.
    """

    def __init__(self, quiet_s: float = QUIET_PERIOD_S) -> None:
        super().__init__()
        self.quiet_s = quiet_s
        self._last_failures: dict[Hashable, float] = {}  # seconds of the monotonic clock
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is news.

        Records carry in `failure` or `recovery` the key of what fails: any hashable value. Two
        streams in one process need different keys, such as the objects that fail.
        """
        failure = getattr(record, "failure", None)
        recovery = getattr(record, "recovery", None)
        with self._lock:
            if failure is not None:
                is_new = failure not in self._last_failures
                self._last_failures[failure] = time.monotonic()
                return is_new
            if recovery is not None:
                return self._end_failure(recovery)
        return True

    def _end_failure(self, key: Hashable) -> bool:
        last_failure = self._last_failures.get(key)
        if last_failure is None or time.monotonic() - last_failure < self.quiet_s:
            return False
        del self._last_failures[key]
        return True


class JsonFormatter(logging.Formatter):
    """Format a record as one line of JSON in ASCII: time (UTC), level, logger, message.

    A record with an exception has its traceback in `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line break at its end."""
        when = datetime.fromtimestamp(record.created, timezone.utc)
        fields = {
            "time": when.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)
