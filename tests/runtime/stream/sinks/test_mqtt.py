"""Against a real broker: what is retained, the last will, a broker that goes and comes back."""

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

import pytest
from streams import closed, event_name

from patchct_edge.runtime.stream.events import LabelEvent
from patchct_edge.runtime.stream.settings import (
    CameraSettings,
    MQTTSettings,
    ThresholdSettings,
    WebhookSettings,
)
from patchct_edge.runtime.stream.sinks.base import SinkWorker
from patchct_edge.runtime.stream.sinks.mqtt import QUEUE, MQTTSink

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto")
TAGS = '["red", "green", "blue"]'  # of the pattern's bars, once all have come on
PATTERN = "test://pattern?fps=50&size=64x48"
CHILD = "from patchct_edge.cli.app import main; main()"


class Broker:
    """A broker on a port of its own that can be killed and started again."""

    def __init__(self, folder, *lines):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        rules = lines or ("allow_anonymous true",)
        self._config.write_text("\n".join([f"listener {self.port} 127.0.0.1", *rules]) + "\n")
        self._child = None

    def start(self):
        self._child = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the broker does not start")

    def kill(self):
        if self._child is not None:
            self._child.kill()
            self._child.wait()


class Listener:
    """All that arrives at a broker, in order."""

    def __init__(self, port):
        from paho.mqtt import client as mqtt

        self.messages = []
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_message = lambda _, __, message: self.messages.append(
            (message.topic, message.payload.decode(), bool(message.retain))
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def wait_for(self, topic, payload=None, seconds=15, after=0):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for found in self.messages[after:]:
                if found[0] == topic and payload in (None, found[1]):
                    return found
            time.sleep(0.02)
        raise AssertionError((topic, payload, self.messages))

    def publish(self, topic, payload):
        self._client.publish(topic, payload, 1, retain=True)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


def proxied(port, answers):
    """A port on the way to a broker, whose answers get lost unless `answers` is set."""
    server = socket.create_server(("127.0.0.1", 0))

    def pump(source, target, open_way):
        with suppress(OSError):
            while data := source.recv(65536):
                if open_way.is_set():
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve():
        client, _ = server.accept()
        upstream = socket.create_connection(("127.0.0.1", port))
        always = threading.Event()
        always.set()
        for words in ((client, upstream, always), (upstream, client, answers)):
            threading.Thread(target=pump, args=words, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1]


@pytest.fixture
def broker(tmp_path):
    found = Broker(tmp_path)
    found.start()
    yield found
    found.kill()


@pytest.fixture
def listen():
    listeners = []

    def at(port):
        listeners.append(Listener(port))
        return listeners[-1]

    yield at
    for each in listeners:
        each.close()


def outlet(port, user=""):
    return MQTTSettings(url=f"mqtt://{user}127.0.0.1:{port}/house")


def test_the_present_state_is_retained_and_events_arrive(stream, broker, listen):
    early = listen(broker.port)
    running = stream(PATTERN, sinks=[outlet(broker.port)])
    running.wait_for(lambda: running.events("label on"))
    early.wait_for("house/c0/tags", TAGS)
    late = listen(broker.port)  # it sees what the broker kept
    assert late.wait_for("house/status", "online")[2]
    assert late.wait_for("house/c0/status", "connected")[2]
    assert late.wait_for("house/c0/tags", TAGS)[2]
    summary = running.end()
    early.wait_for("house/status", "offline")
    events = [json.loads(text) for topic, text, _ in early.messages if topic.endswith("/event")]
    assert [event_name(event) for event in events][:2] == ["camera connected", "label on"]
    counts = summary.sinks[f"mqtt mqtt://127.0.0.1:{broker.port}/house"]
    assert (counts.failed, counts.dropped, counts.lost) == (0, 0, 0)


def test_what_a_process_that_was_killed_left_is_not_believed(tiny_bundle, stream, broker, listen):
    words = ["stream", PATTERN, "--model", str(tiny_bundle), "--engine", "fake"]
    words += ["--events-only", "--mqtt", outlet(broker.port).url]
    child = subprocess.Popen([sys.executable, "-c", CHILD, *words], stdout=subprocess.DEVNULL)
    try:
        listener = listen(broker.port)
        listener.wait_for("house/camera/tags", '["red", "green"]')
        child.send_signal(signal.SIGKILL)
        listener.wait_for("house/status", "offline")
    finally:
        child.kill()
        child.wait()
    high = dict.fromkeys(("red", "green", "blue"), ThresholdSettings(on=1.0))
    running = stream(CameraSettings(source=PATTERN), sinks=[outlet(broker.port)], thresholds=high)
    listener.wait_for("house/status", "online", after=len(listener.messages))
    assert listen(broker.port).wait_for("house/camera/tags")[1:] == ("[]", True)
    running.end()


def test_a_broker_that_was_restarted_has_the_state_again(stream, broker, listen):
    running = stream(PATTERN, sinks=[outlet(broker.port)])
    running.wait_for(lambda: running.events("label on"))
    listen(broker.port).wait_for("house/c0/tags", TAGS)
    broker.kill()  # it kept nothing on disk
    frames = len(running.rows())
    running.wait_for(lambda: len(running.rows()) > frames + 20)  # nobody is held up
    broker.start()
    again = listen(broker.port)
    again.wait_for("house/status", "online", 20)
    again.wait_for("house/c0/status", "connected")
    again.wait_for("house/c0/tags", TAGS)
    assert running.end().cameras["c0"].failed == 0


def test_a_broker_that_was_away_for_too_long_learns_the_state(broker, listen):
    port, notes = broker.port, []
    broker.kill()
    courier = SinkWorker(MQTTSink(outlet(port), ["c0"]), notes.append)
    for number in range(QUEUE + 101):  # on, off, on, ...
        while courier.counts.delivered + courier.counts.failed < number:
            time.sleep(0.001)
        courier.put(LabelEvent("c0", "cat", number % 2 == 0, 0.9, 1e9, 1e9), None)
    until = time.monotonic() + 10
    while courier.counts.failed < 101:
        assert time.monotonic() < until, courier.counts
        time.sleep(0.01)
    broker.start()
    listener = listen(port)
    listener.wait_for("house/status", "online")
    late = listen(port)
    assert late.wait_for("house/c0/tags")[1:] == ('["cat"]', True)
    counts = closed(courier, 5)
    listener.wait_for("house/status", "offline")
    assert sum(topic == "house/c0/event" for topic, _, _ in listener.messages) == QUEUE
    assert (counts.delivered, counts.failed, counts.lost) == (QUEUE, 101, 0)
    assert any("away for too long" in note for note in notes)


def test_what_a_slow_neighbour_leaves_no_time_for_is_lost_and_counted(stream):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes requests, never answers
        hook = WebhookSettings(url=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        running = stream(PATTERN, sinks=[hook, outlet(9)])
        running.wait_for(lambda: len(running.rows()) > 20)
        began = time.monotonic()
        summary = running.end()
        assert time.monotonic() - began < 1
    events = len(running.events("label on")) + len(running.events("label off")) + 2
    counts = summary.sinks["mqtt mqtt://127.0.0.1:9/house"]
    assert (counts.delivered, counts.lost) == (0, events)


def test_a_last_will_that_comes_late_is_denied(broker, listen):
    courier = SinkWorker(MQTTSink(outlet(broker.port), []), print)
    listener = listen(broker.port)
    listener.wait_for("house/status", "online")
    listener.publish("house/status", "offline")  # as of a connection that was given up long ago
    listener.wait_for("house/status", "offline")
    listener.wait_for("house/status", "online", after=len(listener.messages) - 1)
    closed(courier)
    listener.wait_for("house/status", "offline", after=len(listener.messages) - 1)
    time.sleep(0.5)
    assert listen(broker.port).wait_for("house/status")[1:] == ("offline", True)


def test_the_last_will_says_offline_where_the_farewell_does_not_come_through(broker, listen):
    answers = threading.Event()
    answers.set()
    port = proxied(broker.port, answers)
    courier = SinkWorker(MQTTSink(outlet(port), []), print)
    listen(broker.port).wait_for("house/status", "online")
    answers.clear()
    for number in range(40):  # more than are sent without an acknowledgement
        courier.put(LabelEvent("c0", f"label {number}", True, 0.9, 1e9, 1e9), None)
    assert closed(courier, 0.5).lost == 40
    listen(broker.port).wait_for("house/status", "offline")


def test_a_broker_that_is_never_there_holds_nothing_up(stream):
    running = stream(PATTERN, sinks=[outlet(9)])
    running.wait_for(lambda: len(running.rows()) > 100)
    summary = running.end()
    assert "mqtt mqtt://127.0.0.1:9/house: no broker answers" in running.notes
    assert summary.cameras["c0"].tagged >= 90
    events = [row for row in running.rows() if row["type"] != "frame"]
    counts = summary.sinks["mqtt mqtt://127.0.0.1:9/house"]
    assert (counts.delivered, counts.lost) == (0, len(events))


def test_a_refused_password_is_told_without_it(stream, tmp_path):
    broker = Broker(tmp_path, "allow_anonymous false")
    broker.start()
    try:
        running = stream(PATTERN, sinks=[outlet(broker.port, "me:Zq7 xK9@")])
        running.wait_for(lambda: any("refuses" in note for note in running.notes))
        summary = running.end()
    finally:
        broker.kill()
    said = str(running.notes) + str(summary)
    assert "Zq7" not in said
    assert "xK9" not in said
