"""Webhooks against a real HTTP server: order, retries, refusals, secrets."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from messages import close_worker, label_event
from urllib3 import HTTPResponse

from patchct_edge.errors import UserError
from patchct_edge.runtime.stream.settings import WebhookSettings
from patchct_edge.runtime.stream.sinks.base import SinkWorker
from patchct_edge.runtime.stream.sinks.webhook import (
    MAX_RESPONSE_BYTES,
    WebhookSink,
    parse_endpoint,
)
from patchct_edge.runtime.stream.sinks.webhook_retry import (
    MAX_RETRIES,
    MAX_RETRY_AFTER_S,
    WebhookRetry,
)

NONSENSE = 0  # in place of a status


class WebhookServer(ThreadingHTTPServer):
    """A server with `answers` to give: (status, headers) of each."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), WebhookHandler)
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.bodies: list[Any] = []
        self.requests: list[tuple[int, str, str | None]] = []
        self.client_ports: list[int] = []


class WebhookHandler(BaseHTTPRequestHandler):
    """Answers with the server's statuses, then with 200; keeps what it was sent."""

    server: WebhookServer

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, headers = self.server.answers.pop(0) if self.server.answers else (200, {})
        if status == 200:
            self.server.bodies.append(json.loads(body))
        self.server.requests.append((status, self.path, self.headers.get("Authorization")))
        if status == NONSENSE:
            self.wfile.write(b"nonsense\r\n")
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *words):
        return


