"""MQTT against a real broker: retained state, the last will, a broker that goes and returns."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from messages import close_worker
from streams import event_name

from patchct_edge.runtime.stream.events import LabelEvent
from patchct_edge.runtime.stream.settings import (
    CameraSettings,
    MQTTSettings,
    ThresholdSettings,
    WebhookSettings,
)
from patchct_edge.runtime.stream.sinks.base import SinkWorker
from patchct_edge.runtime.stream.sinks.mqtt import MAX_UNACKNOWLEDGED, MQTTSink

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto")
PATTERN_TAGS = '["red", "green", "blue"]'  # once all bars of the pattern are recognized
PATTERN = "test://pattern?fps=50&size=64x48"
RUN_CLI = "from patchct_edge.cli.app import main; main()"


class Broker:
    """A broker on a free port that can be killed and restarted."""

    def __init__(self, folder, *lines):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        settings = [f"listener {self.port} 127.0.0.1", *(lines or ("allow_anonymous true",))]
        self._config.write_text("\n".join(settings) + "\n")
        self._process = None

    def start(self):
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the broker does not start")

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Listener:
    """Keeps every message of a broker as (topic, payload, retained), in order."""

    def __init__(self, port):
        from paho.mqtt import client as mqtt

        self.messages: list[Any] = []
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_message = lambda _, __, message: self.messages.append(
            (message.topic, message.payload.decode(), bool(message.retain))
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def wait_for(self, topic, payload=None, seconds=15, after=0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for message in self.messages[after:]:
                if message[0] == topic and payload in (None, message[1]):
                    return message
            time.sleep(0.02)
        raise AssertionError((topic, payload, self.messages))

    def publish(self, topic, payload):
        self._client.publish(topic, payload, 1, retain=True)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


def start_proxy(port, forwards_answers):
    """Return a port that leads to a broker; answers are lost unless `forwards_answers` is set."""
    server = socket.create_server(("127.0.0.1", 0))

    def forward(source, target, enabled):
        with suppress(OSError):
            while data := source.recv(65536):
                if enabled.is_set():
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve():
        client, _ = server.accept()
        upstream = socket.create_connection(("127.0.0.1", port))
        always = threading.Event()
        always.set()
        for direction in ((client, upstream, always), (upstream, client, forwards_answers)):
            threading.Thread(target=forward, args=direction, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1]


@pytest.fixture
def broker(tmp_path):
    started = Broker(tmp_path)
    started.start()
    yield started
    started.kill()


@pytest.fixture
def listen():
    """A function that connects a listener to a port."""
    listeners = []

    def connect(port):
        listeners.append(Listener(port))
        return listeners[-1]

    yield connect
    for listener in listeners:
        listener.close()


def mqtt_settings(port, user=""):
    return MQTTSettings(url=f"mqtt://{user}127.0.0.1:{port}/house")


def mqtt_counts(summary, port):
    return summary.sinks[f"mqtt mqtt://127.0.0.1:{port}/house"]


def test_the_current_state_is_retained_and_events_arrive(stream, broker, listen):
    early_listener = listen(broker.port)
    stream_thread = stream(PATTERN, sinks=[mqtt_settings(broker.port)])
    stream_thread.wait_for(lambda: stream_thread.events("label on"))
    early_listener.wait_for("house/c0/tags", PATTERN_TAGS)
    listener = listen(broker.port)  # receives what the broker retained
    assert listener.wait_for("house/status", "online")[2]
    assert listener.wait_for("house/c0/status", "connected")[2]
    assert listener.wait_for("house/c0/tags", PATTERN_TAGS)[2]
    summary = stream_thread.end()
    early_listener.wait_for("house/status", "offline")
    events = [
        json.loads(payload)
        for topic, payload, _ in early_listener.messages
        if topic.endswith("/event")
    ]
    assert [event_name(event) for event in events][:2] == ["camera connected", "label on"]
    counts = mqtt_counts(summary, broker.port)
    assert (counts.failed, counts.dropped, counts.lost) == (0, 0, 0)


def test_the_retained_state_of_a_killed_process_is_overwritten(tiny_bundle, stream, broker, listen):
    words = ["stream", PATTERN, "--model", str(tiny_bundle), "--engine", "fake"]
    words += ["--events-only", "--mqtt", mqtt_settings(broker.port).url]
    process = subprocess.Popen([sys.executable, "-c", RUN_CLI, *words], stdout=subprocess.DEVNULL)
    try:
        listener = listen(broker.port)
        listener.wait_for("house/camera/tags", '["red", "green"]')
        process.send_signal(signal.SIGKILL)
        listener.wait_for("house/status", "offline")
    finally:
        process.kill()
        process.wait()
    never_on = dict.fromkeys(("red", "green", "blue"), ThresholdSettings(on=1.0))
    stream_thread = stream(
        CameraSettings(source=PATTERN), sinks=[mqtt_settings(broker.port)], thresholds=never_on
    )
    listener.wait_for("house/status", "online", after=len(listener.messages))
    assert listen(broker.port).wait_for("house/camera/tags")[1:] == ("[]", True)
    stream_thread.end()


def test_a_restarted_broker_receives_the_state_again(stream, broker, listen):
    stream_thread = stream(PATTERN, sinks=[mqtt_settings(broker.port)])
    stream_thread.wait_for(lambda: stream_thread.events("label on"))
    listen(broker.port).wait_for("house/c0/tags", PATTERN_TAGS)
    broker.kill()  # it kept nothing on disk
    frames = len(stream_thread.rows())
    # Frames are still tagged.
    stream_thread.wait_for(lambda: len(stream_thread.rows()) > frames + 20)
    broker.start()
    listener = listen(broker.port)
    listener.wait_for("house/status", "online", 20)
    listener.wait_for("house/c0/status", "connected")
    listener.wait_for("house/c0/tags", PATTERN_TAGS)
    assert stream_thread.end().cameras["c0"].failed == 0


def test_a_broker_that_was_away_for_too_long_receives_the_state(broker, listen, caplog):
    port = broker.port
    broker.kill()
    worker = SinkWorker(MQTTSink(mqtt_settings(port), ["c0"]))
    for number in range(MAX_UNACKNOWLEDGED + 101):  # on, off, on, ...
        while worker.counts.delivered + worker.counts.failed < number:
            time.sleep(0.001)
        worker.put(LabelEvent("c0", "cat", number % 2 == 0, 0.9, 1e9, 1e9), None)
    deadline = time.monotonic() + 10
    while worker.counts.failed < 101:
        assert time.monotonic() < deadline, worker.counts
        time.sleep(0.01)
    broker.start()
    listener = listen(port)
    listener.wait_for("house/status", "online")
    assert listen(port).wait_for("house/c0/tags")[1:] == ('["cat"]', True)
    counts = close_worker(worker, 5)
    listener.wait_for("house/status", "offline")
    assert sum(topic == "house/c0/event" for topic, _, _ in listener.messages) == MAX_UNACKNOWLEDGED
    assert (counts.delivered, counts.failed, counts.lost) == (MAX_UNACKNOWLEDGED, 101, 0)
    assert "away for too long" in caplog.text


def test_messages_that_a_slow_sink_leaves_no_time_for_are_counted_as_lost(stream):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts requests, never answers
        hook = WebhookSettings(url=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        stream_thread = stream(PATTERN, sinks=[hook, mqtt_settings(9)])
        stream_thread.wait_for(lambda: len(stream_thread.rows()) > 20)
        start = time.monotonic()
        summary = stream_thread.end()
        assert time.monotonic() - start < 1
    events = len(stream_thread.events("label on")) + len(stream_thread.events("label off")) + 2
    counts = mqtt_counts(summary, 9)
    assert (counts.delivered, counts.lost) == (0, events)


def test_a_late_last_will_is_corrected(broker, listen):
    worker = SinkWorker(MQTTSink(mqtt_settings(broker.port), []))
    listener = listen(broker.port)
    listener.wait_for("house/status", "online")
    listener.publish("house/status", "offline")  # the last will of an earlier connection
    listener.wait_for("house/status", "offline")
    listener.wait_for("house/status", "online", after=len(listener.messages) - 1)
    close_worker(worker)
    listener.wait_for("house/status", "offline", after=len(listener.messages) - 1)
    time.sleep(0.5)
    assert listen(broker.port).wait_for("house/status")[1:] == ("offline", True)


def test_the_last_will_says_offline_if_the_connection_breaks_at_the_end(broker, listen):
    forwards_answers = threading.Event()
    forwards_answers.set()
    port = start_proxy(broker.port, forwards_answers)
    worker = SinkWorker(MQTTSink(mqtt_settings(port), []))
    listen(broker.port).wait_for("house/status", "online")
    forwards_answers.clear()
    for number in range(40):  # more than are sent without an acknowledgment
        worker.put(LabelEvent("c0", f"label {number}", True, 0.9, 1e9, 1e9), None)
    assert close_worker(worker, 0.5).lost == 40
    listen(broker.port).wait_for("house/status", "offline")


def test_a_broker_that_never_answers_delays_nothing(stream):
    stream_thread = stream(PATTERN, sinks=[mqtt_settings(9)])
    stream_thread.wait_for(lambda: len(stream_thread.rows()) > 100)
    summary = stream_thread.end()
    assert "mqtt mqtt://127.0.0.1:9/house: no broker answers" in stream_thread.messages
    assert summary.cameras["c0"].tagged >= 90
    events = [row for row in stream_thread.rows() if row["type"] != "frame"]
    counts = mqtt_counts(summary, 9)
    assert (counts.delivered, counts.lost) == (0, len(events))


def test_a_refused_password_is_reported_without_it(stream, tmp_path):
    broker = Broker(tmp_path, "allow_anonymous false")
    broker.start()
    try:
        stream_thread = stream(PATTERN, sinks=[mqtt_settings(broker.port, "me:Zq7 xK9@")])
        stream_thread.wait_for(lambda: any("refuses" in text for text in stream_thread.messages))
        summary = stream_thread.end()
    finally:
        broker.kill()
    output = str(stream_thread.messages) + str(summary)
    assert "Zq7" not in output
    assert "xK9" not in output
