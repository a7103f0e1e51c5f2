"""Log records: recurring failures and the JSON format."""

from __future__ import annotations

import io
import json
import logging
import time

import pytest

from patchct_edge import logs
from patchct_edge.logs import QUIET_PERIOD_S, JsonFormatter, RecurringFailureFilter


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(logs, "time", clock)
    return clock


@pytest.fixture
def output():
    return io.StringIO()


@pytest.fixture
def logger(output):
    """A logger of its own for each test, that writes the messages to `output`."""
    logger = logging.Logger("stream")
    logger.addHandler(logging.StreamHandler(output))
    logger.addFilter(RecurringFailureFilter())
    return logger


def fail(logger, key="camera", message="fails"):
    logger.warning(message, extra={"failure": key})


def recover(logger, key="camera", message="works again"):
    logger.warning(message, extra={"recovery": key})


def test_a_failure_is_logged_when_it_begins_and_when_it_has_ended(clock, logger, output):
    recover(logger)
    for _ in range(100):
        fail(logger)
        clock.now += 0.04
    clock.now += QUIET_PERIOD_S
    for _ in range(100):
        recover(logger)
        clock.now += 0.04
    assert output.getvalue().splitlines() == ["fails", "works again"]


def test_a_failure_that_comes_and_goes_is_one_failure(clock, logger, output):
    for _ in range(20):
        fail(logger)
        clock.now += QUIET_PERIOD_S - 0.1
        recover(logger)
    assert output.getvalue().splitlines() == ["fails"]


def test_a_failure_lasts_until_a_success(clock, logger, output):
    fail(logger)
    clock.now += 100 * QUIET_PERIOD_S
    fail(logger)
    assert output.getvalue().splitlines() == ["fails"]


def test_a_failure_after_its_recovery_is_logged_again(clock, logger, output):
    for _ in range(2):
        fail(logger)
        clock.now += QUIET_PERIOD_S
        recover(logger)
    assert output.getvalue().splitlines() == ["fails", "works again"] * 2


def test_failures_with_different_keys_are_independent(clock, logger, output):
    front, back = object(), object()
    fail(logger, front, "front fails")
    fail(logger, back, "back fails")
    clock.now += QUIET_PERIOD_S
    recover(logger, front, "front works")
    assert output.getvalue().splitlines() == ["front fails", "back fails", "front works"]


def test_other_records_pass(clock, logger, output):
    fail(logger)
    for _ in range(2):
        logger.error("no key")
    assert output.getvalue().splitlines() == ["fails", "no key", "no key"]


def test_the_quiet_period_can_be_chosen(clock, output):
    logger = logging.Logger("stream")
    handler = logging.StreamHandler(output)
    handler.addFilter(RecurringFailureFilter(quiet_s=0))
    logger.addHandler(handler)
    for _ in range(2):
        fail(logger)
        recover(logger)
    assert output.getvalue().splitlines() == ["fails", "works again"] * 2


def json_of(log, level=logging.INFO):
    """Return the lines that `log` writes through the JSON formatter."""
    output = io.StringIO()
    logger, handler = logging.Logger("patchct_edge.x", level), logging.StreamHandler(output)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    log(logger)
    assert output.getvalue().isascii()
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_record_is_one_line_of_json(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.25)
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_250_000_000)
    (fields,) = json_of(lambda logger: logger.info("two\nlines of %s", "Zoë \udcff"))
    assert fields == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "info",
        "logger": "patchct_edge.x",
        "message": "two\nlines of Zoë \udcff",
    }


def test_an_exception_has_its_traceback():
    def log(logger):
        try:
            raise ValueError("broken")
        except ValueError:
            logger.exception("failed")

    (fields,) = json_of(log)
    assert fields["level"] == "error"
    assert fields["message"] == "failed"
    assert fields["exception"].startswith("Traceback")
    assert fields["exception"].endswith("ValueError: broken")