class SlowResponseHandler(WebhookHandler):
    """Keeps the connection; the second half of its long response comes late."""

    protocol_version = "HTTP/1.1"
    content_length = 4 * MAX_RESPONSE_BYTES

    def end_headers(self):
        self.send_header("Content-Length", str(self.content_length))
        super().end_headers()
        with suppress(OSError):  # the sink does not wait for the end
            self.write_response()

    def write_response(self):
        half = b"x" * (self.content_length // 2)
        self.wfile.write(half)
        time.sleep(0.2)
        self.wfile.write(half)


class BrokenResponseHandler(SlowResponseHandler):
    """Closes the connection in the middle of its response."""

    content_length = 10

    def write_response(self):
        self.wfile.write(b"x")
        self.close_connection = True


class ShortResponseHandler(SlowResponseHandler):
    """Keeps the connection; remembers the port of the other end."""

    content_length = 2

    def write_response(self):
        self.server.client_ports.append(self.client_address[1])
        self.wfile.write(b"ok")


@pytest.fixture
def server():
    with WebhookServer() as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        yield http_server
        http_server.shutdown()
        thread.join()


def open_sink(server, user="", path="/events"):
    url = f"http://{user}127.0.0.1:{server.server_port}{path}"
    return WebhookSink(WebhookSettings(url=url))


def answer(server, *statuses, **headers):
    server.answers += [(status, headers) for status in statuses]


def statuses_of(server):
    return [status for status, _, _ in server.requests]


def test_when_a_source_ends_the_queue_is_delivered(stream, server):
    answer(server, 503, 503)  # the second retry comes after the 0.4 s that a signal would leave
    settings = WebhookSettings(url=f"http://127.0.0.1:{server.server_port}/")
    summary = stream("test://pattern?fps=50&size=64x48", max_frames=20, sinks=[settings]).join()
    (counts,) = [counts for name, counts in summary.sinks.items() if "webhook" in name]
    assert counts.delivered == len(server.bodies) >= 3
    assert summary.complete


def test_events_are_posted_in_order_and_retried(server):
    answer(server, 503, 429, NONSENSE)
    worker = SinkWorker(open_sink(server))
    for number in range(5):
        worker.put(label_event(number), None)
    counts = close_worker(worker, 10)
    assert statuses_of(server) == [503, 429, NONSENSE, *[200] * 5]
    times = [body["time"] for body in server.bodies]
    assert times == sorted(times)
    assert (counts.delivered, counts.failed) == (5, 0)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_retry_waits_as_long_as_the_server_asks(server, status):
    answer(server, status, **{"Retry-After": "1"})
    start = time.monotonic()
    open_sink(server).deliver(label_event(), None)
    assert 1 <= time.monotonic() - start < 3
    assert statuses_of(server) == [status, 200]


@pytest.mark.parametrize("retry_after", ["soon", "", "-1", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_an_invalid_retry_after_is_ignored(server, retry_after):
    answer(server, 503, **{"Retry-After": retry_after})
    open_sink(server).deliver(label_event(), None)
    assert statuses_of(server) == [503, 200]


def test_the_end_of_the_stream_ends_a_wait_at_once(server):
    answer(server, 503, **{"Retry-After": "3600"})
    worker = SinkWorker(open_sink(server))
    worker.put(label_event(), None)
    while not server.requests:
        time.sleep(0.01)
    start = time.monotonic()
    worker.close(start + 5)
    assert time.monotonic() - start < 1
    assert (worker.counts.failed, worker.counts.lost) == (1, 0)


def test_the_longest_wait_is_limited():
    response = HTTPResponse(status=503, headers={"Retry-After": "9" * 400})
    assert WebhookRetry.create(threading.Event())._delay(response) == MAX_RETRY_AFTER_S


def test_retries_take_about_a_minute():
    retry, delays = WebhookRetry.create(threading.Event()), []
    for _ in range(MAX_RETRIES):
        retry = retry.increment("POST", "/", error=OSError("away"))
        delays.append(retry.get_backoff_time())
    assert 60 <= sum(delays) <= 65
    assert delays == sorted(delays)


@pytest.mark.parametrize("status", [404, 413, 302])  # following 302 would lose the event
def test_a_refused_event_is_given_up_at_once(server, status):
    answer(server, status, **{"Location": "/elsewhere", "Retry-After": "1"})
    worker = SinkWorker(open_sink(server))
    worker.put(label_event(0), None)
    worker.put(label_event(1), None)
    counts = close_worker(worker, 5)
    assert (counts.delivered, counts.failed) == (1, 1)
    assert statuses_of(server) == [status, 200]


def test_name_and_password_of_a_url_are_sent_and_never_shown(server):
    sink = open_sink(server, "me:se%40cret@")
    assert sink.name == f"webhook http://127.0.0.1:{server.server_port}"
    sink.deliver(label_event(), None)
    assert server.requests == [(200, "/events", "Basic bWU6c2VAY3JldA==")]  # me:se@cret


def test_no_log_record_shows_a_token(server, caplog):
    caplog.set_level("DEBUG")
    answer(server, 503, NONSENSE, 404)
    path = "/hooks/Zq7ü?key=X9w v"
    for sink in (
        open_sink(server, "me:W8r5@", path),
        WebhookSink(WebhookSettings(url=f"http://me:W8r5@127.0.0.1:9{path}")),
    ):
        worker = SinkWorker(sink)
        worker.put(label_event(), None)
        counts = close_worker(worker, 2)
        assert counts.failed == 1
    assert "the server answered 404 Not Found" in caplog.text
    assert "Connection refused" in caplog.text
    assert server.requests[0][1] == "/hooks/Zq7%C3%BC?key=X9w%20v"
    for secret in ("Zq7", "X9w", "W8r5", "Retrying"):
        assert secret not in caplog.text


def test_a_server_that_is_away_is_given_up_at_the_end():
    worker = SinkWorker(WebhookSink(WebhookSettings(url="http://127.0.0.1:9/")))
    for number in range(3):
        worker.put(label_event(number), None)
    start = time.monotonic()
    counts = close_worker(worker, 0.5)
    assert time.monotonic() - start < 1
    assert counts.failed + counts.lost == 3


def test_the_proxy_of_the_environment_is_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    WebhookSink(WebhookSettings(url="http://hooks.example/a")).deliver(label_event(), None)
    assert server.requests == [(200, "http://hooks.example/a", None)]


@pytest.mark.parametrize("proxy", ["socks5://me:secret@host:1080", "http://me:secret@[host"])
def test_a_proxy_that_cannot_be_used_is_reported_without_its_password(monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(UserError, match="proxy") as caught:
        WebhookSink(WebhookSettings(url="http://hooks.example/a"))
    assert "http_proxy" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_response_that_is_long_and_slow_repeats_no_event(server):
    server.RequestHandlerClass = SlowResponseHandler
    sink = open_sink(server)
    for number in range(3):
        sink.deliver(label_event(number), None)
    assert statuses_of(server) == [200] * 3


def test_a_response_that_breaks_off_counts_as_delivered(server):
    server.RequestHandlerClass = BrokenResponseHandler
    worker = SinkWorker(open_sink(server))
    worker.put(label_event(), None)
    counts = close_worker(worker, 5)
    assert (counts.delivered, counts.failed) == (1, 0)
    assert statuses_of(server) == [200]


def test_a_connection_is_used_again(server):
    server.RequestHandlerClass = ShortResponseHandler
    sink = open_sink(server)
    for number in range(3):
        sink.deliver(label_event(number), None)
    assert len(server.client_ports) == 3
    assert len(set(server.client_ports)) == 1


def test_a_host_outside_ascii_is_encoded():
    assert parse_endpoint("http://bücher.example:8080/ä").url == (
        "http://xn--bcher-kva.example:8080/%C3%A4"
    )
